"""The decision log: one JSON object a line for each request, written by a thread so that a slow disk or reader holds up no request.

Owns the queue, the file and the count of what was lost. It must not know what a line says; whoever writes one puts no prompt, answer
or credential into it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import orjson

from foresail_sidecar.telemetry.logs import log

STDOUT: Final = Path("-")

_QUEUE_LINES = 10_000
# Between two looks at the queue: waking a thread for each line would cost more than the line.
_BATCH_SECONDS = 0.05
# A writer that has the interpreter for all of a batch would hold up requests; writing lets go of it.
_LINES_AT_ONCE = 64
_END_SECONDS = 5.0

_LOGGER = logging.getLogger(__name__)


class DecisionLog:
    """Writes lines to a file, or to stdout. `lost` counts those that could not be written; it only rises.

    Several processes may write to one `path`. On stdout their lines stay whole if all have the same `lock` file.
    """

    def __init__(self, path: Path, *, lock: Path | None = None) -> None:
        """Open the file; raise `OSError` if it cannot be written to."""
        self.lost = 0
        self._path = None if path == STDOUT else path
        self._lock = None if lock is None else os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._file = self._opened()
        self._waiting: deque[Mapping[str, object]] = deque()
        self._some = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)
        self._thread.start()

    def write(self, line: Mapping[str, object]) -> None:
        """Have a line written soon. Never waits: with too many lines waiting, it is lost and counted."""
        if len(self._waiting) >= _QUEUE_LINES or self._ending:
            self.lost += 1
            return
        self._waiting.append(line)
        if not self._some.is_set():
            self._some.set()

    def close(self) -> None:
        """Write what waits, as long as that takes no more than some seconds."""
        self._ending = True
        self._some.set()
        self._thread.join(_END_SECONDS)
        if self._thread.is_alive():
            # It hangs in a write, and ends with the process; nothing of it may be closed under its hands.
            self._say_lost(len(self._waiting))
            return
        for opened in (self._file, self._lock):
            if opened is not None:
                os.close(opened)

    def _run(self) -> None:
        while not self._ending:
            self._some.wait()
            if not self._ending:
                time.sleep(_BATCH_SECONDS)
            self._some.clear()
            while self._waiting:
                self._write_some()

    def _write_some(self) -> None:
        count = min(len(self._waiting), _LINES_AT_ONCE)
        lines = [self._waiting.popleft() for _ in range(count)]
        try:
            self._follow_renaming()
            written = b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)
            with self._alone():
                while written:
                    written = written[os.write(self._file, written) :]
        except (OSError, orjson.JSONEncodeError) as error:
            self._say_lost(count, reason=type(error).__name__)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self._lock is None:
            yield
            return
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _opened(self) -> int:
        if self._path is None:
            return os.dup(sys.__stdout__.fileno() if sys.__stdout__ is not None else 1)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _follow_renaming(self) -> None:
        """Go on in a new file where the old one was renamed or removed, as those who rotate logs do."""
        if self._path is None:
            return
        old = os.fstat(self._file)
        with contextlib.suppress(FileNotFoundError):
            now = self._path.stat()
            if (now.st_dev, now.st_ino) == (old.st_dev, old.st_ino):
                return
        os.close(self._file)
        self._file = self._opened()

    def _say_lost(self, count: int, **fields: object) -> None:
        self.lost += count
        if count:
            log(_LOGGER, logging.ERROR, "lines of the decision log lost", lines=count, **fields)

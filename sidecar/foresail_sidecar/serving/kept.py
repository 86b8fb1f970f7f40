"""A child process that is started again when it ends, until it is told to end for good.

Owns the pauses between starts and the way to the end. It must not know what the process does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from foresail_sidecar.telemetry.logs import log

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 10.0
# Whoever lived that long did not fail at its start.
_LIVED_SECONDS = 30.0

_LOGGER = logging.getLogger(__name__)

Start = Callable[[], Awaitable[asyncio.subprocess.Process]]


class Kept:
    """See the module. `run` it once; `status` is that of the last process that ended, None before and where it could not be started.

    `ended` is called after each end, and says whether to start again.
    """

    def __init__(self, name: str, start: Start, ended: Callable[[], bool] = lambda: True) -> None:
        self.name = name
        self.status: int | None = None
        self._start = start
        self._ended = ended
        self._ending = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        """Keep the process until `end`, or until its end is not to be followed by a start; return when it is gone."""
        pause = _FIRST_PAUSE_SECONDS
        while not self._ending.is_set():
            began, reason = time.monotonic(), None
            try:
                self._process = await self._start()
                if self._ending.is_set():
                    self._signal("terminate")
                self.status = await self._process.wait()
            except OSError as error:
                # It could not even be started. A machine without memory or descriptors left may have some soon.
                self.status, reason = None, error.strerror
            if not self._ended() or self._ending.is_set():
                return
            lived = time.monotonic() - began
            pause = _FIRST_PAUSE_SECONDS if lived > _LIVED_SECONDS else pause
            log(
                _LOGGER,
                logging.ERROR,
                "process ended and is started again",
                process=self.name,
                status=self.status,
                reason=reason,
                lived_seconds=round(lived, 1),
                pause_seconds=pause,
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ending.wait()
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def end(self) -> None:
        """Ask the process to end, and start none again."""
        self._ending.set()
        self._signal("terminate")

    def kill(self) -> None:
        """End the process now, and start none again."""
        self._ending.set()
        self._signal("kill")

    def _signal(self, how: str) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                getattr(self._process, how)()

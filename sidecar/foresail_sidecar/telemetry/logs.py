"""Structured logs: one JSON object a line on stderr, written by a thread so that a slow reader never holds up a request.

Owns the format and the queue. Fields are chosen by whoever logs: never a prompt, an answer or a credential. It must not know requests.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import sys
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from pathlib import Path
from typing import TextIO

_QUEUE_LINES = 10_000
_END_SECONDS = 5.0
_FRAMES = 8
_FIELDS = "foresail_fields"


def log(logger: logging.Logger, level: int, event: str, **fields: object) -> None:
    """Log one event with its fields; those that are None are left out."""
    if logger.isEnabledFor(level):
        present = {name: value for name, value in fields.items() if value is not None}
        logger.log(level, event, extra={_FIELDS: present})


def log_defect(logger: logging.Logger, event: str, error: BaseException, **fields: object) -> None:
    """Log an error that nobody foresaw: its kind and where it was raised, not its message, which could quote a request."""
    log(logger, logging.ERROR, event, **fields, exception=type(error).__name__, raised_at=_raised_at(error))


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, event, the event's fields.

    Of an exception only its type and where it was raised are written.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update(getattr(record, _FIELDS, {}))
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = type(record.exc_info[1]).__name__
            line["raised_at"] = _raised_at(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


@contextlib.contextmanager
def logging_to_stderr(level: int = logging.INFO, stream: TextIO | None = None) -> Iterator[None]:
    """Send every logger's lines of at least `level` to stderr while the block runs; what was queued is written at its end."""
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(_QUEUE_LINES)
    written = logging.StreamHandler(stream or sys.stderr)
    written.setFormatter(JsonLines())
    listener = QueueListener(waiting, written)
    handler = _DroppingQueueHandler(waiting)
    root = logging.getLogger()
    level_before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    listener.start()
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level_before)
        # `stop` needs a place in the queue for its mark.
        ending = time.monotonic() + _END_SECONDS
        while waiting.full() and time.monotonic() < ending:
            time.sleep(0.01)
        listener.stop()


class _DroppingQueueHandler(QueueHandler):
    """Queues records as they are; when the queue is full, a line is lost instead of a request held up."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(queue.Full):
            self.queue.put_nowait(record)


def _raised_at(error: BaseException) -> list[str]:
    # Without the source lines, which would be read from files.
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    return [f"{Path(code.co_filename).name}:{line} {code.co_name}" for code, line in frames[-_FRAMES:]]

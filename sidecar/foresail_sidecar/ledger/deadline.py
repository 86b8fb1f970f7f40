"""A deadline for answers of others that a busy event loop does not take for their lateness.

Owns when waiting ends. It must not know what is waited for.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

# One to look at sockets and other threads, the rest until what was found there has passed through the tasks between.
_TURNS: Final = 8


class Deadline:
    """`asyncio.timeout`, except that an answer which came in time counts although the loop had no time to look.

    A burst of requests holds up the loop for longer than a deadline. uvloop then runs timers before it reads sockets: answers
    that have long been there would all be late.

    Raises:
        TimeoutError: there was no answer after `seconds` and a few further turns of the loop.
    """

    __slots__ = ("_cancelled", "_cancelled_before", "_loop", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._cancelled = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline is for a task")
        self._task = task
        self._cancelled_before = task.cancelling()
        self._loop = task.get_loop()
        self._timer: asyncio.Handle = self._loop.call_later(self._seconds, self._due, _TURNS)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        # Whoever else cancelled the task goes before.
        if self._cancelled and self._task.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _due(self, turns: int) -> None:
        if turns:
            self._timer = self._loop.call_soon(self._due, turns - 1)
        else:
            self._cancelled = True
            self._task.cancel()

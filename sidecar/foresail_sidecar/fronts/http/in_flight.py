"""The requests under way: how many there may be, and how they are ended when the process must go.

Owns the count and the interruption. It must not know what a request does.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class TooManyRequests(Exception):
    """As many requests are under way as there may be."""


class Interrupted(Exception):
    """The request was ended because the process must go."""


class Entered:
    """One request while it is under way. A block that is interrupted ends with `Interrupted`; inside of it that is a cancellation.

    It does what a time-out scope would, without the timer that no request needs.
    """

    __slots__ = ("_all", "_changed", "_task", "interrupted")

    def __init__(self, task: asyncio.Task[object], every: set[Entered], changed: asyncio.Event) -> None:
        self.interrupted = False
        self._task: asyncio.Task[object] | None = task
        self._all = every
        self._changed = changed

    def __enter__(self) -> Self:
        self._all.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._all.discard(self)
        self._changed.set()
        # A task that is cancelled keeps the error, whose traceback knows the frames that know this: all of the request would stay.
        task, self._task = self._task, None
        # Where somebody else cancelled as well, theirs goes on.
        if self.interrupted and task is not None and not task.uncancel() and isinstance(error, asyncio.CancelledError):
            raise Interrupted from error

    def interrupt(self) -> None:
        """End the block at what it waits for."""
        if not self.interrupted and self._task is not None:
            self.interrupted = True
            self._task.cancel()


class InFlight:
    """Counts requests under way and can interrupt them. Belongs to one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._all: set[Entered] = set()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._all)

    def entered(self, task: asyncio.Task[object]) -> Entered:
        """Return the context that counts the request that `task` answers; raise `TooManyRequests` where there are as many as there may be."""
        if len(self._all) >= self._most:
            raise TooManyRequests
        return Entered(task, self._all, self._changed)

    async def finished(self, seconds: float) -> bool:
        """Wait until no request is under way; return False after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while self._all:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def interrupt(self) -> None:
        """Interrupt every request under way."""
        for entered in self._all:
            entered.interrupt()

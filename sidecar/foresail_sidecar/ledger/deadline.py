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

    __slots__ = ("_loop", "_scope", "_seconds", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def __aenter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._scope = asyncio.timeout(None)
        await self._scope.__aenter__()
        self._timer: asyncio.Handle = self._loop.call_later(self._seconds, self._due, _TURNS)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._scope.__aexit__(kind, error, trace)

    def _due(self, turns: int) -> None:
        if turns:
            self._timer = self._loop.call_soon(self._due, turns - 1)
        else:
            self._scope.reschedule(self._loop.time())

"""The requests under way: how many there may be, and how they are ended when the process must go.

Owns the count and the interruption. It must not know what a request does.
"""

from __future__ import annotations

import asyncio
import contextlib


class TooManyRequests(Exception):
    """As many requests are under way as there may be."""


class Entered:
    """Counts one request while it is entered: gives the scope to run it in, which expires only if the request is interrupted."""

    __slots__ = ("_changed", "_scope", "_scopes")

    def __init__(self, scopes: set[asyncio.Timeout], changed: asyncio.Event) -> None:
        self._scopes = scopes
        self._changed = changed
        self._scope = asyncio.timeout(None)

    def __enter__(self) -> asyncio.Timeout:
        self._scopes.add(self._scope)
        return self._scope

    def __exit__(self, *_: object) -> None:
        self._scopes.discard(self._scope)
        self._changed.set()


class InFlight:
    """Counts requests under way and can interrupt them. Belongs to one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._scopes: set[asyncio.Timeout] = set()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._scopes)

    def entered(self) -> Entered:
        """Return the context that counts one request; raise `TooManyRequests` where there are as many as there may be."""
        if len(self._scopes) >= self._most:
            raise TooManyRequests
        return Entered(self._scopes, self._changed)

    async def finished(self, seconds: float) -> bool:
        """Wait until no request is under way; return False after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while self._scopes:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def interrupt(self) -> None:
        """Make the scope of every request under way expire now."""
        now = asyncio.get_running_loop().time()
        for scope in self._scopes:
            # One that was not entered yet or is being left has no wait that could be interrupted.
            with contextlib.suppress(RuntimeError):
                scope.reschedule(now)

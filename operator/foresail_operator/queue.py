"""A work queue of keys: each key is handled by one worker at a time, waits once however often it is added, and backs off when it fails.

Owns when something is handled. It must not know what a key stands for.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)


class TryAgain(Exception):
    """Raised by a handler that could not finish for a reason that it has reported itself."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a failing key waits: doubling from the first delay to the longest, each time at random within the upper half.

    A key that is added while it waits comes after `hurried_seconds` at most, not at once: a handler whose own writes
    add the key again must not turn in circles when it fails.
    """

    first_seconds: float = 0.1
    longest_seconds: float = 60.0
    hurried_seconds: float = 1.0

    def delay(self, failures: int) -> float:
        """Return the seconds before the next attempt after so many failures in a row."""
        full = min(self.longest_seconds, self.first_seconds * 2.0 ** min(failures - 1, 32))
        return full * random.uniform(0.5, 1.0)  # noqa: S311  spreads load, guards nothing


class WorkQueue(Generic[K]):
    """Holds keys until a worker is free. At most one entry per key, so it is never longer than there are objects."""

    def __init__(self, handle: Callable[[K], Awaitable[None]], *, backoff: Backoff | None = None) -> None:
        self._handle = handle
        self._backoff = backoff or Backoff()
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._waiting: set[K] = set()
        self._running: set[K] = set()
        self._again: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        """Return how many keys wait for a worker now; those that back off are not counted."""
        return len(self._waiting) + len(self._again)

    def add(self, key: K) -> None:
        """Have the key handled soon: at once if a worker is free, after the present run if it is being handled."""
        if key in self._running:
            self._again.add(key)
        elif key in self._timers:
            self._wait(key, self._backoff.hurried_seconds)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    async def run(self, workers: int) -> None:
        """Handle keys with so many workers until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._running.add(key)
            try:
                failed = await self._attempt(key)
            finally:
                self._running.discard(key)
            if failed:
                failures = self._failures[key] = self._failures.get(key, 0) + 1
                self._wait(key, self._backoff.delay(failures))
            else:
                self._failures.pop(key, None)
            if key in self._again:
                self._again.discard(key)
                self.add(key)

    async def _attempt(self, key: K) -> bool:
        try:
            await self._handle(key)
        except TryAgain as reason:
            logger.info("%s will be tried again: %s", key, reason)
            return True
        except Exception as error:
            # One object must not stop the others; what went wrong is in the log, and the key comes back.
            logger.warning("%s could not be handled: %s: %s", key, type(error).__name__, error, exc_info=True)
            return True
        return False

    def _wait(self, key: K, seconds: float) -> None:
        """Have the key come back after so long, or sooner if it was to come back sooner."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= loop.time() + seconds:
            return
        if timer is not None:
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._wake, key)

    def _wake(self, key: K) -> None:
        del self._timers[key]
        self.add(key)

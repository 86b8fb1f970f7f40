"""How settlements reach the ledger: from a bounded queue in batches, through the journal where it does not answer.

Owns the queue, the task that empties it and the replay of the journal. It must not know requests or what is settled.
Nobody waits for a settlement: what is not delivered is on disk, and what finds no room there is counted as lost; its
lease then makes it spend at the full amount.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from foresail_sidecar.ledger.interface import LedgerError, Settled
from foresail_sidecar.ledger.journal import Journal

_MOST_QUEUED: Final = 10_000
_MOST_IN_A_CALL: Final = 64
_COMPANY_SECONDS: Final = 0.005
_FIRST_PAUSE_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 2.0


class DeliveryMetrics(Protocol):
    """What is counted of deliveries."""

    def journaled(self, count: int) -> None:
        """So many settlements went to the journal."""
        ...

    def lost(self, count: int) -> None:
        """So many settlements found no room anywhere."""
        ...


class Deliveries:
    """The settlements of one process on their way. `deliver` raises `LedgerError` when they did not arrive."""

    def __init__(
        self, deliver: Callable[[Sequence[Settled]], Awaitable[None]], journal: Journal, metrics: DeliveryMetrics
    ) -> None:
        self._deliver = deliver
        self._journal = journal
        self._metrics = metrics
        self._queue: deque[Settled] = deque()
        self._leaving: list[Settled] = []
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._pause = 0.0
        self._retry_at = 0.0

    @property
    def journaled(self) -> int:
        """How many wait in the journal."""
        return len(self._journal)

    def undelivered(self) -> list[Settled]:
        """Return what the ledger has not acknowledged."""
        return [*self._journal.waiting(len(self._journal)), *self._leaving, *self._queue]

    def start(self) -> None:
        """Begin to deliver, first what an earlier process left in the journal."""
        self._task = asyncio.create_task(self._run(), name="foresail-ledger-deliveries")

    def put(self, settled: Settled) -> None:
        """Deliver this soon."""
        if len(self._queue) >= _MOST_QUEUED:
            self._metrics.lost(1)
            return
        self._queue.append(settled)
        self._wanted.set()

    async def aclose(self, seconds: float) -> None:
        """Deliver what is queued within so many seconds; the rest goes to the journal."""
        self._closing = True
        self._wanted.set()
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._task, seconds)
        rest = [*self._leaving, *self._queue]
        self._leaving, self._queue = [], deque()
        await self._write_down(rest)

    async def _run(self) -> None:
        while not self._closing or self._queue:
            await self._wait()
            # Settlements that end together share a call.
            if 0 < len(self._queue) < _MOST_IN_A_CALL and not self._closing:
                await asyncio.sleep(_COMPANY_SECONDS)
            await self._replay()
            await self._send()

    async def _wait(self) -> None:
        timeout = max(0.0, self._retry_at - time.monotonic()) if len(self._journal) else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._wanted.wait()

    async def _send(self) -> None:
        while self._queue:
            self._leaving = [self._queue.popleft() for _ in range(min(_MOST_IN_A_CALL, len(self._queue)))]
            if not await self._delivered(self._leaving):
                await self._write_down(self._leaving)
            self._leaving = []
        if not self._closing:
            self._wanted.clear()

    async def _replay(self) -> None:
        # A disk that fails leaves delivered ones in the file: they are replayed once more, which changes nothing.
        with contextlib.suppress(OSError):
            if len(self._journal):
                self._metrics.lost(await asyncio.to_thread(self._journal.drop_old))
            while len(self._journal):
                batch = self._journal.waiting(_MOST_IN_A_CALL)
                if not await self._delivered(batch):
                    return
                await asyncio.to_thread(self._journal.delivered, len(batch))

    async def _delivered(self, batch: Sequence[Settled]) -> bool:
        if time.monotonic() < self._retry_at and not self._closing:
            return False
        try:
            await self._deliver(batch)
        except LedgerError:
            self._pause = min(_LONGEST_PAUSE_SECONDS, 2 * self._pause or _FIRST_PAUSE_SECONDS)
            self._retry_at = time.monotonic() + self._pause
            return False
        self._pause = self._retry_at = 0.0
        return True

    async def _write_down(self, batch: Sequence[Settled]) -> None:
        if not batch:
            return
        try:
            left_out = await asyncio.to_thread(self._journal.add, batch)
        except OSError:
            left_out = len(batch)
        self._metrics.journaled(len(batch) - left_out)
        self._metrics.lost(left_out)

"""Replicas that share a ledger, as a serving process uses one: they remember what they saw, hold reservations, and
restore a ledger that lost data.

Owns that behaviour in its shortest form. It must not know a backend's inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import TypeVar

from foresail_sidecar.ledger.interface import (
    CalendarSpan,
    Claim,
    DataLost,
    Denied,
    Granted,
    Ledger,
    LedgerClosed,
    LedgerUnavailable,
    Measure,
    Option,
    Receipt,
    ReserveRequest,
    Settled,
)
from foresail_sidecar.ledger.restoration import Seen

DAY_MS = 86_400_000
PATIENCE_SECONDS = 15.0

T = TypeVar("T")
_numbers = count()


def today(account: str = "b|day|", limit: int = 10_000, **more: object) -> Claim:
    """A budget of the present day."""
    start = time.time_ns() // 1_000_000 // DAY_MS * DAY_MS
    span = CalendarSpan(((start, start + DAY_MS), (start + DAY_MS, start + 2 * DAY_MS)))
    return Claim(account, span, Measure.MONEY, limit, **more)  # type: ignore[arg-type]


class Replica:
    """One user of a shared ledger."""

    def __init__(self, ledger: Ledger, lease_ms: int = 60_000) -> None:
        self.ledger = ledger
        self.lease_ms = lease_ms
        self.seen = Seen()
        self.live: dict[str, Receipt] = {}
        self.losses = 0

    async def reserve(self, amount: int, *claims: Claim, least: int | None = None) -> Granted | Denied:
        """Ask for an amount of the claims (of today's budget without any), once."""
        option = Option(amount, amount if least is None else least)
        request = ReserveRequest(f"attempt-{next(_numbers)}", claims or (today(),), (option,), self.lease_ms)
        answer = await self.ledger.reserve(request)
        self.seen.take(answer.usages)
        if isinstance(answer, Granted):
            self.live[request.attempt_id] = answer.receipt
        return answer

    async def granted(self, amount: int, *claims: Claim) -> Receipt:
        """Reserve what is surely there."""
        answer = await self.reserve(amount, *claims)
        assert isinstance(answer, Granted), answer
        return answer.receipt

    async def settle(self, receipt: Receipt, *amounts: int, revision: int = 1) -> None:
        """Settle one attempt."""
        self.seen.take(await self.ledger.settle([Settled(receipt.attempt_id, revision, "Reported", receipt, amounts)]))
        self.live.pop(receipt.attempt_id, None)

    async def used(self, *claims: Claim) -> list[tuple[int, int]]:
        """Spent and reserved of each claim's account."""
        usages = await self.ledger.usage(claims or (today(),))
        self.seen.take(usages)
        return [(usage.spent, usage.reserved) for usage in usages]

    async def beat(self) -> None:
        """Renew what is held, as a heartbeat does; restore the ledger if it lost data."""
        try:
            await self.ledger.renew(list(self.live), self.lease_ms)
        except DataLost:
            self.losses += 1
            live = [(receipt, self.lease_ms) for receipt in self.live.values()]
            await self.ledger.restore(self.seen.for_restore(), live)


async def eventually(operation: Callable[[], Awaitable[T]], *more: type[Exception]) -> T:
    """Repeat an operation while the ledger is away or closed; a bounded time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await operation()
        except (LedgerUnavailable, LedgerClosed, *more):
            assert time.monotonic() < deadline, "the ledger did not come back"
            await asyncio.sleep(0.02)


async def opened(replicas: Sequence[Replica]) -> None:
    """Let heartbeats go on until the ledger is open for all."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        for replica in replicas:
            await eventually(replica.beat)
        with contextlib.suppress(DataLost, LedgerUnavailable):
            if all([(await replica.ledger.status()).opens_ms is None for replica in replicas]):
                return
        assert time.monotonic() < deadline, "the ledger did not open"
        await asyncio.sleep(0.02)

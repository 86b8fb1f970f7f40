"""What the flow sees of a ledger: deadlines, leases that live as long as their attempts, settlements that arrive.

Owns the heartbeat of one ledger's reservations, the estimate of its clock, and its restoration after a loss. It must not know budgets, requests or which backend it speaks to.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from foresail_sidecar.ledger.calls import RESTORE, Availability, Calls, LedgerMetrics
from foresail_sidecar.ledger.deliveries import Deliveries
from foresail_sidecar.ledger.interface import (
    MOST,
    Claim,
    Denied,
    Entry,
    Granted,
    Ledger,
    LedgerError,
    LedgerUnavailable,
    Option,
    Receipt,
    ReserveRequest,
    RollingSpan,
    Settled,
    Usage,
    WindowsOutdated,
)
from foresail_sidecar.ledger.journal import Journal
from foresail_sidecar.ledger.restoration import Seen
from foresail_sidecar.ledger.windows import slot_of
from foresail_sidecar.telemetry.logs import log, log_defect

_LOGGER = logging.getLogger(__name__)

_MOST_IN_A_CALL: Final = 500
_MOST_REVISIONS: Final = 1_000
_MOST_ABANDONED: Final = 10_000
_MOST_NOTES: Final = 64
_CLOSING_SECONDS: Final = 5.0
_COMPANY_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a reservation outlives its process, and how often it is renewed; the heartbeat ends leases of others."""

    lease_ms: int = 15_000
    renew_seconds: float = 5.0
    heartbeat_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class LedgerState:
    """The ledger as this process sees it: `faults` say why it is not durable; `live` reservations, `journaled`
    settlements.
    """

    availability: Availability
    faults: tuple[str, ...]
    live: int
    journaled: int


class LedgerClient:
    """One process's way to one ledger. To be used as a context manager, in one event loop; it closes the ledger.

    The journal must be open; it is closed with the client. `quiet`: nobody needs this ledger, so what is wrong with it is not logged.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        deadline_seconds: float,
        journal: Journal,
        metrics: LedgerMetrics,
        pace: Pace = Pace(),
        quiet: bool = False,
    ) -> None:
        self._ledger = ledger
        self._pace = pace
        self._journal = journal
        self._metrics = metrics
        self._quiet = quiet
        self._calls = Calls(deadline_seconds, metrics, self._restore, quiet=quiet)
        self._deliveries = Deliveries(self._settle, journal, metrics)
        self._seen = Seen()
        self._live: dict[str, Receipt] = {}
        self._revisions: OrderedDict[str, int] = OrderedDict()
        self._abandoned: dict[str, None] = {}
        self._notes: dict[str, str] = {}
        self._watched: Callable[[int], Sequence[Claim]] | None = None
        self._restoring = asyncio.Lock()
        self._generation = 0
        self._restored = 0
        self._restored_in_vain = 0
        self._offset_ms = time.time_ns() // 1_000_000 - _monotonic_ms()
        self._faults: tuple[str, ...] = ()
        self._hurry = asyncio.Event()
        self._heart: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._deliveries.start()
        self._heart = asyncio.create_task(self._beat_on(), name="foresail-ledger-heartbeat")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose(_CLOSING_SECONDS)

    @property
    def state(self) -> LedgerState:
        """What is known of the ledger now."""
        return LedgerState(self._calls.availability, self._faults, len(self._live), self._deliveries.journaled)

    def now_ms(self) -> int:
        """Return an estimate of the ledger's clock."""
        return _monotonic_ms() + self._offset_ms

    def seen(self, account: str) -> Usage | None:
        """Return what was last seen of the account's present window, or None if it was never seen."""
        return self._seen.latest(account)

    def watch(self, claims: Callable[[int], Sequence[Claim]] | None) -> None:
        """See these accounts with every heartbeat; `claims` gets the ledger's time in ms."""
        self._watched = claims

    async def reserve(
        self, attempt_id: str, budgets: Callable[[int], tuple[Claim, ...]], options: tuple[Option, ...]
    ) -> Granted | Denied:
        """Reserve for one attempt; `budgets` gets the ledger's time in ms. The lease is renewed until it is settled.

        Raises:
            LedgerUnavailable: there was no answer within the deadline; the attempt is abandoned.
            LedgerClosed: the ledger is being restored.
        """
        self._calls.require_circuit()
        try:
            answer = await self._reserve(attempt_id, budgets, options)
        except (LedgerUnavailable, asyncio.CancelledError):
            self._abandon(attempt_id)
            raise
        self._calls.availability = Availability.AVAILABLE
        self._see(answer.usages, answer.now_ms)
        if isinstance(answer, Granted):
            self._live[attempt_id] = answer.receipt
        return answer

    def unreserved(self, attempt_id: str, claims: Sequence[Claim]) -> Receipt:
        """Return the receipt of an attempt that goes on without a reservation: settling it records its spend.

        Its id is not the attempt's: a reservation that came too late to be of use is given back under that one.
        """
        now = self.now_ms()
        entries = []
        for claim in claims:
            found = slot_of(claim.span, now)
            if found is not None:
                rolling = isinstance(claim.span, RollingSpan)
                entries.append(Entry(claim.account, found[0], claim.measure, 0, rolling))
        return Receipt(f"{attempt_id}-unreserved", self._generation, tuple(entries))

    def settle(self, receipt: Receipt, amounts: tuple[int, ...], basis: str) -> None:
        """Settle an attempt soon, without waiting; a further call corrects it. `amounts` align with the entries."""
        attempt_id = receipt.attempt_id
        self._live.pop(attempt_id, None)
        revision = self._revisions[attempt_id] = self._revisions.get(attempt_id, 0) + 1
        if len(self._revisions) > _MOST_REVISIONS:
            self._revisions.popitem(last=False)
        bounded = tuple([min(MOST, max(0, amount)) for amount in amounts])
        self._deliveries.put(Settled(attempt_id, revision, basis, receipt, bounded))

    async def usage(self, claims: Sequence[Claim]) -> tuple[Usage, ...]:
        """Return what the accounts have used now.

        Raises:
            LedgerError: there was no answer within the deadline, or the claims' windows are outdated.
        """
        usages = await self._calls.call("Usage", self._ledger.usage, claims)
        self._seen.take(usages)
        return usages

    async def read_note(self, name: str) -> str | None:
        """Return a note; also one that is still to be written.

        Raises:
            LedgerError: there was no answer within the deadline.
        """
        if name in self._notes:
            return self._notes[name]
        return await self._calls.call("Note", self._ledger.read_note, name)

    def write_note(self, name: str, text: str) -> None:
        """Write a note with the next heartbeat; the last text of a name counts."""
        if name in self._notes or len(self._notes) < _MOST_NOTES:
            self._notes[name] = text

    async def aclose(self, seconds: float) -> None:
        """Deliver what is to be settled within so many seconds, journal the rest, give back what is abandoned, and close the ledger."""
        if self._heart is not None:
            self._heart.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._heart
        await self._deliveries.aclose(seconds)
        with contextlib.suppress(LedgerError, TimeoutError):
            # What nobody gives back any more would become spend with its lease.
            async with asyncio.timeout(seconds):
                await self._give_back()
        with contextlib.suppress(LedgerError):
            await self._write_notes()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ledger.close()
        await asyncio.to_thread(self._journal.close)

    async def _reserve(
        self, attempt_id: str, budgets: Callable[[int], tuple[Claim, ...]], options: tuple[Option, ...]
    ) -> Granted | Denied:
        for _ in range(2):
            request = ReserveRequest(attempt_id, budgets(self.now_ms()), options, self._pace.lease_ms)
            try:
                return await self._calls.made("Reserve", self._ledger.reserve, request)
            except WindowsOutdated as outdated:
                self._offset_ms = outdated.now_ms - _monotonic_ms()
        raise LedgerUnavailable("the ledger's clock is in none of the windows that were computed for it")

    async def _settle(self, settlements: Sequence[Settled]) -> None:
        self._seen.take(await self._calls.call("Settle", self._ledger.settle, settlements))

    def _see(self, usages: Sequence[Usage], now_ms: int) -> None:
        self._seen.take(usages)
        self._offset_ms = now_ms - _monotonic_ms()

    def _abandon(self, attempt_id: str) -> None:
        if len(self._abandoned) < _MOST_ABANDONED:
            self._abandoned[attempt_id] = None
            self._hurry.set()

    async def _restore(self, generation: int) -> None:
        """Tell the ledger what this process saw and holds, once for each generation."""
        in_vain = self._restored_in_vain
        async with self._restoring:
            if self._restored >= generation:
                return
            if self._restored_in_vain != in_vain:
                # Who waits behind many others would else wait for a deadline of each of them.
                raise LedgerUnavailable("the ledger did not take what was seen of it")
            unsettled = [settled.receipt for settled in self._deliveries.undelivered() if settled.revision == 1]
            live = [(receipt, self._pace.lease_ms) for receipt in (*self._live.values(), *unsettled) if receipt.entries]
            try:
                await self._calls.made(RESTORE, self._ledger.restore, self._seen.for_restore(), live)
            except LedgerError:
                self._restored_in_vain += 1
                raise
            self._restored = self._generation = generation

    async def _beat_on(self) -> None:
        # The first beat does not wait: until it has ended nobody knows whether the ledger is open.
        due = renewed_at = time.monotonic()
        while True:
            await self._give_back_until(due)
            due = time.monotonic() + self._pace.heartbeat_seconds
            renews = time.monotonic() - renewed_at >= self._pace.renew_seconds
            try:
                await self._beat(renews=renews)
                if renews:
                    renewed_at = time.monotonic()
            except LedgerError:
                # What failed is tried again with the next beat.
                continue
            except Exception as error:
                # Without another beat every lease would end, and what living requests hold be spent.
                log_defect(_LOGGER, "a beat of the ledger failed", error)

    async def _give_back_until(self, due: float) -> None:
        """Give back what is abandoned until the next beat, without the rest of a beat: many fail together when the ledger is late."""
        while time.monotonic() < due:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due - time.monotonic()):
                    await self._hurry.wait()
                    await asyncio.sleep(_COMPANY_SECONDS)
            if self._hurry.is_set():
                self._hurry.clear()
                with contextlib.suppress(LedgerError):
                    await self._give_back()

    async def _give_back(self) -> None:
        while self._abandoned:
            some = list(itertools.islice(self._abandoned, _MOST_IN_A_CALL))
            await self._calls.call("Abandon", self._ledger.abandon, some)
            for attempt_id in some:
                self._abandoned.pop(attempt_id, None)

    async def _beat(self, *, renews: bool) -> None:
        # First of all: a lease that ends makes spend of what a living request holds.
        await self._renew(list(self._live) if renews else [])
        await self._give_back()
        status = await self._calls.call("Status", self._ledger.status)
        self._take_faults(status.faults)
        self._generation = max(self._generation, status.generation)
        self._metrics.durable(not status.faults)
        self._offset_ms = status.now_ms - _monotonic_ms()
        self._calls.availability = Availability.AVAILABLE if status.opens_ms is None else Availability.CLOSED
        if self._watched is not None:
            await self.usage(self._watched(self.now_ms()))
        await self._write_notes()

    def _take_faults(self, faults: tuple[str, ...]) -> None:
        if faults != self._faults and not self._quiet:
            level = logging.WARNING if faults else logging.INFO
            log(_LOGGER, level, "ledger is not durable" if faults else "ledger is durable again", faults=faults or None)
        self._faults = faults

    async def _renew(self, attempt_ids: Sequence[str]) -> None:
        # A beat without living reservations still ends the leases of processes that died.
        for start in range(0, max(1, len(attempt_ids)), _MOST_IN_A_CALL):
            chunk = attempt_ids[start : start + _MOST_IN_A_CALL]
            gone = await self._calls.call("Renew", self._ledger.renew, chunk, self._pace.lease_ms)
            for attempt_id in gone:
                self._live.pop(attempt_id, None)

    async def _write_notes(self) -> None:
        for name, text in list(self._notes.items()):
            await self._calls.call("Note", self._ledger.write_note, name, text)
            if self._notes.get(name) == text:
                del self._notes[name]


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000

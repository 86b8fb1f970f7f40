"""The rules of a ledger on plain dicts, as short as they can be said: what every backend is compared with.

Written from the rules of `ledger.interface` and sharing nothing with a backend but the values. Time is an argument.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from foresail_sidecar.ledger.interface import (
    MOST,
    CalendarSpan,
    Claim,
    Entry,
    Held,
    Measure,
    Option,
    ReserveRequest,
    RollingSpan,
    Settled,
)

Slot = tuple[str, int]


@dataclass
class Attempt:
    state: str  # reserved, ended or tombstone
    entries: tuple[Entry, ...] = ()
    amounts: tuple[int, ...] = ()
    revision: int = 0
    option: int = 0
    granted: int = 0
    lease_until: int = 0


@dataclass
class LedgerModel:
    spent: dict[Slot, int] = field(default_factory=lambda: defaultdict(int))
    reserved: dict[Slot, int] = field(default_factory=lambda: defaultdict(int))
    attempts: dict[str, Attempt] = field(default_factory=dict)

    def reserve(self, request: ReserveRequest, now: int) -> Attempt | set[tuple[int, str]] | None:
        """The attempt if granted (also before), the shortages as (option, account), or None if it was abandoned."""
        self.expire(now)
        if (known := self.attempts.get(request.attempt_id)) is not None:
            return None if known.state == "tombstone" else known
        shortages = set()
        for number, option in enumerate(request.options):
            claims = (*request.budgets, *option.claims)
            short = {(number, claim.account) for claim in claims if self._lacks(claim, option, now)}
            if not short:
                return self._take(request, number, now)
            shortages |= short
        return shortages

    def settle(self, settled: Settled) -> None:
        attempt = self.attempts.get(settled.attempt_id)
        if attempt is None or attempt.state == "tombstone":
            attempt = self.attempts[settled.attempt_id] = Attempt("ended", settled.receipt.entries)
            former = [0] * len(attempt.entries)
        elif attempt.state == "reserved":
            self._give_back(attempt)
            former = [0] * len(attempt.entries)
        elif settled.revision > attempt.revision:
            former = list(attempt.amounts)
        else:
            return
        attempt.state, attempt.revision, attempt.amounts = "ended", settled.revision, settled.amounts
        self._spend(attempt, former)

    def abandon(self, attempt_id: str) -> None:
        attempt = self.attempts.get(attempt_id)
        if attempt is not None and attempt.state == "reserved":
            self._give_back(attempt)
        elif attempt is not None and attempt.state == "ended" and attempt.revision == 0:
            former, attempt.amounts = list(attempt.amounts), (0,) * len(attempt.entries)
            self._spend(attempt, former)
        elif attempt is not None:
            return
        self.attempts[attempt_id] = Attempt("tombstone")

    def renew(self, attempt_id: str, lease_ms: int, now: int) -> bool:
        """Whether it is still reserved."""
        self.expire(now)
        attempt = self.attempts.get(attempt_id)
        if attempt is None or attempt.state != "reserved":
            return False
        attempt.lease_until = now + lease_ms
        return True

    def expire(self, now: int) -> None:
        for attempt in self.attempts.values():
            if attempt.state == "reserved" and attempt.lease_until < now:
                self._give_back(attempt)
                attempt.state = "ended"
                attempt.amounts = tuple(entry.amount for entry in attempt.entries)
                self._spend(attempt, [0] * len(attempt.entries))

    def used(self, claim: Claim, now: int) -> tuple[int, int]:
        """What the claim's account has spent and reserved now."""
        slots = self._counted(claim, now)
        return sum(self.spent[slot] for slot in slots), sum(self.reserved[slot] for slot in slots)

    def _lacks(self, claim: Claim, option: Option, now: int) -> bool:
        needed = option.least if claim.measure == Measure.MONEY else claim.amount
        return claim.enforced and needed > 0 and self._free(claim, option, now) < needed

    def _free(self, claim: Claim, option: Option, now: int) -> int:
        spent, reserved = self.used(claim, now)
        return claim.limit + (claim.overdraft if option.overdraws else 0) - spent - reserved

    def _take(self, request: ReserveRequest, number: int, now: int) -> Attempt:
        option = request.options[number]
        claims = (*request.budgets, *option.claims)
        money = [claim for claim in claims if claim.measure == Measure.MONEY and claim.enforced]
        granted = max(0, min([option.wanted, *(self._free(claim, option, now) for claim in money)]))
        attempt = Attempt("reserved", option=number, granted=granted, lease_until=now + request.lease_ms)
        for claim in claims:
            amount = granted if claim.measure == Measure.MONEY else claim.amount
            slot = self._present(claim, now)
            rolling = isinstance(claim.span, RollingSpan)
            attempt.entries += (Entry(claim.account, slot, claim.measure, amount, rolling),)
            self.reserved[claim.account, slot] += amount
        self.attempts[request.attempt_id] = attempt
        return attempt

    def _present(self, claim: Claim, now: int) -> int:
        match claim.span:
            case CalendarSpan(windows):
                return next(start for start, end in windows if start <= now < end)
            case RollingSpan(_, bucket_ms):
                return now // bucket_ms * bucket_ms
            case Held():
                return 0

    def _counted(self, claim: Claim, now: int) -> list[Slot]:
        if not isinstance(claim.span, RollingSpan):
            return [(claim.account, self._present(claim, now))]
        begins = now - claim.span.span_ms - claim.span.bucket_ms
        known = set(self.spent) | set(self.reserved)
        return [slot for slot in known if slot[0] == claim.account and slot[1] > begins]

    def _give_back(self, attempt: Attempt) -> None:
        for entry in attempt.entries:
            self.reserved[entry.account, entry.slot_ms] -= entry.amount

    def _spend(self, attempt: Attempt, former: list[int]) -> None:
        for entry, amount, before in zip(attempt.entries, attempt.amounts, former, strict=True):
            if entry.measure != Measure.SLOTS:
                slot = entry.account, entry.slot_ms
                self.spent[slot] = min(MOST, self.spent[slot] + amount - before)

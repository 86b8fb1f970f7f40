"""What each operation of the ledger reads and changes, inside one transaction at one moment.

Owns the rules of `ledger.interface` over rows. It must not know threads, files or commits. Every function looks first
and changes only when nothing can fail any more, so that one refused operation leaves the others of its transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from foresail_sidecar.ledger.interface import (
    MOST,
    Abandoned,
    Claim,
    Denied,
    Entry,
    Granted,
    LedgerClosed,
    Measure,
    Option,
    Receipt,
    ReserveRequest,
    RollingSpan,
    Settled,
    Shortage,
    Usage,
    WindowsOutdated,
)
from foresail_sidecar.ledger.sqlite.unit import Record, Slot, State, Unit, kept_until
from foresail_sidecar.ledger.windows import slot_of

RECORDS_KEPT_MS: Final = 24 * 3_600_000
TOMBSTONES_KEPT_MS: Final = 600_000
EXPIRED: Final = "Expired"


@dataclass(slots=True)
class _Standing:
    """What one claim's account has used at this moment, and the slot that would take more."""

    claim: Claim
    slot: Slot
    ends: int | None
    """When what the slot holds counts no longer."""
    spent: int
    reserved: int
    usage_ends: int | None
    sequence: int

    @property
    def rolling(self) -> bool:
        return isinstance(self.claim.span, RollingSpan)

    def free(self, option: Option) -> int:
        return self.top(option) - self.spent - self.reserved

    def top(self, option: Option) -> int:
        return self.claim.limit + (self.claim.overdraft if option.overdraws else 0)

    def take(self, amount: int) -> None:
        """Reserve in the slot, and keep what this says of the account true."""
        span, slot = self.claim.span, self.slot
        slot.reserved = min(MOST, slot.reserved + amount)
        slot.ends = self.ends
        slot.kept_until = kept_until(slot.slot, self.ends, rolling=self.rolling)
        self.reserved = min(MOST, self.reserved + amount)
        if isinstance(span, RollingSpan) and self.usage_ends is None and amount:
            self.usage_ends = slot.slot + span.bucket_ms + span.span_ms

    def usage(self) -> Usage:
        claim = self.claim
        return Usage(
            claim.account, self.slot.slot, self.spent, self.reserved, self.usage_ends, self.sequence, self.rolling
        )


def reserve(unit: Unit, request: ReserveRequest) -> Granted | Denied:
    """Reserve the first option that fits; see `Ledger.reserve`."""
    require_open(unit)
    record = unit.record(request.attempt_id)
    if record is not None:
        if record.state == State.TOMBSTONE:
            raise Abandoned
        return _granted(unit, record, _standings(unit, (*request.budgets, *request.options[record.option].claims)))
    known: dict[str, _Standing] = {}
    shortages: list[Shortage] = []
    for number, option in enumerate(request.options):
        standings = []
        for claim in (*request.budgets, *option.claims):
            if claim.account not in known:
                known[claim.account] = _standing(unit, claim)
            standing = known[claim.account]
            # Another option may have claimed another amount of the same account.
            standings.append(standing if standing.claim is claim else replace(standing, claim=claim))
        short = [lacking for each in standings if (lacking := _shortage(number, option, each)) is not None]
        if not short:
            return _take(unit, request, number, standings)
        shortages += short
    return Denied(tuple(shortages), tuple(each.usage() for each in known.values()), unit.now_ms)


def settle(unit: Unit, settlements: Sequence[Settled]) -> tuple[Usage, ...]:
    """Turn reservations into spend; see `Ledger.settle`."""
    require_open(unit)
    touched: dict[tuple[str, int], Slot] = {}
    for settled in settlements:
        for slot in _settle_one(unit, settled):
            touched[slot.account, slot.slot] = slot
    return tuple(
        Usage(slot.account, slot.slot, slot.spent, slot.reserved, slot.ends, slot.sequence) for slot in touched.values()
    )


def abandon(unit: Unit, attempt_ids: Sequence[str]) -> None:
    """Give back, and refuse what arrives later; see `Ledger.abandon`."""
    require_open(unit)
    for attempt_id in attempt_ids:
        record = unit.record(attempt_id)
        if record is not None and record.state == State.RESERVED:
            _change(unit, record.entries, give_back=True, spend=(0,) * len(record.entries))
        elif record is not None and record.state == State.ENDED and record.basis == EXPIRED:
            # Its owner was too late to say so, but lives and sent nothing.
            _change(unit, record.entries, give_back=False, spend=[-amount for amount in record.amounts])
        elif record is not None:
            continue
        due = unit.now_ms + TOMBSTONES_KEPT_MS
        unit.keep(Record(attempt_id, State.TOMBSTONE, due, unit.header.generation))


def renew(unit: Unit, attempt_ids: Sequence[str], lease_ms: int) -> frozenset[str]:
    """Extend leases; return the ids that are no longer reserved."""
    gone = set()
    for attempt_id in attempt_ids:
        record = unit.record(attempt_id)
        if record is None or record.state != State.RESERVED or record.generation != unit.header.generation:
            gone.add(attempt_id)
        else:
            record.due = unit.now_ms + lease_ms
            unit.keep(record)
    return frozenset(gone)


def usage(unit: Unit, claims: Sequence[Claim]) -> tuple[Usage, ...]:
    """What the accounts of the claims have used now; see `Ledger.usage`."""
    require_open(unit)
    return tuple(each.usage() for each in _standings(unit, claims))


def sweep(unit: Unit, most: int) -> None:
    """Turn at most so many reservations whose leases ended into spend at their full amount."""
    if unit.header.opens is not None:
        return
    for record in unit.expired(most):
        # What held a slot gives it back.
        _change(unit, record.entries, give_back=True, spend=[entry.amount for entry in record.entries])
        record_expired(unit, record)


def record_expired(unit: Unit, record: Record) -> None:
    """Keep the record of a reservation that became spend: a late settlement corrects it."""
    record.state, record.revision, record.basis = State.ENDED, 0, EXPIRED
    record.amounts = tuple(entry.amount for entry in record.entries)
    record.due = unit.now_ms + RECORDS_KEPT_MS
    unit.keep(record)


def require_open(unit: Unit) -> None:
    """Refuse while the ledger is being restored.

    Raises:
        LedgerClosed: it is.
    """
    if unit.header.opens is not None:
        raise LedgerClosed((unit.header.opens - unit.now_ms) / 1000)


def _standings(unit: Unit, claims: Sequence[Claim]) -> list[_Standing]:
    return [_standing(unit, claim) for claim in claims]


def _standing(unit: Unit, claim: Claim) -> _Standing:
    found = slot_of(claim.span, unit.now_ms)
    if found is None:
        raise WindowsOutdated(unit.now_ms)
    start, ends = found
    slot = unit.slot(claim.account, start)
    if not isinstance(claim.span, RollingSpan):
        return _Standing(claim, slot, ends, slot.spent, slot.reserved, ends, slot.sequence)
    counted = unit.slots_after(claim.account, unit.now_ms - claim.span.span_ms - claim.span.bucket_ms)
    used = [each.slot for each in counted if each.spent or each.reserved]
    leaves = min(used) + claim.span.bucket_ms + claim.span.span_ms if used else None
    spent = min(MOST, sum(each.spent for each in counted))
    reserved = min(MOST, sum(each.reserved for each in counted))
    return _Standing(claim, slot, ends, spent, reserved, leaves, max(each.sequence for each in counted))


def _shortage(number: int, option: Option, standing: _Standing) -> Shortage | None:
    """Return what an account lacks for an option, None if it has room."""
    claim = standing.claim
    needed = option.least if claim.measure == Measure.MONEY else claim.amount
    if not claim.enforced or not needed or standing.free(option) >= needed:
        return None
    top = standing.top(option)
    return Shortage(
        number, claim.account, claim.measure, top, standing.spent, standing.reserved, needed, standing.usage_ends
    )


def _take(unit: Unit, request: ReserveRequest, number: int, standings: Sequence[_Standing]) -> Granted:
    option = request.options[number]
    free = [each.free(option) for each in standings if each.claim.enforced and each.claim.measure == Measure.MONEY]
    amount = max(0, min([option.wanted, *free]))
    entries = []
    for standing in standings:
        claim = standing.claim
        taken = amount if claim.measure == Measure.MONEY else claim.amount
        entries.append(Entry(claim.account, standing.slot.slot, claim.measure, taken, standing.rolling))
        standing.take(taken)
    unit.touch([standing.slot for standing in standings])
    for standing in standings:
        standing.sequence = unit.header.sequence
    due = unit.now_ms + request.lease_ms
    record = Record(
        request.attempt_id,
        State.RESERVED,
        due,
        unit.header.generation,
        tuple(entries),
        option=number,
        granted=amount,
    )
    unit.keep(record)
    return _granted(unit, record, standings)


def _granted(unit: Unit, record: Record, standings: Sequence[_Standing]) -> Granted:
    receipt = Receipt(record.id, record.generation, record.entries)
    return Granted(receipt, record.option, record.granted, tuple(each.usage() for each in standings), unit.now_ms)


def _settle_one(unit: Unit, settled: Settled) -> list[Slot]:
    record = unit.record(settled.attempt_id)
    known = record is not None and record.state != State.TOMBSTONE
    entries = record.entries if record is not None and known else settled.receipt.entries
    # Aligned with what was reserved, whatever came: one settlement must not fail those that share its transaction.
    amounts = (*settled.amounts, *(0,) * len(entries))[: len(entries)]
    due = unit.now_ms + RECORDS_KEPT_MS
    if record is None or not known:
        record = Record(settled.attempt_id, State.ENDED, due, unit.header.generation, entries)
        slots = _change(unit, entries, give_back=False, spend=amounts)
    elif record.state == State.RESERVED:
        slots = _change(unit, entries, give_back=True, spend=amounts)
    elif settled.revision > record.revision:
        difference = [now - before for now, before in zip(amounts, record.amounts, strict=True)]
        slots = _change(unit, entries, give_back=False, spend=difference)
    else:
        return []
    record.state, record.revision, record.basis = State.ENDED, settled.revision, settled.basis
    record.amounts, record.due = amounts, due
    unit.keep(record)
    return slots


def _change(unit: Unit, entries: Sequence[Entry], *, give_back: bool, spend: Sequence[int]) -> list[Slot]:
    """Change the slots of the entries; return those that are windows of their own."""
    slots = [unit.slot(entry.account, entry.slot_ms) for entry in entries]
    for entry, slot, spent in zip(entries, slots, spend, strict=True):
        if give_back:
            slot.reserved = max(0, slot.reserved - entry.amount)
        if entry.measure != Measure.SLOTS:
            slot.spent = min(MOST, max(0, slot.spent + spent))
    unit.touch(slots)
    return [slot for entry, slot in zip(entries, slots, strict=True) if not entry.rolling]

"""How a ledger that lost data is noticed, and how it is put together again from what its users saw of it.

Owns the guard, the generation, and the time for which a restored ledger stays closed. It must not know operations.

A file can be replaced by an older copy or vanish while processes serve. Each remembers the latest of it that it saw;
a file that is older gets a new generation and closes, so that everybody tells what they know before money is handed out
again. What was reserved before the loss and is claimed by nobody becomes spend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from foresail_sidecar.ledger.interface import MOST, DataLost, Measure, Receipt, Usage
from foresail_sidecar.ledger.sqlite.transactions import record_expired
from foresail_sidecar.ledger.sqlite.unit import Record, Slot, State, Unit

CLOSED_MS: Final = 3000


@dataclass(frozen=True, slots=True)
class Known:
    """The latest of a ledger that this process saw."""

    identity: str
    generation: int
    sequence: int


def known_of(unit: Unit) -> Known:
    """Return what the transaction leaves behind."""
    return Known(unit.header.identity, unit.header.generation, unit.header.sequence)


def guard(unit: Unit, known: Known | None) -> DataLost | None:
    """Return why nothing may be done with this ledger before it is restored; None if it is what was known."""
    header = unit.header
    if known is None:
        return None
    if header.generation > known.generation:
        return DataLost(header.generation)
    same = header.identity == known.identity and header.generation == known.generation
    if same and header.sequence >= known.sequence:
        return None
    was_open = header.opens is None
    header.generation = max(header.generation, known.generation) + 1
    header.opens = unit.now_ms + CLOSED_MS
    unit.write_header()
    unit.connection.execute(
        "UPDATE usage SET told_spent = spent, told_sequence = sequence, claimed = 0, reserved = 0,"
        " lost = min(?, reserved + CASE WHEN ? THEN 0 ELSE max(0, lost - claimed) END)",
        (MOST, was_open),
    )
    return DataLost(header.generation)


def open_when_due(unit: Unit) -> None:
    """End the restoration when its time is over: what nobody claimed becomes spend. Call it before a slot is read."""
    if unit.header.opens is not None and unit.now_ms >= unit.header.opens:
        unit.header.opens = None
        unit.write_header()
        _spend_unclaimed(unit)


def restore(unit: Unit, known: Known | None, seen: Sequence[Usage], live: Sequence[tuple[Receipt, int]]) -> None:
    """Add what this process saw and what it still holds; see `Ledger.restore`."""
    latest = max((usage.sequence for usage in seen), default=0)
    unit.header.sequence = max(unit.header.sequence, latest, known.sequence if known is not None else 0)
    unit.write_header()
    for usage in seen:
        _restore_usage(unit, usage)
    for receipt, lease_ms in live:
        _restore_reservation(unit, receipt, lease_ms)


def _restore_usage(unit: Unit, usage: Usage) -> None:
    slot = unit.slot(usage.account, usage.slot_ms)
    others = [each for each in unit.slots_after(usage.account, -1) if each is not slot] if usage.rolling else []
    if usage.sequence <= max(each.told_sequence for each in (slot, *others)):
        return
    _tell(unit, slot, spent=usage.spent, lost=usage.reserved, sequence=usage.sequence)
    slot.ends = usage.ends_ms if not usage.rolling else slot.ends
    for other in others:
        # The sum that was seen holds whatever these still say.
        if other.slot < slot.slot:
            _tell(unit, other, spent=0, lost=0, sequence=other.told_sequence)


def _tell(unit: Unit, slot: Slot, *, spent: int, lost: int, sequence: int) -> None:
    """Replace what is known of the time before the loss; what was spent since then stays."""
    before = _told(unit, slot)
    slot.told_spent, slot.lost, slot.told_sequence = spent, lost, sequence
    slot.sequence = max(slot.sequence, sequence)
    _change_spent(unit, slot, _told(unit, slot) - before)


def _claim(unit: Unit, slot: Slot, amount: int) -> None:
    """Note that so much of what was reserved before the loss lives on."""
    before = _told(unit, slot)
    slot.claimed = min(MOST, slot.claimed + amount)
    _change_spent(unit, slot, _told(unit, slot) - before)


def _change_spent(unit: Unit, slot: Slot, difference: int) -> None:
    slot.spent = min(MOST, max(0, slot.spent + difference))
    unit.put(slot)


def _told(unit: Unit, slot: Slot) -> int:
    """Return the part of a slot's spend that comes from before the loss."""
    # Slot 0 holds what has no window: concurrency, which ends with its holder.
    unclaimed = max(0, slot.lost - slot.claimed) if unit.header.opens is None and slot.slot != 0 else 0
    return slot.told_spent + unclaimed


def _restore_reservation(unit: Unit, receipt: Receipt, lease_ms: int) -> None:
    record = unit.record(receipt.attempt_id)
    generation = unit.header.generation
    if record is not None and (record.state != State.RESERVED or record.generation == generation):
        return
    for entry in receipt.entries:
        slot = unit.slot(entry.account, entry.slot_ms)
        slot.reserved = min(MOST, slot.reserved + entry.amount)
        unit.put(slot)
        # What a rolling window had reserved was told as one sum, in one of its buckets.
        told = [each for each in unit.slots_after(entry.account, -1) if each.lost] if entry.rolling else []
        _claim(unit, max(told, key=lambda each: each.slot, default=slot), entry.amount)
    granted = max((entry.amount for entry in receipt.entries if entry.measure == Measure.MONEY), default=0)
    record = Record(receipt.attempt_id, State.RESERVED, unit.now_ms + lease_ms, generation, receipt.entries)
    record.granted = granted
    unit.keep(record)


def _spend_unclaimed(unit: Unit) -> None:
    unit.connection.execute(
        "UPDATE usage SET spent = min(?, spent + lost - claimed) WHERE slot != 0 AND lost > claimed", (MOST,)
    )
    unclaimed = unit.connection.execute(
        "SELECT id FROM attempt WHERE state = 0 AND generation < ?", (unit.header.generation,)
    ).fetchall()
    for (attempt_id,) in unclaimed:
        record = unit.record(attempt_id)
        if record is not None:
            record_expired(unit, record)

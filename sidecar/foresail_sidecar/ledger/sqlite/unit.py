"""What one transaction reads and changes: rows are loaded when they are first needed and written once, at its end.

Owns the reading and writing of rows, and the end of old ones. It must not know what operations mean. Many reservations
of one budget in one transaction so cost one read and one write of its row.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import orjson

from foresail_sidecar.ledger.interface import Entry, Measure

_DAY_MS: Final = 86_400_000
_ROLLING_KEPT_MS: Final = 60_000
# A slot that only a late settlement brought back does not know its window: longer than any window and the next one.
_UNKNOWN_KEPT_MS: Final = 63 * _DAY_MS
_MOST_DELETED: Final = 1000
_RETRY_SECONDS: Final = 0.001
_PRIMARY_CODE: Final = 0xFF


class State(IntEnum):
    """Where an attempt stands. A tombstone refuses a reservation that was abandoned before it came."""

    RESERVED = 0
    ENDED = 1
    TOMBSTONE = 2


# To ask the classes for their members takes ten times as long.
_STATES: Final = tuple(State)
_MEASURES: Final = {measure.value: measure for measure in Measure}


@dataclass(slots=True)
class Slot:
    """One window or bucket of an account."""

    account: str
    slot: int
    spent: int = 0
    reserved: int = 0
    ends: int | None = None
    sequence: int = 0
    told_spent: int = 0
    told_sequence: int = 0
    lost: int = 0
    claimed: int = 0
    kept_until: int | None = None


@dataclass(slots=True)
class Record:
    """One attempt. `due` is the end of its lease while reserved, then the end of the record."""

    id: str
    state: State
    due: int
    generation: int
    entries: tuple[Entry, ...] = ()
    amounts: tuple[int, ...] = ()
    revision: int = 0
    basis: str = ""
    option: int = 0
    granted: int = 0
    entries_text: str | None = None
    """The entries as the file has them, where they are known to be there."""


@dataclass(slots=True)
class Header:
    """The ledger itself."""

    identity: str
    generation: int
    sequence: int
    opens: int | None


@dataclass(slots=True)
class Unit:
    """The rows of one transaction, at one moment of the ledger's clock."""

    connection: sqlite3.Connection
    now_ms: int
    header: Header
    _slots: dict[str, dict[int, Slot]] = field(default_factory=dict)
    _records: dict[str, Record | None] = field(default_factory=dict)
    _loaded_after: dict[str, int] = field(default_factory=dict)
    _changed_slots: dict[tuple[str, int], Slot] = field(default_factory=dict)
    _changed_records: dict[str, Record] = field(default_factory=dict)
    _header_changed: bool = False

    def slot(self, account: str, start: int) -> Slot:
        """Return a slot; an empty one if there is none yet."""
        slots = self._slots.get(account)
        if slots is None:
            slots = self._slots[account] = {}
        found = slots.get(start)
        if found is None:
            row = self.connection.execute(
                "SELECT * FROM usage WHERE account = ? AND slot = ?", (account, start)
            ).fetchone()
            found = slots[start] = Slot(account, start) if row is None else Slot(*row)
        return found

    def slots_after(self, account: str, moment: int) -> list[Slot]:
        """Return all slots of the account that start after the moment, those included that are new here."""
        slots = self._slots.setdefault(account, {})
        loaded = self._loaded_after.get(account)
        if loaded is None or moment < loaded:
            rows = self.connection.execute("SELECT * FROM usage WHERE account = ? AND slot > ?", (account, moment))
            for row in rows:
                slots.setdefault(row[1], Slot(*row))
            self._loaded_after[account] = moment
        return [slot for start, slot in slots.items() if start > moment]

    def look_up(self, attempt_ids: Iterable[str]) -> None:
        """Read the records of all these attempts at once: each statement lets go of the interpreter, which costs more than reading."""
        wanted = dict.fromkeys(attempt_ids)
        self._records.update(wanted)
        rows = self.connection.execute(
            "SELECT * FROM attempt WHERE id IN (SELECT value FROM json_each(?))", (orjson.dumps(list(wanted)).decode(),)
        )
        self._records.update((row[0], _record(row)) for row in rows.fetchall())

    def record(self, attempt_id: str) -> Record | None:
        """Return an attempt's record, if there is one."""
        if attempt_id not in self._records:
            row = self.connection.execute("SELECT * FROM attempt WHERE id = ?", (attempt_id,)).fetchone()
            self._records[attempt_id] = None if row is None else _record(row)
        return self._records[attempt_id]

    def expired(self, most: int) -> list[Record]:
        """Return reservations whose leases have ended, the oldest first."""
        rows = self.connection.execute(
            "SELECT id FROM attempt WHERE state = 0 AND due < ? ORDER BY due LIMIT ?", (self.now_ms, most)
        ).fetchall()
        records = [self.record(attempt_id) for (attempt_id,) in rows]
        return [record for record in records if record is not None]

    def touch(self, slots: Iterable[Slot]) -> None:
        """Note one change of these slots: they are written at the end, with the next sequence."""
        self.header.sequence += 1
        self._header_changed = True
        for slot in slots:
            slot.sequence = self.header.sequence
            self._changed_slots[slot.account, slot.slot] = slot

    def put(self, slot: Slot) -> None:
        """Note that the slot is to be written with the sequence that it has."""
        self._header_changed = True
        self._changed_slots[slot.account, slot.slot] = slot

    def keep(self, record: Record) -> None:
        """Note that the record is new or changed."""
        self._records[record.id] = record
        self._changed_records[record.id] = record
        self._header_changed = True

    def write_header(self) -> None:
        """Note that generation or opening changed."""
        self._header_changed = True

    def flush(self) -> None:
        """Write what changed, and forget the slots that were read."""
        if self._changed_slots:
            self.connection.executemany(
                "REPLACE INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [_slot_row(slot, self.now_ms) for slot in self._changed_slots.values()],
            )
        if self._changed_records:
            self.connection.executemany(
                "REPLACE INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [_record_row(record) for record in self._changed_records.values()],
            )
        if self._header_changed:
            header = self.header
            self.connection.execute(
                "UPDATE ledger SET generation = ?, sequence = ?, opens = ?",
                (header.generation, header.sequence, header.opens),
            )
        for read in (self._slots, self._loaded_after, self._changed_slots, self._changed_records):
            read.clear()

    def delete_old(self) -> bool:
        """Delete records whose time is over and slots of windows that are long past, a bounded number of each.

        Returns whether there may be more of them.
        """
        deleted = self.connection.execute(
            "DELETE FROM attempt WHERE id IN (SELECT id FROM attempt WHERE state != 0 AND due < ? ORDER BY due LIMIT ?)",
            (self.now_ms, _MOST_DELETED),
        ).rowcount
        old = self.connection.execute(
            "SELECT account, slot FROM usage WHERE kept_until < ? AND reserved = 0 LIMIT ?",
            (self.now_ms, _MOST_DELETED),
        ).fetchall()
        self.connection.executemany("DELETE FROM usage WHERE account = ? AND slot = ?", old)
        return max(deleted, len(old)) >= _MOST_DELETED


def begin(connection: sqlite3.Connection, now_ms: int, patience_seconds: float) -> Unit:
    """Start a transaction that no other process writes beside.

    Raises:
        sqlite3.OperationalError: others wrote without a break for longer than `patience_seconds`, or something is wrong.
    """
    _take_turn(connection, patience_seconds)
    row = connection.execute("SELECT identity, generation, sequence, opens FROM ledger").fetchone()
    return Unit(connection, now_ms, Header(*row))


def _take_turn(connection: sqlite3.Connection, patience_seconds: float) -> None:
    # SQLite's own waits grow to a tenth of a second. Meanwhile a busy process that shares the file ends its turn and takes the
    # next one, again and again, until the wait is over.
    patience = time.monotonic() + patience_seconds
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & _PRIMARY_CODE == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() >= patience:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return


def kept_until(start: int, ends: int | None, *, rolling: bool) -> int | None:
    """Return when a slot may be deleted: once the window after the next begins, and never within a day."""
    if ends is None:
        return None
    return ends + (_ROLLING_KEPT_MS if rolling else max(ends - start, _DAY_MS))


def _slot_row(slot: Slot, now_ms: int) -> tuple[str | int | None, ...]:
    kept = slot.kept_until
    if kept is None and slot.slot != 0:
        kept = slot.kept_until = now_ms + _UNKNOWN_KEPT_MS
    return (
        slot.account,
        slot.slot,
        slot.spent,
        slot.reserved,
        slot.ends,
        slot.sequence,
        slot.told_spent,
        slot.told_sequence,
        slot.lost,
        slot.claimed,
        kept,
    )


def _record(row: tuple[str, int, int, str, int, int, int, int, str, str]) -> Record:
    attempt_id, state, revision, basis, option, granted, generation, due, entries, amounts = row
    return Record(
        attempt_id,
        _STATES[state],
        due,
        generation,
        _entries(orjson.loads(entries)),
        tuple(orjson.loads(amounts)),
        revision,
        basis,
        option,
        granted,
        entries,
    )


def _entries(rows: Iterable[tuple[str, int, str, int, bool]]) -> tuple[Entry, ...]:
    return tuple(
        [Entry(account, slot, _MEASURES[measure], amount, rolling) for account, slot, measure, amount, rolling in rows]
    )


def _record_row(record: Record) -> tuple[str | int, ...]:
    entries = record.entries_text
    if entries is None:
        rows = [[each.account, each.slot_ms, each.measure, each.amount, each.rolling] for each in record.entries]
        entries = orjson.dumps(rows).decode()
    return (
        record.id,
        record.state.value,
        record.revision,
        record.basis,
        record.option,
        record.granted,
        record.generation,
        record.due,
        entries,
        orjson.dumps(record.amounts).decode(),
    )

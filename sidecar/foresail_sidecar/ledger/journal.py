"""Settlements that could not be delivered, on disk until the ledger takes them.

Owns the file, its format and its bounds. It must not know ledgers or why a delivery failed. Everything but `waiting` blocks;
whoever runs an event loop calls it in a thread, one call at a time. `waiting` may be asked beside such a call.

One line a settlement: the CRC-32 of the rest, a space, JSON. A line that a crash left torn is passed over. A settlement
may be replayed more than once, since ledgers count it once; one that is older than a ledger keeps records is dropped.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, Final

import orjson

from foresail_sidecar.ledger.interface import Entry, Measure, Receipt, Settled

MOST_AGE_MS: Final = 20 * 3_600_000
"""Ledgers keep records for 24 hours: within 20 a replay is certainly recognised."""
_MOST_JOURNALS: Final = 256


class JournalHeld(Exception):
    """Another process holds this journal."""


class Journal:
    """One process's undelivered settlements, the oldest first. Open it before use."""

    def __init__(
        self,
        path: Path,
        *,
        most_entries: int = 10_000,
        most_bytes: int = 16 * 2**20,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._path = path
        self._most_entries = most_entries
        self._most_bytes = most_bytes
        self._clock_ms = clock_ms
        self._file: FileIO | None = None
        self._size = 0
        self._waiting: deque[tuple[int, Settled]] = deque()
        self.damaged = 0
        """Lines that could not be read when the journal was opened."""

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self) -> None:
        """Take the file and what it holds.

        Raises:
            JournalHeld: another process has it.
            OSError: it cannot be made or read.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = _held(self._path)
        content = self._file.readall()
        for line in content.splitlines():
            read = _read(line)
            if read is None:
                self.damaged += 1
            else:
                self._waiting.append(read)
        self._size = len(content)
        if content and not content.endswith(b"\n"):
            # What follows a torn line must not become part of it.
            self._write(b"\n")

    def add(self, settlements: Sequence[Settled]) -> int:
        """Keep settlements, and return how many found no room. When this returns, the others are on the disk.

        Raises:
            OSError: the disk does not take them.
        """
        now = self._clock_ms()
        room = max(0, self._most_entries - len(self._waiting))
        kept = [(now, settled) for settled in settlements[:room]]
        lines = [_line(*each) for each in kept]
        if self._size + sum(map(len, lines)) > self._most_bytes:
            self._rewrite()
        sizes = itertools.accumulate(map(len, lines), initial=self._size)
        fitting = sum(size <= self._most_bytes for size in sizes) - 1
        if fitting > 0:
            self._write(b"".join(lines[:fitting]))
            self._waiting.extend(kept[:fitting])
        return len(settlements) - max(0, fitting)

    def waiting(self, most: int) -> list[Settled]:
        """Return the oldest settlements that wait."""
        # Copied in one step: a thread may add to it or take from it in the next one.
        return [settled for _, settled in self._waiting.copy()][:most]

    def delivered(self, count: int) -> None:
        """Forget the oldest so many; the file is emptied when none is left."""
        for _ in range(count):
            self._waiting.popleft()
        if not self._waiting and self._size and self._file is not None:
            self._file.truncate(0)
            os.fsync(self._file.fileno())
            self._size = 0

    def drop_old(self) -> int:
        """Drop what is too old to be replayed, and return how many those were: their leases made them spend."""
        oldest = self._clock_ms() - MOST_AGE_MS
        count = sum(1 for _ in itertools.takewhile(lambda each: each[0] < oldest, self._waiting))
        self.delivered(count)
        return count

    def close(self) -> None:
        """Give the file back; what waits stays in it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def take_over(self, path: Path) -> None:
        """Take what a journal holds whose process is gone, and delete it. One that is held or does not fit stays."""
        other = Journal(path, clock_ms=self._clock_ms)
        try:
            other.open()
        except JournalHeld:
            return
        with contextlib.closing(other):
            self.damaged += other.damaged
            before = list(self._waiting)
            if len(before) + len(other) > self._most_entries:
                return
            # Their age counts from when they were written first.
            self._waiting = deque(sorted([*before, *other._waiting], key=lambda each: each[0]))
            self._rewrite()
            path.unlink()

    def _write(self, data: bytes) -> None:
        if self._file is None:
            raise OSError("the journal is not open")
        try:
            _write_all(self._file, data)
        except OSError:
            # What follows must not become part of what the disk took of this.
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
            raise
        self._size += len(data)

    def _rewrite(self) -> None:
        """Write a new file with what waits, without what was delivered meanwhile."""
        data = b"".join(_line(*each) for each in self._waiting)
        fresh = self._path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        file = _held(fresh)
        try:
            _write_all(file, data)
        except OSError:
            file.close()
            raise
        fresh.replace(self._path)
        self.close()
        self._file, self._size = file, len(data)


def open_journal(directory: Path, uid: str) -> Journal:
    """Return an open journal of the ledger `uid` that no other process holds, with what processes that are gone left in its others.

    Raises:
        OSError: the directory cannot be written.
    """
    for number in range(_MOST_JOURNALS):
        journal = Journal(_numbered(directory, uid, number))
        try:
            journal.open()
        except JournalHeld:
            continue
        for other in sorted(directory.glob(_numbered(directory, uid, "*").name)):
            if other != _numbered(directory, uid, number):
                journal.take_over(other)
        return journal
    raise OSError(f"all {_MOST_JOURNALS} journals in {str(directory)!r} are held by other processes")


def _numbered(directory: Path, uid: str, number: int | str) -> Path:
    # Two policies may share a directory: what is settled for one is no spend of the other.
    return directory / f"settlements-{hashlib.sha256(uid.encode()).hexdigest()[:16]}-{number}.journal"


def _held(path: Path) -> FileIO:
    file = FileIO(path, "a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it may have deleted or replaced it between opening and locking.
        if os.fstat(file.fileno()).st_nlink == 0:
            raise BlockingIOError
    except BlockingIOError:
        file.close()
        raise JournalHeld(str(path)) from None
    file.seek(0)
    return file


def _write_all(file: FileIO, data: bytes) -> None:
    """Return when all of it is on the disk; one that is nearly full takes a part at first, and that is no error yet."""
    while data:
        data = data[file.write(data) :]
    os.fsync(file.fileno())


def _line(written_ms: int, settled: Settled) -> bytes:
    receipt = settled.receipt
    entries: Iterable[list[Any]] = [
        [entry.account, entry.slot_ms, entry.measure, entry.amount, entry.rolling] for entry in receipt.entries
    ]
    fields = [written_ms, settled.attempt_id, settled.revision, settled.basis, receipt.generation, entries]
    data = orjson.dumps([*fields, settled.amounts])
    return b"%08x %b\n" % (zlib.crc32(data), data)


def _read(line: bytes) -> tuple[int, Settled] | None:
    checksum, _, data = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(data):
        return None
    try:
        written_ms, attempt_id, revision, basis, generation, rows, amounts = orjson.loads(data)
        entries = tuple(
            Entry(name, slot, Measure(measure), amount, rolling) for name, slot, measure, amount, rolling in rows
        )
        return written_ms, Settled(
            attempt_id, revision, basis, Receipt(attempt_id, generation, entries), tuple(amounts)
        )
    except (ValueError, TypeError):
        return None

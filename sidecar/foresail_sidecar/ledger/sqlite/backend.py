"""The embedded ledger: a thread that commits the operations of one process together, a full sync for each commit.

Owns the thread, its queue and the connection. It must not know what operations do to rows. Several processes of one
machine may share the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from foresail_sidecar.ledger.interface import (
    Claim,
    DataLost,
    Denied,
    Granted,
    LedgerError,
    LedgerUnavailable,
    Receipt,
    ReserveRequest,
    Settled,
    Status,
    Usage,
)
from foresail_sidecar.ledger.sqlite import generations, transactions
from foresail_sidecar.ledger.sqlite.checkpoints import Checkpoints
from foresail_sidecar.ledger.sqlite.schema import check_usable, connect, volatile_file_system
from foresail_sidecar.ledger.sqlite.unit import Unit, begin

_MOST_IN_A_COMMIT: Final = 256
_MOST_QUEUED: Final = 10_000
_SETTLEMENTS_WAIT_SECONDS: Final = 0.005
_EXPIRED_PER_RESERVE: Final = 16
_EXPIRED_PER_RENEWAL: Final = 1000
_CARE_MS: Final = 1000

Result = TypeVar("Result")


@dataclass(slots=True)
class _Work:
    run: Callable[[Unit], Any]
    done: asyncio.Future[Any]
    patient: bool = False
    """Nobody waits for it: it may wait a little for company, since a commit costs the same for one and for many."""
    attempts: tuple[str, ...] = ()
    """Those whose records it reads."""
    expires: int = 0
    heals: bool = False


class SqliteLedger:
    """A ledger in the file `path`, on the clock of this machine. It serves one event loop."""

    def __init__(self, path: Path, *, busy_seconds: float = 0.5, clock_ms: Callable[[], int] | None = None) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._clock_ms = clock_ms or (lambda: time.time_ns() // 1_000_000)
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._faults: tuple[str, ...] = ()
        self._known: generations.Known | None = None
        self._cared_ms = 0
        self._checkpoints = Checkpoints(path)

    async def reserve(self, request: ReserveRequest) -> Granted | Denied:
        """See `Ledger.reserve`."""
        reservation = partial(transactions.reserve, request=request)
        return await self._done(reservation, attempts=(request.attempt_id,), expires=_EXPIRED_PER_RESERVE)

    async def settle(self, settlements: Sequence[Settled]) -> tuple[Usage, ...]:
        """See `Ledger.settle`."""
        settlement = partial(transactions.settle, settlements=settlements)
        return await self._done(settlement, attempts=tuple(each.attempt_id for each in settlements), patient=True)

    async def abandon(self, attempt_ids: Sequence[str]) -> None:
        """See `Ledger.abandon`."""
        await self._done(
            partial(transactions.abandon, attempt_ids=attempt_ids), attempts=tuple(attempt_ids), patient=True
        )

    async def renew(self, attempt_ids: Sequence[str], lease_ms: int) -> frozenset[str]:
        """See `Ledger.renew`."""
        renewal = partial(transactions.renew, attempt_ids=attempt_ids, lease_ms=lease_ms)
        return await self._done(renewal, attempts=tuple(attempt_ids), expires=_EXPIRED_PER_RENEWAL)

    async def usage(self, claims: Sequence[Claim]) -> tuple[Usage, ...]:
        """See `Ledger.usage`."""
        return await self._done(partial(transactions.usage, claims=claims))

    async def restore(self, seen: Sequence[Usage], live: Sequence[tuple[Receipt, int]]) -> None:
        """See `Ledger.restore`."""
        await self._done(lambda unit: generations.restore(unit, self._known, seen, live), heals=True)

    async def status(self) -> Status:
        """See `Ledger.status`."""
        return await self._done(self._status)

    async def read_note(self, name: str) -> str | None:
        """See `Ledger.read_note`."""
        return await self._done(partial(_read_note, name=name))

    async def write_note(self, name: str, text: str) -> None:
        """See `Ledger.write_note`."""
        await self._done(partial(_write_note, name=name, text=text), patient=True)

    async def close(self) -> None:
        """See `Ledger.close`."""
        self._closed = True
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join, 2 * self._busy_seconds + 5.0)
            self._thread = None

    def _done(
        self,
        run: Callable[[Unit], Result],
        *,
        patient: bool = False,
        attempts: tuple[str, ...] = (),
        expires: int = 0,
        heals: bool = False,
    ) -> asyncio.Future[Result]:
        """Have the thread run it; the future ends with its commit."""
        if self._closed:
            raise LedgerUnavailable("the ledger is closed")
        if self._queue.qsize() >= _MOST_QUEUED:
            raise LedgerUnavailable("too many operations wait for the ledger's disk")
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="foresail-ledger", daemon=True)
            self._thread.start()
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.put(_Work(run, done, patient, attempts, expires, heals))
        return done

    def _status(self, unit: Unit) -> Status:
        header = unit.header
        return Status(header.generation, header.sequence, header.opens, unit.now_ms, self._faults)

    # What follows runs in the thread.

    def _serve(self) -> None:
        ends = False
        while not ends:
            batch, ends = self._next_batch()
            # Who gave up has abandoned the attempt: it must not be reserved after that.
            batch = [work for work in batch if not work.done.cancelled()]
            if batch:
                _resolve_later(self._commit(batch))
                self._keep_log_short()
        self._checkpoints.close()
        self._disconnect()

    def _keep_log_short(self) -> None:
        if self._connection is None:
            return
        # What was answered stands; nobody waits for this, and a failure shows in the next commit.
        with contextlib.suppress(sqlite3.Error):
            self._checkpoints.committed(self._connection)

    def _next_batch(self) -> tuple[list[_Work], bool]:
        first = self._queue.get()
        if first is None:
            return [], True
        batch = [first]
        patient = first.patient
        patience = time.monotonic() + _SETTLEMENTS_WAIT_SECONDS
        while len(batch) < _MOST_IN_A_COMMIT:
            wait = max(0.0, patience - time.monotonic()) if patient else 0.0
            try:
                work = self._queue.get(timeout=wait) if wait else self._queue.get_nowait()
            except queue.Empty:
                break
            if work is None:
                return batch, True
            batch.append(work)
            patient = patient and work.patient
        return batch, False

    def _commit(self, batch: Sequence[_Work]) -> list[tuple[_Work, Any]]:
        """Run the batch in one transaction; return each result, or the exception that stands for it."""
        try:
            connection = self._connected()
            unit = begin(connection, self._clock_ms(), self._busy_seconds)
            results, lost = self._run(unit, batch)
            unit.flush()
            if unit.now_ms - self._cared_ms >= _CARE_MS:
                # What is more than one round takes away goes with the next commits, or records would pile up under high load.
                self._cared_ms = 0 if unit.delete_old() else unit.now_ms
            connection.execute("COMMIT")
        except Exception as error:
            # Whatever failed, nothing of the transaction stands.
            self._roll_back()
            return [(work, LedgerUnavailable(f"{type(error).__name__}: {error}")) for work in batch]
        if lost is None:
            self._known = generations.known_of(unit)
        return results

    def _run(self, unit: Unit, batch: Sequence[_Work]) -> tuple[list[tuple[_Work, Any]], DataLost | None]:
        lost = generations.guard(unit, self._known)
        if lost is None:
            expires = sum(work.expires for work in batch)
            attempts = [attempt_id for work in batch for attempt_id in work.attempts]
            if attempts:
                # Before anything changes a record: what is read here is what the file holds.
                unit.look_up(attempts)
            generations.open_when_due(unit)
            if expires:
                transactions.sweep(unit, min(expires, _EXPIRED_PER_RENEWAL))
        results: list[tuple[_Work, Any]] = []
        for work in batch:
            if work.heals:
                lost = None
            if lost is not None:
                results.append((work, DataLost(lost.generation)))
                continue
            try:
                results.append((work, work.run(unit)))
            except (LedgerError, ValueError) as error:
                results.append((work, error))
        return results, lost

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._clock_ms() - self._cared_ms >= _CARE_MS and self._replaced():
            self._disconnect()
        if self._connection is None:
            self._connection = connect(self._path, self._busy_seconds)
            # From here on, whoever begins a transaction waits for its turn.
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._checkpoints.take_over(self._connection)
            self._inode = self._path.stat().st_ino
            kind = volatile_file_system(self._path.parent)
            self._faults = () if kind is None else (f"LedgerNotDurable: the ledger's directory is on {kind}",)
        return self._connection

    def _replaced(self) -> bool:
        try:
            return self._path.stat().st_ino != self._inode
        except FileNotFoundError:
            return True

    def _roll_back(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


async def open_sqlite(path: Path, *, busy_seconds: float = 0.5) -> SqliteLedger:
    """Return the ledger of a file that can be used.

    Raises:
        UserError: the file cannot be made or opened, or is no ledger.
    """
    await asyncio.to_thread(check_usable, path)
    return SqliteLedger(path, busy_seconds=busy_seconds)


def _resolve_later(results: Sequence[tuple[_Work, Any]]) -> None:
    loop = results[0][0].done.get_loop()
    # A loop that has ended waits for nothing any more.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_resolve, results)


def _resolve(results: Sequence[tuple[_Work, Any]]) -> None:
    for work, result in results:
        if work.done.done():
            continue
        if isinstance(result, Exception):
            work.done.set_exception(result)
        else:
            work.done.set_result(result)


def _read_note(unit: Unit, name: str) -> str | None:
    row = unit.connection.execute("SELECT text FROM note WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def _write_note(unit: Unit, name: str, text: str) -> None:
    unit.connection.execute("REPLACE INTO note VALUES (?, ?)", (name, text))

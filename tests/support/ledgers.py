"""The ledgers that tests run against: each real backend in one shape, so that one test holds for all of them.

Owns how a backend is started and how time passes for it. It must not know what is tested.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from tests.support.redis_server import redis_server

from foresail_sidecar.ledger.calls import LedgerMetrics
from foresail_sidecar.ledger.client import LedgerClient, Pace
from foresail_sidecar.ledger.interface import Ledger
from foresail_sidecar.ledger.journal import open_journal
from foresail_sidecar.ledger.redis.backend import RedisLedger
from foresail_sidecar.ledger.redis.calls import RedisSettings
from foresail_sidecar.ledger.sqlite.backend import SqliteLedger
from foresail_sidecar.ledger.sqlite.schema import ledger_path

FAR_MS = 4_000_000_000_000


class Backend(Protocol):
    """A running store of ledgers. Opening the same uid twice is what a second process would do."""

    def open(self, uid: str) -> Ledger: ...

    def pass_time(self, milliseconds: int) -> None:
        """Let this much time pass on the ledgers' clock (or really, where it cannot be moved)."""


class SqliteBackend:
    """Ledgers in files of one directory, on a clock that only moves when told to."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.now_ms = time.time_ns() // 1_000_000

    def open(self, uid: str) -> SqliteLedger:
        return SqliteLedger(ledger_path(self._directory, uid), busy_seconds=5.0, clock_ms=lambda: self.now_ms)

    def pass_time(self, milliseconds: int) -> None:
        self.now_ms += milliseconds


@contextlib.contextmanager
def sqlite_backend(directory: Path) -> Iterator[Backend]:
    yield SqliteBackend(directory)


class RedisBackend:
    """Ledgers on one server, whose clock cannot be moved. They open at once: nobody knows more of them."""

    def __init__(self, port: int) -> None:
        self._port = port

    def open(self, uid: str) -> RedisLedger:
        settings = RedisSettings(f"redis://127.0.0.1:{self._port}", deadline_seconds=5.0)
        return RedisLedger(settings, uid, opens_after_ms=0)

    def pass_time(self, milliseconds: int) -> None:
        time.sleep(milliseconds / 1000)


@contextlib.contextmanager
def redis_backend(directory: Path) -> Iterator[Backend]:
    with redis_server(directory) as port:
        yield RedisBackend(port)


class LedgerCounts:
    """What a client says of its ledger."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str | None]] = Counter()
        self.kept_in_journal = 0
        self.lost_for_good = 0
        self.is_durable: bool | None = None

    def called(self, operation: str, seconds: float, error: str | None) -> None:
        assert seconds >= 0
        self.calls[operation, error] += 1

    def journaled(self, count: int) -> None:
        self.kept_in_journal += count

    def lost(self, count: int) -> None:
        self.lost_for_good += count

    def durable(self, durable: bool) -> None:
        self.is_durable = durable


@contextlib.asynccontextmanager
async def ledger_client(
    ledger: Ledger,
    directory: Path,
    *,
    metrics: LedgerMetrics | None = None,
    deadline_seconds: float = 5.0,
    pace: Pace | None = None,
) -> AsyncIterator[LedgerClient]:
    """A client with its journal in `directory`; it closes the ledger."""
    journal = await asyncio.to_thread(open_journal, directory, "uid")
    async with LedgerClient(
        ledger,
        deadline_seconds=deadline_seconds,
        journal=journal,
        metrics=metrics or LedgerCounts(),
        pace=pace or Pace(),
    ) as client:
        yield client


BACKENDS: Mapping[str, Callable[[Path], AbstractContextManager[Backend]]] = {
    "sqlite": sqlite_backend,
    "redis": redis_backend,
}

"""Reads a ledger past the product: balances and records of attempts as they lie in Redis or in the file.

Owns that reading, and the watch that reads balances all the time. It must not know what they should be.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

import redis as redis_client
from redis.backoff import NoBackoff
from redis.retry import Retry
from tests.proof.setting import BUCKET_MS, MINUTE, SPAN_MS, UID

from foresail_sidecar.ledger.sqlite.schema import ledger_path

POLL_SECONDS: Final = 0.05
_READ_SECONDS: Final = 0.5
_LINES_OF_AN_ENTRY: Final = 7
_UNRESERVED: Final = "-unreserved"


@dataclass(frozen=True)
class Entry:
    """What an attempt took from one account: in which slot, how much was reserved and how much settled."""

    account: str
    slot_ms: int
    reserved: int
    settled: int


@dataclass(frozen=True)
class Record:
    """One attempt: `reserved`, `ended` or `abandoned`. `basis` is what its settlement rests on."""

    state: str
    basis: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Balance:
    """Spent and reserved of one account, over all slots that count at that moment."""

    spent: int
    reserved: int


@dataclass(frozen=True)
class Poll:
    """All balances at one moment, in seconds of the Unix epoch."""

    seconds: float
    balances: Mapping[str, Balance]


class Reader(Protocol):
    """A ledger that is only looked at. Everything raises `Unreadable` while it cannot be."""

    def poll(self) -> Poll: ...

    def records(self) -> dict[str, Record]: ...

    def bytes_used(self) -> int: ...

    def close(self) -> None: ...


class Unreadable(Exception):
    """The ledger is away."""


class RedisReader:
    """Reads the keys of a policy on a Redis."""

    def __init__(self, port: int, accounts: Iterable[str]) -> None:
        self._accounts = tuple(accounts)
        self._redis = redis_client.Redis(
            "127.0.0.1",
            port,
            socket_timeout=_READ_SECONDS,
            socket_connect_timeout=_READ_SECONDS,
            # A read that fails is counted, and not repeated until it succeeds.
            retry=Retry(NoBackoff(), 0),
        )
        self._prefix = f"{{foresail:{quote(UID, safe='')}}}:"

    def poll(self) -> Poll:
        """Return the balances, read in one transaction with the server's clock."""
        with self._reading(), self._redis.pipeline(transaction=True) as pipeline:
            pipeline.time()
            for account in self._accounts:
                pipeline.hgetall(f"{self._prefix}u:{account}")
            (seconds, micros), *found = pipeline.execute()
        now_ms = seconds * 1000 + micros // 1000
        balances = {}
        for name, fields in zip(self._accounts, found, strict=True):
            slots = {int(field[1:]) for field in fields if field[:1] in b"sr" and field[1:].isdigit()}
            counted = [slot for slot in slots if _counts(name, slot, now_ms)]
            balances[name] = Balance(
                sum(int(fields.get(b"s%d" % slot, 0)) for slot in counted),
                sum(int(fields.get(b"r%d" % slot, 0)) for slot in counted),
            )
        return Poll(seconds + micros / 1e6, balances)

    def records(self) -> dict[str, Record]:
        """Return the records of all attempts."""
        prefix = f"{self._prefix}a:"
        with self._reading():
            keys: list[bytes] = list(self._redis.scan_iter(f"{prefix}*", count=5000))
            found: dict[str, Record] = {}
            for start in range(0, len(keys), 1000):
                some = keys[start : start + 1000]
                values: list[Any] = self._redis.mget(some)
                for key, value in zip(some, values, strict=True):
                    if value is not None:
                        found[key.decode().removeprefix(prefix)] = _redis_record(value.decode())
        return found

    def bytes_used(self) -> int:
        """Return the memory of the server's data."""
        with self._reading():
            return int(self._redis.info("memory")["used_memory"])

    def close(self) -> None:
        """Disconnect."""
        self._redis.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (redis_client.RedisError, OSError) as error:
            raise Unreadable(type(error).__name__) from None


class SqliteReader:
    """Reads the file of a policy's embedded ledger."""

    _STATES: Final = ("reserved", "ended", "abandoned")

    def __init__(self, directory: Path) -> None:
        self._path = ledger_path(directory, UID)

    def poll(self) -> Poll:
        """Return the balances, read in one statement, with this machine's clock, which is the ledger's."""
        rows = self._rows("SELECT account, slot, spent, reserved FROM usage")
        seconds = time.time()
        sums: dict[str, tuple[int, int]] = {}
        for account, slot, spent, reserved in rows:
            if _counts(account, slot, int(seconds * 1000)):
                before = sums.get(account, (0, 0))
                sums[account] = (before[0] + spent, before[1] + reserved)
        return Poll(seconds, {account: Balance(*both) for account, both in sums.items()})

    def records(self) -> dict[str, Record]:
        """Return the records of all attempts."""
        found = {}
        for attempt, state, basis, entries, amounts in self._rows(
            "SELECT id, state, basis, entries, amounts FROM attempt"
        ):
            settled = json.loads(amounts)
            found[attempt] = Record(
                self._STATES[state],
                basis,
                tuple(
                    Entry(account, slot, reserved, settled[index] if index < len(settled) else 0)
                    for index, (account, slot, _, reserved, _) in enumerate(json.loads(entries))
                ),
            )
        return found

    def bytes_used(self) -> int:
        """Return the size of the file."""
        return self._path.stat().st_size

    def close(self) -> None:
        """Nothing is held open."""

    def _rows(self, query: str) -> list[Any]:
        try:
            uri = f"{self._path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=_READ_SECONDS)) as connection:
                return connection.execute(query).fetchall()
        except sqlite3.Error as error:
            raise Unreadable(type(error).__name__) from None


@dataclass
class Watch:
    """Reads the balances every 50 ms in a thread of its own. `away` counts the reads for which the ledger did not answer."""

    open_reader: Callable[[], Reader]
    polls: list[Poll] = field(default_factory=list)
    away: int = 0
    _ending: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def _run(self) -> None:
        reader = self.open_reader()
        due = time.monotonic()
        while not self._ending.is_set():
            try:
                self._keep(reader.poll())
            except Unreadable:
                self.away += 1
            due = max(due + POLL_SECONDS, time.monotonic())
            self._ending.wait(max(0.0, due - time.monotonic()))
        reader.close()

    def _keep(self, poll: Poll) -> None:
        self.polls.append(poll)


def by_attempt(records: Mapping[str, Record]) -> dict[str, Sequence[Record]]:
    """Return the records of each attempt: that of its reservation, and that of what went on without one."""
    found: dict[str, list[Record]] = {}
    for name, record in records.items():
        found.setdefault(name.removesuffix(_UNRESERVED), []).append(record)
    return {attempt: tuple(each) for attempt, each in found.items()}


def _counts(account: str, slot_ms: int, now_ms: int) -> bool:
    return account != MINUTE or slot_ms + BUCKET_MS > now_ms - SPAN_MS


def _redis_record(text: str) -> Record:
    state, _, basis, _, _, _, *rest = text.split("\n")[:-1]
    entries = []
    for start in range(0, len(rest), _LINES_OF_AN_ENTRY):
        account, slot, _, reserved, _, _, settled = rest[start : start + _LINES_OF_AN_ENTRY]
        entries.append(Entry(account, int(slot), int(reserved), int(settled)))
    return Record(state, basis, tuple(entries))

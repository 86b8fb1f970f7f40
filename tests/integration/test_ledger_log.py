"""The log of an embedded ledger begins anew while it is written to, and what was in it is in the file."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from foresail_sidecar.ledger.interface import Claim, Granted, Held, Measure, Option, ReserveRequest
from foresail_sidecar.ledger.sqlite import checkpoints
from foresail_sidecar.ledger.sqlite.backend import SqliteLedger

ROUND = 20
SECONDS = 30.0
CLAIM = Claim("b|all|", Held(), Measure.MONEY, 10**12)


async def reserve(ledger: SqliteLedger, number: int) -> None:
    answer = await ledger.reserve(ReserveRequest(f"attempt-{number}", (CLAIM,), (Option(1, 1),), 60_000))
    assert isinstance(answer, Granted)


def times_begun(path: Path) -> int:
    """Return how often the log has begun anew, as its head says."""
    with path.with_name(f"{path.name}-wal").open("rb") as log:
        return int.from_bytes(log.read(32)[12:16], "big")


async def reserve_until_begun(ledger: SqliteLedger, path: Path, times: int) -> int:
    number = 0
    async with asyncio.timeout(SECONDS):
        while number == 0 or times_begun(path) < times:
            number += 1
            await reserve(ledger, number)
    return number


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_COMMITS_IN_A_ROUND", ROUND)


async def test_a_log_that_is_always_written_to_begins_anew_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    ledger = SqliteLedger(path)
    count = await reserve_until_begun(ledger, path, 3)
    assert [usage.reserved for usage in await ledger.usage((CLAIM,))] == [count]
    await ledger.close()
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT count(*) FROM attempt").fetchone() == (count,)
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_log_begins_anew_though_another_process_writes_to_it_as_well(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    ledger, other = SqliteLedger(path), SqliteLedger(path)
    writes = asyncio.create_task(reserve_on(other))
    await reserve_until_begun(ledger, path, 2)
    writes.cancel()
    await asyncio.wait([writes])
    await asyncio.gather(ledger.close(), other.close())


async def reserve_on(ledger: SqliteLedger) -> None:
    number = 1_000_000
    while True:
        number += 1
        await reserve(ledger, number)


async def test_a_file_that_is_gone_is_not_made_again_by_a_round(tmp_path: Path) -> None:
    path = tmp_path / "gone.sqlite3"
    rounds = checkpoints.Checkpoints(path)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE one (number INTEGER)")
        for number in range(ROUND):
            connection.execute("INSERT INTO one VALUES (?)", (number,))
            rounds.committed(connection)
    rounds.close()
    assert not path.exists()


async def test_commits_that_write_nothing_begin_no_round(tmp_path: Path) -> None:
    """A round on a log that was moved to its end already is what releases of SQLite before 3.51.3 must be kept from."""
    path = tmp_path / "ledger.sqlite3"
    ledger = SqliteLedger(path)
    await reserve_until_begun(ledger, path, 1)
    before = times_begun(path)
    for _ in range(5 * ROUND):
        await ledger.status()
    await reserve(ledger, 1_000_000)
    assert times_begun(path) <= before + 1
    for _ in range(5 * ROUND):
        await ledger.status()
    begun = times_begun(path)
    await reserve(ledger, 1_000_001)
    assert times_begun(path) == begun
    await ledger.close()

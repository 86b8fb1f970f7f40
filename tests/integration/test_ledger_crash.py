"""What an embedded ledger acknowledged survives kill -9, a torn write, a file that was swapped, and wrong files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support.ledgers import FAR_MS, SqliteBackend

from foresail_api.errors import UserError
from foresail_sidecar.ledger.interface import (
    CalendarSpan,
    Claim,
    DataLost,
    Granted,
    Held,
    LedgerClosed,
    LedgerUnavailable,
    Measure,
    Option,
    Receipt,
    ReserveRequest,
    RollingSpan,
    Settled,
)
from foresail_sidecar.ledger.sqlite.backend import SqliteLedger, open_sqlite
from foresail_sidecar.ledger.sqlite.schema import volatile_file_system

LEASE_MS = 60_000
DEADLINE_SECONDS = 30.0
CLAIM = Claim("b|month|", CalendarSpan(((1_000, FAR_MS),)), Measure.MONEY, 10**12)
SLOTS = Claim("u|m|a|slots", Held(), Measure.SLOTS, 10, amount=1)

# Reserves and settles from 16 tasks until it is killed, and prints each id once its reservation is acknowledged.
SPENDER = """
import asyncio, sys
from pathlib import Path
from foresail_sidecar.ledger.interface import *
from foresail_sidecar.ledger.sqlite.backend import SqliteLedger

async def spend(ledger, task):
    claim = Claim("b|month|", CalendarSpan(((1_000, 4_000_000_000_000),)), Measure.MONEY, 10**12)
    number = 0
    while True:
        number += 1
        attempt = f"{sys.argv[2]}-{task}-{number}"
        granted = await ledger.reserve(ReserveRequest(attempt, (claim,), (Option(10, 10),), 60_000))
        print("reserved", attempt, flush=True)
        if number % 2:
            await ledger.settle([Settled(attempt, 1, "Reported", granted.receipt, (7,))])
            print("settled", attempt, flush=True)

async def main():
    ledger = SqliteLedger(Path(sys.argv[1]), busy_seconds=10.0)
    await asyncio.gather(*(spend(ledger, task) for task in range(16)))

asyncio.run(main())
"""


def spenders(path: Path, count: int) -> list[subprocess.Popen[str]]:
    return [
        subprocess.Popen([sys.executable, "-c", SPENDER, str(path), f"p{n}"], stdout=subprocess.PIPE, text=True)
        for n in range(count)
    ]


def kill_after(process: subprocess.Popen[str], lines: int) -> list[tuple[str, str]]:
    """Read so many acknowledgements, kill the process, and return all that it managed to print whole."""
    assert process.stdout is not None
    printed = [process.stdout.readline() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    printed += process.stdout.readlines()
    process.wait(DEADLINE_SECONDS)
    process.stdout.close()
    whole = [line.split() for line in printed if line.endswith("\n")]
    return [(what, attempt) for what, attempt in whole]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def killed(path: Path) -> Iterator[list[tuple[str, str]]]:
    processes = spenders(path, 2)
    try:
        yield [line for process in processes for line in kill_after(process, 60)]
    finally:
        for process in processes:
            process.kill()


async def assert_acknowledged(path: Path, acknowledged: list[tuple[str, str]]) -> None:
    reserved = [attempt for what, attempt in acknowledged if what == "reserved"]
    settled = {attempt for what, attempt in acknowledged if what == "settled"}
    ledger = SqliteLedger(path)
    (usage,) = await ledger.usage([CLAIM])
    gone = await ledger.renew(reserved, LEASE_MS)
    await ledger.close()
    assert settled <= gone
    # What was done and not acknowledged any more may be there as well: at most one operation of each task.
    assert usage.spent >= 7 * len(settled)
    assert usage.reserved >= 10 * (len(reserved) - len(gone))
    assert usage.spent + usage.reserved <= 10 * (len(reserved) + 2 * 16)
    assert usage.spent <= 7 * (len(settled) + 2 * 16)


async def test_what_was_acknowledged_survives_the_kill_of_two_processes(
    path: Path, killed: list[tuple[str, str]]
) -> None:
    await assert_acknowledged(path, killed)


@pytest.mark.parametrize("torn", [b"", b"\x00" * 2000, os.urandom(24 + 4096 + 700)])
async def test_a_torn_write_at_the_end_of_the_log_is_left_out(
    path: Path, killed: list[tuple[str, str]], torn: bytes
) -> None:
    with path.with_name(path.name + "-wal").open("ab") as log:
        log.write(torn)
    path.with_name(path.name + "-shm").unlink()
    await assert_acknowledged(path, killed)


async def test_a_log_that_lost_its_end_loses_only_that(path: Path, killed: list[tuple[str, str]]) -> None:
    log = path.with_name(path.name + "-wal")
    os.truncate(log, log.stat().st_size - 1000)
    path.with_name(path.name + "-shm").unlink()
    ledger = SqliteLedger(path)
    (usage,) = await ledger.usage([CLAIM])
    granted = await ledger.reserve(ReserveRequest("after", (CLAIM,), (Option(10, 10),), LEASE_MS))
    await ledger.close()
    assert usage.spent > 0
    assert isinstance(granted, Granted)


async def test_a_process_gets_its_turn_beside_one_that_writes_all_the_time(path: Path) -> None:
    ledger = SqliteLedger(path, busy_seconds=1.0)
    await ledger.status()
    ends = threading.Event()

    def write_all_the_time() -> None:
        with contextlib.closing(sqlite3.connect(path, timeout=5.0, isolation_level=None)) as connection:
            while not ends.is_set():
                connection.execute("BEGIN IMMEDIATE")
                time.sleep(0.02)
                connection.execute("COMMIT")
                time.sleep(0.0005)

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(write_all_the_time)
        try:
            for number in range(10):
                # Long enough that the other one writes again.
                await asyncio.sleep(0.03)
                request = ReserveRequest(f"turn-{number}", (CLAIM,), (Option(1, 1),), LEASE_MS)
                assert isinstance(await ledger.reserve(request), Granted)
        finally:
            ends.set()
        other.result(timeout=DEADLINE_SECONDS)
    await ledger.close()


async def test_a_file_that_is_no_ledger_is_refused_with_a_remedy(tmp_path: Path) -> None:
    wrong = tmp_path / "ledger.sqlite3"
    wrong.write_bytes(b"not a database" * 100)
    with pytest.raises(UserError, match="move this file away"):
        await open_sqlite(wrong)
    ledger = SqliteLedger(wrong)
    with pytest.raises(LedgerUnavailable):
        await ledger.status()
    await ledger.close()


async def test_many_processes_may_make_the_file_at_once(path: Path) -> None:
    processes = spenders(path, 3)
    acknowledged = [line for process in processes for line in kill_after(process, 1)]
    assert {attempt.split("-")[0] for _, attempt in acknowledged} == {"p0", "p1", "p2"}


async def reserve(ledger: SqliteLedger, attempt: str, amount: int) -> Granted:
    option = Option(amount, amount, claims=(SLOTS,))
    answer = await ledger.reserve(ReserveRequest(attempt, (CLAIM,), (option,), LEASE_MS))
    assert isinstance(answer, Granted)
    return answer


async def used(ledger: SqliteLedger) -> list[tuple[int, int]]:
    return [(usage.spent, usage.reserved) for usage in await ledger.usage([CLAIM, SLOTS])]


def remove_ledgers(directory: Path) -> None:
    for each in directory.glob("ledger-*"):
        each.unlink()


def only_ledger(directory: Path) -> Path:
    (path,) = directory.glob("*.sqlite3")
    return path


@pytest.mark.parametrize("stale", [False, True])
async def test_a_ledger_that_lost_data_is_put_together_from_what_was_seen_of_it(tmp_path: Path, stale: bool) -> None:
    backend = SqliteBackend(tmp_path)
    first, second = backend.open("uid"), backend.open("uid")
    spent = await reserve(first, "spent", 100)
    await first.settle([Settled("spent", 1, "Reported", spent.receipt, (70, 0))])
    file = only_ledger(tmp_path)
    # A copy taken while the ledger rests: its log is folded in first.
    await first.close()
    await second.close()
    shutil.copy(file, tmp_path / "old-copy")
    first, second = backend.open("uid"), backend.open("uid")

    mine = await reserve(first, "mine", 10)
    dead = await reserve(first, "dead", 5)
    theirs = await reserve(second, "theirs", 20)
    assert await used(first) == [(70, 35), (0, 3)]

    remove_ledgers(tmp_path)
    if stale:
        shutil.copy(tmp_path / "old-copy", file)
    backend.pass_time(2_000)

    with pytest.raises(DataLost):
        await first.reserve(ReserveRequest("x", (CLAIM,), (Option(1, 1),), LEASE_MS))
    await first.restore(dead.usages, [(mine.receipt, LEASE_MS)])
    with pytest.raises(LedgerClosed) as closed:
        await first.reserve(ReserveRequest("x", (CLAIM,), (Option(1, 1),), LEASE_MS))
    assert 0 < closed.value.opens_in_seconds <= 3
    with pytest.raises(LedgerClosed):
        await first.settle([Settled("mine", 1, "Reported", mine.receipt, (1, 0))])
    with pytest.raises(LedgerClosed):
        # Who tells last may know the most.
        await first.usage([CLAIM])
    assert await first.renew(["mine", "dead"], LEASE_MS) == {"dead"}

    with pytest.raises(DataLost):
        await second.status()
    await second.restore(theirs.usages, [(theirs.receipt, LEASE_MS)])

    backend.pass_time(3_100)
    # Nobody claimed the 5 of the dead process: they are spent. What is held there is held no more.
    assert await used(second) == [(75, 30), (0, 2)]
    await second.settle([Settled("theirs", 1, "Reported", theirs.receipt, (20, 0))])
    await first.settle([Settled("mine", 1, "Reported", mine.receipt, (1, 0))])
    await first.settle([Settled("spent", 1, "Reported", spent.receipt, (70, 0))])
    # A file without its records cannot know that this one was settled before: it is counted twice, never too little.
    assert await used(first) == [(96 if stale else 166, 0), (0, 0)]
    assert (await first.status()).generation == 2
    await first.close()
    await second.close()


async def test_a_settlement_that_opens_a_restored_ledger_finds_its_reservation_spent(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path)
    ledger = backend.open("uid")
    unclaimed = await reserve(ledger, "unclaimed", 5)
    await ledger.close()
    shutil.copy(only_ledger(tmp_path), tmp_path / "old-copy")
    ledger = backend.open("uid")
    held = await reserve(ledger, "held", 10)
    file = only_ledger(tmp_path)
    remove_ledgers(tmp_path)
    shutil.copy(tmp_path / "old-copy", file)
    backend.pass_time(2_000)
    with pytest.raises(DataLost):
        await ledger.status()
    await ledger.restore(held.usages, [(held.receipt, LEASE_MS)])
    backend.pass_time(3_100)
    await ledger.settle([Settled("unclaimed", 1, "Reported", unclaimed.receipt, (3, 0))])
    assert await used(ledger) == [(3, 10), (0, 1)]
    await ledger.close()


async def test_who_tells_late_is_still_heard(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path)
    first, late = backend.open("uid"), backend.open("uid")
    before = await reserve(first, "before", 10)
    held = await reserve(late, "held", 30)
    remove_ledgers(tmp_path)
    backend.pass_time(2_000)
    with pytest.raises(DataLost):
        await first.status()
    await first.restore(before.usages, [(before.receipt, LEASE_MS)])
    backend.pass_time(4_000)
    assert await used(first) == [(0, 10), (0, 1)]
    after = await reserve(first, "after", 7)
    await first.settle([Settled("after", 1, "Reported", after.receipt, (5, 0))])
    assert await used(first) == [(5, 10), (0, 1)]
    with pytest.raises(DataLost):
        await late.status()
    # What it saw is later knowledge of the time before the loss, and takes nothing from what was spent since.
    await late.restore(held.usages, [(held.receipt, LEASE_MS)])
    assert await used(first) == [(5, 40), (0, 2)]
    await late.settle([Settled("held", 1, "Reported", held.receipt, (20, 0))])
    assert await used(first) == [(25, 10), (0, 1)]
    await first.close()
    await late.close()


async def test_a_rolling_window_is_restored_as_the_sum_that_was_seen(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path)
    rolling = Claim("b|rolling|", RollingSpan(600_000, 10_000), Measure.MONEY, 10**12)
    ledger = backend.open("uid")
    granted = []
    for attempt in ("first", "second", "third"):
        answer = await ledger.reserve(ReserveRequest(attempt, (rolling,), (Option(10, 10),), LEASE_MS))
        assert isinstance(answer, Granted)
        granted.append(answer)
        await ledger.settle([Settled("first", 1, "Reported", granted[0].receipt, (4,))])
        backend.pass_time(15_000)
    (seen,) = await ledger.usage([rolling])
    assert (seen.spent, seen.reserved) == (4, 20)
    remove_ledgers(tmp_path)
    backend.pass_time(2_000)
    with pytest.raises(DataLost):
        await ledger.status()
    await ledger.restore([seen], [(granted[1].receipt, LEASE_MS)])
    backend.pass_time(4_000)
    (usage,) = await ledger.usage([rolling])
    assert (usage.spent, usage.reserved) == (14, 10)
    await ledger.close()


async def test_records_and_windows_are_deleted_when_their_time_is_over(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path)
    hour = 3_600_000
    now = backend.now_ms
    window = CalendarSpan(((now - 1000, now + hour),))
    ledger = backend.open("uid")
    claim = Claim("b|hour|", window, Measure.MONEY, 100)
    answer = await ledger.reserve(ReserveRequest("old", (claim,), (Option(10, 10),), LEASE_MS))
    assert isinstance(answer, Granted)
    await ledger.settle([Settled("old", 1, "Reported", answer.receipt, (10,))])
    assert answer.usages[0].ends_ms == now + hour
    backend.pass_time(30 * hour)
    await ledger.status()
    # Without its record the id is unknown: what is settled now is spend of its own, in the window that has gone.
    (usage,) = await ledger.settle([Settled("old", 1, "Reported", answer.receipt, (10,))])
    assert (usage.spent, usage.ends_ms) == (10, None)
    await ledger.close()


async def test_more_old_records_than_are_deleted_at_once_go_with_the_next_commits(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path)
    ledger = backend.open("uid")
    receipts = [Receipt(f"attempt-{number}", 1, ()) for number in range(2_500)]
    await ledger.settle([Settled(receipt.attempt_id, 1, "Reported", receipt, ()) for receipt in receipts])
    backend.pass_time(25 * 3_600_000)
    for _ in range(3):
        await ledger.status()
    await ledger.close()
    with contextlib.closing(sqlite3.connect(only_ledger(tmp_path))) as connection:
        assert connection.execute("SELECT count(*) FROM attempt").fetchone() == (0,)


def test_a_directory_in_memory_is_not_durable() -> None:
    assert volatile_file_system(Path("/dev/shm")) == "tmpfs"  # noqa: S108
    assert volatile_file_system(Path("/proc")) is None

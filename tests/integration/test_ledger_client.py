"""What the client of a ledger keeps up: deadlines, leases, settlements that arrive, and a ledger that lost its data."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.ledgers import FAR_MS, LedgerCounts, SqliteBackend, ledger_client

from foresail_sidecar.ledger.client import Availability, LedgerClient, Pace
from foresail_sidecar.ledger.interface import (
    CalendarSpan,
    Claim,
    DataLost,
    Denied,
    Granted,
    LedgerClosed,
    LedgerUnavailable,
    Measure,
    Option,
    Receipt,
    ReserveRequest,
    RollingSpan,
    Usage,
)
from foresail_sidecar.ledger.sqlite.backend import SqliteLedger

CLAIM = Claim("b|month|", CalendarSpan(((1_000, FAR_MS),)), Measure.MONEY, 100)
FAST = Pace(lease_ms=600_000, renew_seconds=0.0, heartbeat_seconds=0.05)
WAIT_SECONDS = 60.0


def budgets(now_ms: int) -> tuple[Claim, ...]:
    assert now_ms > 0
    return (CLAIM,)


def option(amount: int) -> tuple[Option, ...]:
    return (Option(amount, amount),)


async def eventually(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not await true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def until(true: Callable[[], bool]) -> None:
    async def check() -> bool:
        return true()

    await eventually(check)


async def used(client: LedgerClient) -> tuple[int, int] | None:
    """Spent and reserved; None while the ledger does not answer."""
    with contextlib.suppress(LedgerUnavailable):
        (usage,) = await client.usage([CLAIM])
        return usage.spent, usage.reserved
    return None


async def becomes(client: LedgerClient, spent: int, reserved: int = 0) -> None:
    async def check() -> bool:
        return await used(client) == (spent, reserved)

    await eventually(check)


async def reserve(client: LedgerClient, attempt: str, amount: int) -> Granted:
    """Reserve, and again under another id where a busy machine missed the deadline: that one is given back."""
    for number in range(100):
        with contextlib.suppress(LedgerUnavailable):
            answer = await client.reserve(f"{attempt}-{number}", budgets, option(amount))
            assert isinstance(answer, Granted)
            return answer
        await asyncio.sleep(0.3)
    raise AssertionError("the ledger never answered")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@contextlib.contextmanager
def stalled(path: Path) -> Iterator[None]:
    """Another process that holds the ledger's lock, so that nothing can be written."""
    with contextlib.closing(sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def ledger(path: Path, busy_seconds: float = WAIT_SECONDS) -> SqliteLedger:
    return SqliteLedger(path, busy_seconds=busy_seconds)


async def test_an_attempt_is_reserved_settled_and_corrected(path: Path, tmp_path: Path) -> None:
    metrics = LedgerCounts()
    async with ledger_client(ledger(path), tmp_path, metrics=metrics, pace=FAST) as client:
        granted = await reserve(client, "a", 60)
        assert (client.state.live, client.state.availability) == (1, Availability.AVAILABLE)
        denied = await client.reserve("b", budgets, option(60))
        assert isinstance(denied, Denied)
        client.settle(granted.receipt, (45,), "Assumed")
        assert client.state.live == 0
        await becomes(client, 45)
        client.settle(granted.receipt, (20,), "Reported")
        await becomes(client, 20)
        seen = client.seen("b|month|")
        assert seen is not None
        assert (seen.spent, seen.reserved) == (20, 0)
        await until(lambda: metrics.is_durable is not None)
    assert metrics.calls["Reserve", None] == 2


async def test_what_was_settled_at_the_end_arrives(path: Path, tmp_path: Path) -> None:
    async with ledger_client(ledger(path), tmp_path) as client:
        granted = await reserve(client, "a", 60)
        client.settle(granted.receipt, (45,), "Reported")
    async with ledger_client(ledger(path), tmp_path) as client:
        assert await used(client) == (45, 0)


async def test_a_lease_is_renewed_while_its_attempt_lives_and_ends_with_its_process(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path)
    metrics = LedgerCounts()
    pace = replace(FAST, lease_ms=15_000)
    async with ledger_client(backend.open("uid"), tmp_path, metrics=metrics, pace=pace) as client:
        await reserve(client, "lives", 30)
        for _ in range(4):
            backend.pass_time(5_000)
            beats = metrics.calls["Renew", None]
            await until(lambda beats=beats: metrics.calls["Renew", None] >= beats + 2)
        assert await used(client) == (0, 30)
    backend.pass_time(20_000)
    async with ledger_client(backend.open("uid"), tmp_path, pace=pace) as client:
        await becomes(client, 30)


class KeepsWhatIsAbandoned(SqliteLedger):
    """A ledger that is always too late to give anything back."""

    async def abandon(self, attempt_ids: Sequence[str]) -> None:
        raise LedgerUnavailable("too late")


async def test_leases_are_renewed_also_while_nothing_can_be_given_back(path: Path, tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path)
    metrics = LedgerCounts()
    late = KeepsWhatIsAbandoned(path, busy_seconds=WAIT_SECONDS, clock_ms=lambda: backend.now_ms)
    async with ledger_client(late, tmp_path, metrics=metrics, pace=replace(FAST, lease_ms=15_000)) as client:
        await reserve(client, "lives", 30)
        task = asyncio.create_task(client.reserve("leaves", budgets, option(20)))
        await asyncio.sleep(0)
        task.cancel()
        await until(lambda: metrics.calls["Abandon", "Unavailable"] > 0)
        for _ in range(4):
            backend.pass_time(5_000)
            beats = metrics.calls["Renew", None]
            await until(lambda beats=beats: metrics.calls["Renew", None] >= beats + 2)
        usage = await used(client)
        assert usage is not None
        assert usage[1] >= 30


class LosesAnswers(SqliteLedger):
    """A ledger that reserves, and whose answers never come."""

    async def reserve(self, request: ReserveRequest) -> Granted | Denied:
        await super().reserve(request)
        raise LedgerUnavailable("the answer was lost")


async def test_what_is_abandoned_at_the_end_is_given_back(path: Path, tmp_path: Path) -> None:
    async with ledger_client(LosesAnswers(path, busy_seconds=WAIT_SECONDS), tmp_path) as client:
        with pytest.raises(LedgerUnavailable):
            await client.reserve("a", budgets, option(60))
    async with ledger_client(ledger(path), tmp_path) as client:
        assert await used(client) == (0, 0)


async def test_a_stalled_ledger_is_unavailable_and_what_it_did_late_is_given_back(path: Path, tmp_path: Path) -> None:
    async with ledger_client(ledger(path), tmp_path, deadline_seconds=0.2, pace=FAST) as client:
        await reserve(client, "before", 10)
        with stalled(path):
            refusals = []
            for number in range(6):
                with pytest.raises(LedgerUnavailable) as refused:
                    await client.reserve(f"late-{number}", budgets, option(10))
                refusals.append(str(refused.value))
            assert refusals[0] == "the ledger did not answer within 0.2 s"
            assert "the ledger did not answer lately" in refusals
            assert client.state.availability == Availability.UNAVAILABLE
        await becomes(client, 0, 10)
        assert client.state.availability == Availability.AVAILABLE


async def test_a_client_that_leaves_while_it_is_reserved_for_holds_nothing(path: Path, tmp_path: Path) -> None:
    async with ledger_client(ledger(path), tmp_path, pace=FAST) as client:
        await reserve(client, "stays", 10)
        task = asyncio.create_task(client.reserve("leaves", budgets, option(20)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await becomes(client, 0, 10)


async def test_settlements_outlive_a_stalled_ledger_and_the_process(path: Path, tmp_path: Path) -> None:
    metrics = LedgerCounts()
    async with ledger_client(ledger(path, 0.1), tmp_path, metrics=metrics, pace=FAST) as client:
        first, second = await reserve(client, "first", 30), await reserve(client, "second", 30)
        third = await reserve(client, "third", 30)
        with stalled(path):
            client.settle(first.receipt, (11,), "Reported")
            await until(lambda: client.state.journaled == 1)
            client.settle(second.receipt, (22,), "Counted")
            await until(lambda: client.state.journaled == 2)
        await until(lambda: client.state.journaled == 0)
        await becomes(client, 33, 30)
        with stalled(path):
            client.settle(third.receipt, (7,), "Reported")
            await client.aclose(0.3)
    assert metrics.kept_in_journal >= 3
    assert metrics.lost_for_good == 0
    async with ledger_client(ledger(path), tmp_path) as client:
        await becomes(client, 40)
        await until(lambda: client.state.journaled == 0)


async def test_the_ledgers_clock_decides_which_windows_are_computed(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path)
    backend.pass_time(400 * 86_400_000)
    asked: list[int] = []

    def hour(now_ms: int) -> tuple[Claim, ...]:
        asked.append(now_ms)
        start = now_ms // 3_600_000 * 3_600_000
        return (Claim("b|hour|", CalendarSpan(((start, start + 3_600_000),)), Measure.MONEY, 100),)

    async with ledger_client(backend.open("uid"), tmp_path) as client:
        assert isinstance(await client.reserve("a", hour, option(10)), Granted)
        assert len(asked) == 2
        assert abs(client.now_ms() - backend.now_ms) < 3_600_000
        assert isinstance(await client.reserve("b", hour, option(10)), Granted)
        assert len(asked) == 3


async def test_a_ledger_that_loses_its_data_is_told_what_was_seen(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path)
    async with ledger_client(backend.open("uid"), tmp_path / "journal", pace=FAST) as client:
        settled = await reserve(client, "settled", 40)
        client.settle(settled.receipt, (35,), "Reported")
        await becomes(client, 35)
        living = await reserve(client, "living", 20)
        for file in tmp_path.glob("ledger-*"):  # noqa: ASYNC240
            file.unlink()
        backend.pass_time(2_000)
        with pytest.raises(LedgerClosed):
            await client.reserve("x", budgets, option(1))
        await until(lambda: client.state.availability == Availability.CLOSED)
        backend.pass_time(3_100)
        denied = await client.reserve("too much", budgets, option(46))
        assert isinstance(denied, Denied)
        assert (denied.shortages[0].spent, denied.shortages[0].reserved) == (35, 20)
        client.settle(living.receipt, (15,), "Reported")
        await becomes(client, 50)


class NeverRestored(SqliteLedger):
    """A ledger that lost its data and does not answer who tells it what was seen."""

    async def reserve(self, request: ReserveRequest) -> Granted | Denied:
        raise DataLost(7)

    async def restore(self, seen: Sequence[Usage], live: Sequence[tuple[Receipt, int]]) -> None:
        await asyncio.get_running_loop().create_future()


async def test_many_who_find_a_ledger_lost_wait_for_one_restoration_and_not_for_one_each(
    path: Path, tmp_path: Path
) -> None:
    metrics = LedgerCounts()
    async with ledger_client(NeverRestored(path), tmp_path, metrics=metrics, deadline_seconds=0.2) as client:
        together = [client.reserve(str(number), budgets, option(1)) for number in range(50)]
        answers = await asyncio.gather(*together, return_exceptions=True)
    assert {type(answer) for answer in answers} == {LedgerUnavailable}
    assert metrics.calls["Restore", "Unavailable"] == 1


async def test_what_goes_on_without_a_ledger_is_recorded_when_it_is_back(path: Path, tmp_path: Path) -> None:
    rolling = Claim("b|rolling|", RollingSpan(60_000, 1_000), Measure.MONEY, 100)
    async with ledger_client(ledger(path, 0.1), tmp_path, pace=FAST) as client:
        await becomes(client, 0)
        with stalled(path):
            with pytest.raises(LedgerUnavailable):
                await client.reserve("a", budgets, option(10))
            receipt = client.unreserved("a", [CLAIM, rolling])
            assert [(entry.amount, entry.rolling) for entry in receipt.entries] == [(0, False), (0, True)]
            client.settle(receipt, (9, 9), "Reported")
        await until(lambda: client.state.journaled == 0)
        await becomes(client, 9)

        async def rolled() -> bool:
            with contextlib.suppress(LedgerUnavailable):
                return (await client.usage([rolling]))[0].spent == 9
            return False

        await eventually(rolled)


async def test_notes_are_written_soon_and_read_at_once(path: Path, tmp_path: Path) -> None:
    async with ledger_client(ledger(path), tmp_path, pace=FAST) as client:
        client.write_note("calibration", "1")
        client.write_note("calibration", "2")
        assert await client.read_note("calibration") == "2"
        assert await client.read_note("excess") is None
    async with ledger_client(ledger(path), tmp_path) as client:
        assert await client.read_note("calibration") == "2"


async def test_watched_accounts_are_seen_without_a_request(path: Path, tmp_path: Path) -> None:
    async with (
        ledger_client(ledger(path), tmp_path) as other,
        ledger_client(ledger(path), tmp_path, pace=FAST) as client,
    ):
        client.watch(budgets)
        await reserve(other, "elsewhere", 70)
        await until(lambda: (seen := client.seen("b|month|")) is not None and seen.reserved == 70)


async def test_a_beat_that_fails_as_nobody_foresaw_is_not_the_last(path: Path, tmp_path: Path) -> None:
    failures = iter(range(3))

    def watched(now_ms: int) -> tuple[Claim, ...]:
        if next(failures, None) is not None:
            raise RuntimeError("nobody foresaw it")
        return budgets(now_ms)

    async with ledger_client(ledger(path), tmp_path, pace=FAST) as client:
        client.watch(watched)
        await until(lambda: client.seen("b|month|") is not None)
    assert next(failures, None) is None


async def test_a_ledger_says_whether_it_is_open_before_anybody_reserves(path: Path, tmp_path: Path) -> None:
    # No second beat comes in time: the first one has to do.
    slow = Pace(lease_ms=60_000, renew_seconds=600, heartbeat_seconds=600)
    async with ledger_client(ledger(path), tmp_path, pace=slow) as client:
        assert client.state.availability == Availability.UNKNOWN
        await until(lambda: client.state.availability == Availability.AVAILABLE)

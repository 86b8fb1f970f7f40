"""A Redis that restarts, loses what it had or is replaced by one that lags: no budget gets its money back."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support.ledger_replicas import PATIENCE_SECONDS, Replica, eventually, opened, today
from tests.support.redis_server import DURABLE, FORGETFUL, RedisServer, command, running_redis
from tests.support.switch import switch

from foresail_sidecar.ledger.interface import (
    Claim,
    DataLost,
    Denied,
    Granted,
    Held,
    LedgerClosed,
    LedgerUnavailable,
    Measure,
    RollingSpan,
)
from foresail_sidecar.ledger.redis.backend import RedisLedger
from foresail_sidecar.ledger.redis.calls import RedisSettings

OPENS_AFTER_MS = 500
ROLLING = Claim("b|rolling|", RollingSpan(600_000, 10_000), Measure.MONEY, 10_000)
SLOTS = Claim("u|m|a|slots", Held(), Measure.SLOTS, 4, amount=1)


class Replicas:
    """Opens replicas of one ledger and closes them at the end."""

    def __init__(self) -> None:
        self.uid = uuid.uuid4().hex
        self.opened: list[Replica] = []

    def on(self, port: int, number: int = 1, *, opens_after_ms: int = OPENS_AFTER_MS) -> list[Replica]:
        settings = RedisSettings(f"redis://127.0.0.1:{port}", deadline_seconds=5.0)
        ledgers = [RedisLedger(settings, self.uid, opens_after_ms=opens_after_ms) for _ in range(number)]
        found = [Replica(ledger) for ledger in ledgers]
        self.opened += found
        return found


@pytest.fixture
async def replicas() -> AsyncIterator[Replicas]:
    found = Replicas()
    yield found
    for replica in found.opened:
        await replica.ledger.close()


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path / "durable", DURABLE) as server:
        yield server


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path / "forgetful", FORGETFUL) as server:
        yield server


async def test_a_first_start_waits_for_those_who_may_know_more(durable: RedisServer, replicas: Replicas) -> None:
    (replica,) = replicas.on(durable.port)
    with pytest.raises(LedgerClosed) as refused:
        await replica.reserve(1)
    assert 0 < refused.value.opens_in_seconds <= OPENS_AFTER_MS / 1000
    await opened([replica])
    await replica.granted(1)
    assert replica.losses == 0


async def test_a_killed_redis_with_its_file_has_lost_nothing(durable: RedisServer, replicas: Replicas) -> None:
    first, second = replicas.on(durable.port, 2)
    await opened([first, second])
    spent = await first.granted(700)
    await first.settle(spent, 450)
    held = await second.granted(600)
    before = await first.ledger.status()
    durable.kill()
    with pytest.raises(LedgerUnavailable):
        await first.reserve(1)
    durable.start()
    with pytest.raises(LedgerClosed):
        await eventually_closed(first)
    await opened([first, second])
    assert (first.losses, second.losses) == (0, 0)
    assert await first.used() == [(450, 600)]
    await second.settle(held, 100)
    assert await first.used() == [(550, 0)]
    after = await first.ledger.status()
    assert (after.generation, after.opens_ms) == (before.generation, None)
    assert after.sequence > before.sequence


async def test_what_an_emptied_redis_lost_is_told_by_those_who_saw_it(
    forgetful: RedisServer, replicas: Replicas
) -> None:
    first, second, dead, observer = replicas.on(forgetful.port, 4)
    await opened([first])
    await first.settle(await first.granted(700), 450)
    mine, other = await second.granted(600), await second.granted(50, ROLLING, SLOTS)
    await dead.granted(1_000)
    await dead.granted(30, ROLLING, SLOTS)
    await observer.used()
    await second.used(ROLLING, SLOTS)
    await dead.ledger.close()
    forgetful.kill()
    forgetful.start()
    with pytest.raises(DataLost):
        await eventually(lambda: first.ledger.usage((today(),)))
    await opened([first, second, observer])
    # What lived on is reserved as before; what its dead owner cannot claim is spent, concurrency excepted.
    assert await first.used(today(), ROLLING, SLOTS) == [(1_450, 600), (30, 50), (0, 1)]
    await second.settle(mine, 200)
    await second.settle(other, 20, 0)
    assert await first.used(today(), ROLLING, SLOTS) == [(1_650, 0), (50, 0), (0, 0)]
    answer = await first.reserve(8_351)
    assert isinstance(answer, Denied)
    assert isinstance(await first.reserve(8_350), Granted)


async def test_a_new_replica_that_comes_first_gives_nothing_away(forgetful: RedisServer, replicas: Replicas) -> None:
    (old,) = replicas.on(forgetful.port)
    await opened([old])
    await old.settle(await old.granted(9_000), 9_000)
    forgetful.kill()
    forgetful.start()
    (new,) = replicas.on(forgetful.port)
    with pytest.raises(LedgerClosed):
        await eventually_closed(new)
    await eventually(old.beat)
    assert old.losses == 1
    await opened([new, old])
    assert await new.used() == [(9_000, 0)]
    assert isinstance(await new.reserve(1_001), Denied)


async def test_a_settlement_that_was_under_way_is_made_good_after_the_loss(
    forgetful: RedisServer, replicas: Replicas
) -> None:
    (replica,) = replicas.on(forgetful.port, opens_after_ms=2_000)
    await opened([replica])
    receipt = await replica.granted(500)
    forgetful.kill()
    with pytest.raises(LedgerUnavailable):
        await replica.settle(receipt, 120)
    forgetful.start()
    await eventually(replica.beat)
    with pytest.raises(LedgerClosed):
        await replica.settle(receipt, 120)
    await opened([replica])
    await replica.settle(receipt, 120)
    assert await replica.used() == [(120, 0)]


async def test_what_nobody_claims_is_spent_and_a_late_settlement_corrects_it(
    durable: RedisServer, replicas: Replicas, tmp_path: Path
) -> None:
    first, late = replicas.on(durable.port, 2)
    await opened([first, late])
    receipt = await late.granted(500)
    await first.used()
    stale = await stale_copy(durable, tmp_path)
    await first.settle(await first.granted(70), 70)
    durable.kill()
    with running_redis(stale, DURABLE, port=durable.port):
        await opened([first])
        assert first.losses == 1
        assert await first.used() == [(570, 0)]
        await eventually(late.beat)
        assert late.losses == 1
        assert await first.used() == [(70, 500)]
        await late.settle(receipt, 20)
        assert await first.used() == [(90, 0)]


async def test_a_stale_copy_of_the_file_is_brought_up_to_date(
    durable: RedisServer, replicas: Replicas, tmp_path: Path
) -> None:
    first, second = replicas.on(durable.port, 2)
    await opened([first, second])
    early = await first.granted(400, today(), ROLLING)
    await first.settle(await first.granted(100, today(), ROLLING), 60, 60)
    stale = await stale_copy(durable, tmp_path)
    await second.settle(await second.granted(300, today(), ROLLING), 300, 300)
    late = await second.granted(200, today(), ROLLING)
    # The second replica saw the settlement of its 300 in the rolling account when it reserved the 200.
    durable.kill()
    with running_redis(stale, DURABLE, port=durable.port):
        await opened([first, second])
        assert second.losses == 1
        assert await first.used(today(), ROLLING) == [(360, 600), (360, 600)]
        await first.settle(early, 10, 10)
        await second.settle(late, 10, 10)
        assert await first.used(today(), ROLLING) == [(380, 0), (380, 0)]


async def test_a_promoted_replica_that_lags_is_brought_up_to_date(
    durable: RedisServer, replicas: Replicas, tmp_path: Path
) -> None:
    with running_redis(tmp_path / "follower", (*FORGETFUL, "--replicaof", "127.0.0.1", str(durable.port))) as follower:
        async with switch(durable.port) as service:
            first, second = replicas.on(service.port, 2)
            await opened([first, second])
            await first.settle(await first.granted(100), 100)
            held = await second.granted(50)
            await caught_up(durable, follower)
            command(follower.port, "REPLICAOF", "NO", "ONE")
            await second.settle(await second.granted(900), 900)
            service.turn(follower.port)
            await opened([first, second])
            assert second.losses == 1
            assert await first.used() == [(1_000, 50)]
            await second.settle(held, 50)
            assert await first.used() == [(1_050, 0)]


async def test_a_server_that_became_a_replica_takes_nothing(
    durable: RedisServer, replicas: Replicas, tmp_path: Path
) -> None:
    with running_redis(tmp_path / "other", DURABLE) as other:
        (replica,) = replicas.on(durable.port)
        await opened([replica])
        command(durable.port, "REPLICAOF", "127.0.0.1", str(other.port))
        with pytest.raises(LedgerUnavailable, match="ReadOnlyError"):
            await replica.reserve(1)


async def test_two_losses_one_after_the_other(forgetful: RedisServer, replicas: Replicas) -> None:
    first, second = replicas.on(forgetful.port, 2)
    await opened([first, second])
    await first.settle(await first.granted(100), 100)
    held = await second.granted(40)
    forgetful.kill()
    forgetful.start()
    await eventually(first.beat)
    forgetful.kill()
    forgetful.start()
    await opened([first, second])
    assert await first.used() == [(100, 40)]
    forgetful.kill()
    forgetful.start()
    await opened([second, first])
    await second.settle(held, 40)
    assert await first.used() == [(140, 0)]


async def test_an_emptied_database_of_a_running_server_is_a_loss(durable: RedisServer, replicas: Replicas) -> None:
    first, second = replicas.on(durable.port, 2)
    await opened([first, second])
    await first.settle(await first.granted(100), 100)
    command(durable.port, "FLUSHALL")
    (new,) = replicas.on(durable.port)
    await eventually(new.beat)
    with pytest.raises(DataLost):
        await first.ledger.usage((today(),))
    await opened([first, second, new])
    assert await new.used() == [(100, 0)]


async def test_twelve_replicas_restore_the_sum_to_the_nano_dollar(forgetful: RedisServer, replicas: Replicas) -> None:
    all_of_them = replicas.on(forgetful.port, 12)
    await opened(all_of_them)
    await asyncio.gather(*(spend(replica, 10) for replica in all_of_them))
    held = [await replica.granted(5) for replica in all_of_them]
    forgetful.kill()
    forgetful.start()
    await opened(all_of_them)
    assert await all_of_them[0].used() == [(12 * 10 * 7, 12 * 5)]
    await asyncio.gather(*(replica.settle(receipt, 5) for replica, receipt in zip(all_of_them, held, strict=True)))
    assert await all_of_them[1].used() == [(12 * 10 * 7 + 12 * 5, 0)]


async def test_scripts_that_the_server_forgot_are_loaded_again(durable: RedisServer, replicas: Replicas) -> None:
    (replica,) = replicas.on(durable.port)
    await opened([replica])
    receipt = await replica.granted(10)
    command(durable.port, "SCRIPT", "FLUSH")
    await asyncio.gather(*(replica.granted(1) for _ in range(20)))
    command(durable.port, "SCRIPT", "FLUSH")
    await replica.settle(receipt, 10)
    assert await replica.used() == [(10, 20)]


async def spend(replica: Replica, times: int) -> None:
    for _ in range(times):
        await replica.settle(await replica.granted(9), 7)


async def eventually_closed(replica: Replica) -> None:
    """Reserve once the server answers."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            await replica.reserve(1)
        except LedgerUnavailable:
            await asyncio.sleep(0.02)
        else:
            return


async def stale_copy(server: RedisServer, tmp_path: Path) -> Path:
    """Copy the server's files as they are now."""
    copy = tmp_path / "stale"
    await asyncio.to_thread(shutil.copytree, server.directory, copy)
    return copy


async def caught_up(primary: RedisServer, follower: RedisServer) -> None:
    """Wait until the follower has all that the primary was told."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        there = re.search(rb"master_repl_offset:(\d+)", command(primary.port, "INFO", "replication"))
        here = command(follower.port, "INFO", "replication")
        if there and b"master_link_status:up" in here and b"slave_repl_offset:" + there[1] + b"\r" in here:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the follower does not catch up")


async def test_a_loss_that_nobody_noticed_in_time_keeps_the_larger_sum(
    durable: RedisServer, replicas: Replicas, tmp_path: Path
) -> None:
    first, second = replicas.on(durable.port, 2)
    await opened([first, second])
    await first.settle(await first.granted(100), 100)
    stale = await stale_copy(durable, tmp_path)
    await second.settle(await second.granted(300), 300)
    durable.kill()
    with running_redis(stale, DURABLE, port=durable.port):
        await opened([first])
        assert first.losses == 0
        await first.settle(await first.granted(50), 50)
        await opened([first, second])
        assert second.losses == 1
        assert await first.used() == [(400, 0)]


async def test_who_comes_late_still_restores_what_was_lost_while_others_spend(
    forgetful: RedisServer, replicas: Replicas
) -> None:
    both = (today(), ROLLING)
    first, late = replicas.on(forgetful.port, 2)
    await opened([first, late])
    await first.settle(await first.granted(100, *both), 100, 100)
    await late.settle(await late.granted(1_000, *both), 900, 900)
    held = await late.granted(600, *both)
    forgetful.kill()
    forgetful.start()
    await opened([first])
    await first.settle(await first.granted(50, *both), 30, 30)
    await late.beat()
    assert late.losses == 1
    assert await first.used(*both) == [(1_030, 600), (1_030, 600)]
    await late.settle(held, 5, 5)
    assert await first.used(*both) == [(1_035, 0), (1_035, 0)]


async def test_hundreds_of_accounts_and_reservations_come_back(forgetful: RedisServer, replicas: Replicas) -> None:
    (replica,) = replicas.on(forgetful.port)
    await opened([replica])
    accounts = [[today(f"b|{row}|{column}") for column in range(8)] for row in range(300)]
    await asyncio.gather(*(replica.granted(3, *row) for row in accounts))
    forgetful.kill()
    forgetful.start()
    await opened([replica])
    assert replica.losses == 1
    assert len(replica.seen.for_restore()) == 2_400
    for row in (accounts[0], accounts[299]):
        assert await replica.used(*row) == [(0, 3)] * 8

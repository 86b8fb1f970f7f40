"""What the ledger leaves in a Redis: keys of one cluster slot that end by themselves, and whole numbers only."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
from redis import Redis
from tests.support.ledger_replicas import Replica, today
from tests.support.redis_server import running_redis

from foresail_sidecar.ledger.interface import (
    MOST,
    CalendarSpan,
    Claim,
    Held,
    Measure,
    Receipt,
    RollingSpan,
)
from foresail_sidecar.ledger.redis.backend import RedisLedger
from foresail_sidecar.ledger.redis.calls import RedisSettings

TWO_DAYS_MS = 2 * 86_400_000


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server.port


@pytest.fixture
def redis(port: int) -> Iterator[Redis]:
    with Redis(port=port, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
async def replica(port: int, redis: Redis) -> AsyncIterator[Replica]:
    uid = f"team}}/{uuid.uuid4().hex}"
    ledger = RedisLedger(RedisSettings(f"redis://127.0.0.1:{port}", deadline_seconds=10.0), uid, opens_after_ms=0)
    yield Replica(ledger)
    await ledger.close()


def brief(span_ms: int) -> CalendarSpan:
    """Windows of this length around now."""
    now = time.time_ns() // 1_000_000
    start = now - now % span_ms
    return CalendarSpan(tuple((start + n * span_ms, start + (n + 1) * span_ms) for n in range(-1, 300)))


async def test_every_key_lies_in_one_cluster_slot(replica: Replica, redis: Redis) -> None:
    await replica.settle(await replica.granted(5, today(), today("b|x{y}|t")), 5, 5)
    await replica.ledger.write_note("n", "text")
    keys = redis.keys("*")
    assert len(keys) >= 4
    assert len({tag(key) for key in keys}) == 1


async def test_accounts_and_attempts_end_by_themselves(replica: Replica, redis: Redis) -> None:
    receipt = await replica.granted(5, today())
    (account,) = redis.keys("*:u:*")
    assert 0 < redis.pttl(account) <= TWO_DAYS_MS + 86_400_000
    attempt = f"*:a:{receipt.attempt_id}"
    assert redis.pttl(redis.keys(attempt)[0]) == -1
    await replica.settle(receipt, 5)
    assert 0 < redis.pttl(redis.keys(attempt)[0]) <= 86_400_000
    await replica.ledger.abandon(["never-came"])
    assert 0 < redis.pttl(redis.keys("*:a:never-came")[0]) <= 600_000


async def test_windows_that_are_long_past_are_dropped_and_a_late_settlement_does_not_bring_them_back(
    replica: Replica, redis: Redis
) -> None:
    late = await replica.granted(5, Claim("b|brief|", brief(100), Measure.MONEY, 100))
    for _ in range(4):
        await asyncio.sleep(0.1)
        await replica.settle(await replica.granted(1, Claim("b|brief|", brief(100), Measure.MONEY, 100)), 1)
    slots = {field[1:] for field in redis.hkeys(redis.keys("*:u:b|brief|")[0]) if field[0] == "s"}
    assert 1 <= len(slots) <= 3
    assert str(late.entries[0].slot_ms) not in slots
    await replica.settle(late, 5)
    assert f"s{late.entries[0].slot_ms}" not in redis.hkeys(redis.keys("*:u:b|brief|")[0])


async def test_a_rolling_account_keeps_no_more_buckets_than_it_counts_twice(replica: Replica, redis: Redis) -> None:
    rolling = Claim("u|m|a|requests", RollingSpan(600, 100), Measure.REQUESTS, 1_000, amount=1)
    for _ in range(20):
        await replica.settle(await replica.granted(0, rolling), 1)
        await asyncio.sleep(0.05)
    fields = redis.hkeys(redis.keys("*:u:u|m|a|requests")[0])
    assert len([field for field in fields if field[0] == "s"]) <= 2 * (600 // 100 + 1) + 1


async def test_concurrency_that_nobody_holds_leaves_no_key(replica: Replica, redis: Redis) -> None:
    slots = Claim("u|m|a|slots", Held(), Measure.SLOTS, 2, amount=1)
    receipt = await replica.granted(0, slots)
    assert len(redis.keys("*:u:*")) == 1
    await replica.settle(receipt, 0)
    assert redis.keys("*:u:*") == []


async def test_numbers_are_whole_up_to_the_largest(replica: Replica, redis: Redis) -> None:
    claim = today("b|large|", limit=MOST)
    receipt = await replica.granted(2**50, claim)
    await replica.settle(receipt, MOST - 2**50 - 1)
    assert await replica.used(claim) == [(MOST - 2**50 - 1, 0)]
    last = await replica.granted(2**50, claim)
    assert await replica.used(claim) == [(MOST - 2**50 - 1, 2**50)]
    await replica.settle(last, 2**50 - 1)
    assert await replica.used(claim) == [(MOST - 2, 0)]
    await replica.settle(Receipt("more", last.generation, last.entries), MOST)
    assert await replica.used(claim) == [(MOST, 0)]
    (account,) = redis.keys("*:u:*")
    values = [value for field, value in redis.hgetall(account).items() if field[0] in "srequ" and field != "g"]
    assert all(value.isdigit() for value in values)


async def test_an_attempt_can_be_audited(replica: Replica, redis: Redis) -> None:
    receipt = await replica.granted(7, today())
    await replica.settle(receipt, 6)
    (key,) = redis.keys("*:a:*")
    lines = redis.get(key).splitlines()
    slot = str(receipt.entries[0].slot_ms)
    assert lines[:6] == ["ended", "1", "Reported", "0", "7", "1"]
    assert lines[6:] == ["b|day|", slot, "money", "7", "0", str(receipt.entries[0].slot_ms + 86_400_000), "6"]


def tag(key: str) -> str:
    """The part of a key that a cluster hashes."""
    return key[key.index("{") + 1 : key.index("}")]

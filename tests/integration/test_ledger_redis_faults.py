"""A Redis that is away, stalls, refuses or is set up badly: every call ends in time, and the reason is told."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from tests.support.ledger_replicas import Replica, eventually, opened, today
from tests.support.outages import LEASE_MS, STALL_SECONDS, STOP_SECONDS
from tests.support.redis_server import DURABLE, FORGETFUL, RedisServer, command, free_port, running_redis

from foresail_api.errors import UserError
from foresail_sidecar.ledger.interface import Abandoned, LedgerUnavailable, Option, ReserveRequest
from foresail_sidecar.ledger.opening import LedgerSettings, open_ledger
from foresail_sidecar.ledger.redis.backend import RedisLedger
from foresail_sidecar.ledger.redis.calls import RedisSettings
from foresail_sidecar.ledger.redis.durability import faults_of
from foresail_sidecar.ledger.sqlite.schema import ledger_path

OPENS_AFTER_MS = 300
Connect = Callable[..., Replica]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as running:
        yield running


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Opens replicas of one ledger: port, then what differs from a plain connection."""
    uid = uuid.uuid4().hex
    found: list[Replica] = []

    def connect(port: int, *, lease_ms: int = 60_000, deadline_seconds: float = 5.0, **more: str) -> Replica:
        settings = RedisSettings(f"redis://127.0.0.1:{port}", deadline_seconds=deadline_seconds, **more)
        found.append(Replica(RedisLedger(settings, uid, opens_after_ms=OPENS_AFTER_MS), lease_ms))
        return found[-1]

    yield connect
    for replica in found:
        await replica.ledger.close()


async def test_after_a_long_stop_the_living_hold_what_they_held_and_the_dead_have_spent_it(
    server: RedisServer, connect: Connect
) -> None:
    living, dead = connect(server.port, lease_ms=LEASE_MS), connect(server.port, lease_ms=LEASE_MS)
    await opened([living, dead])
    held = await living.granted(300)
    await dead.granted(200)
    server.kill()
    await asyncio.sleep(STOP_SECONDS)
    server.start()
    await opened([living])
    await living.ledger.renew((), LEASE_MS)
    assert await living.used() == [(200, 300)]
    assert await living.ledger.renew([held.attempt_id], LEASE_MS) == frozenset()
    await living.settle(held, 10)
    assert await living.used() == [(210, 0)]


async def test_a_stall_ends_calls_at_their_deadline_and_leaves_no_reservation(
    server: RedisServer, connect: Connect
) -> None:
    replica, patient = connect(server.port, deadline_seconds=0.2), connect(server.port, deadline_seconds=5.0)
    await opened([replica, patient])
    held = await patient.granted(100)
    late = ReserveRequest("late", (today(),), (Option(50, 50),), 60_000)
    server.pause()
    ends = time.monotonic() + STALL_SECONDS
    answers = await asyncio.gather(
        replica.ledger.reserve(late),
        replica.ledger.usage((today(),)),
        replica.settle(held, 100),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [LedgerUnavailable] * 3
    await asyncio.sleep(ends - time.monotonic())
    assert "200 ms" in str(answers[0]) or "Timeout" in str(answers[0])
    server.resume()
    # What was sent before the deadline may have been done behind the caller's back.
    await eventually(lambda: replica.ledger.abandon(["late"]))
    with pytest.raises(Abandoned):
        await patient.ledger.reserve(late)
    await patient.settle(held, 100)
    assert await patient.used() == [(100, 0)]
    assert replica.losses == 0


async def test_calls_in_a_stall_are_bounded_in_time_and_number(server: RedisServer, connect: Connect) -> None:
    replica = connect(server.port, deadline_seconds=0.3)
    await opened([replica])
    server.pause()
    async with asyncio.timeout(100):
        answers = await asyncio.gather(*(replica.reserve(1) for _ in range(4_300)), return_exceptions=True)
    assert all(isinstance(answer, LedgerUnavailable) for answer in answers)
    assert any("wait for Redis" in str(answer) for answer in answers)
    server.resume()
    await eventually(lambda: replica.ledger.usage((today(),)))


async def test_a_server_that_cannot_be_reached_is_a_state_and_no_failed_start(tmp_path: Path) -> None:
    settings = LedgerSettings(f"redis://127.0.0.1:{free_port()}", timeout_milliseconds=200)
    ledger = await open_ledger(settings, uid="u", password=None, directory=tmp_path)
    with pytest.raises(LedgerUnavailable, match="ConnectionError"):
        await ledger.status()
    await ledger.close()


async def test_the_embedded_ledger_is_a_file_of_the_directory(tmp_path: Path) -> None:
    ledger = await open_ledger(LedgerSettings(), uid="u", password=None, directory=tmp_path)
    await ledger.write_note("n", "text")
    await ledger.close()
    assert ledger_path(tmp_path, "u").name in files_in(tmp_path)


async def test_what_is_no_address_of_a_redis_is_told_with_the_field(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"costLimits\.ledger\.redis\.url: `http://x`"):
        await open_ledger(LedgerSettings("http://x"), uid="u", password=None, directory=tmp_path)


async def test_authorities_that_are_no_certificates_are_a_state_and_no_failed_start(tmp_path: Path) -> None:
    settings = LedgerSettings(f"rediss://127.0.0.1:{free_port()}", authorities="sk-no-certificate")
    ledger = await open_ledger(settings, uid="uid", password=None, directory=tmp_path)
    with pytest.raises(LedgerUnavailable):
        await ledger.status()
    await ledger.close()


async def test_a_wrong_password_is_told_and_not_shown(tmp_path: Path, connect: Connect) -> None:
    with running_redis(tmp_path, (*DURABLE, "--requirepass", "right-one")) as server:
        wrong, none, right = (
            connect(server.port, password="wrong-one"),
            connect(server.port),
            connect(server.port, password="right-one"),
        )
        for replica in (wrong, none):
            with pytest.raises(LedgerUnavailable, match="Authentication") as refused:
                await replica.beat()
            assert "-one" not in str(refused.value)
        await opened([right])
        await right.granted(1)
    assert "right-one" not in repr(RedisSettings("redis://h", password="right-one"))


async def test_a_user_who_may_only_what_the_ledger_needs_is_enough(server: RedisServer, connect: Connect) -> None:
    rights = "+evalsha +script|load +hget +hset +hmget +hgetall +hdel +hincrby +get +set +del +zadd +zrem +zscore"
    rights += " +zrangebyscore +pttl +pexpireat +time +info +config|get +client|setinfo"
    assert (
        command(server.port, "ACL", "SETUSER", "foresail", "on", ">secret", "~{foresail:*", *rights.split())
        == b"+OK\r\n"
    )
    replica = connect(server.port, username="foresail", password="secret")
    await opened([replica])
    receipt = await replica.granted(5)
    await replica.ledger.abandon(["other"])
    await replica.settle(receipt, 5)
    await replica.ledger.write_note("n", "text")
    assert (await replica.ledger.status()).faults == ()


async def test_a_server_that_does_not_show_its_settings_is_not_known_to_be_durable(
    server: RedisServer, connect: Connect
) -> None:
    command(server.port, "ACL", "SETUSER", "foresail", "on", ">secret", "~*", "+@all", "-config")
    replica = connect(server.port, username="foresail", password="secret")
    (fault,) = (await replica.ledger.status()).faults
    assert "cannot be checked" in fault
    await opened([replica])
    await replica.granted(1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (DURABLE, None),
        (FORGETFUL, "`appendonly` is not `yes`"),
        (("--appendonly", "yes", "--appendfsync", "no"), "`appendfsync` is `no`"),
        (
            (*DURABLE, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"),
            "`maxmemory-policy` is `allkeys-lru`",
        ),
        ((*DURABLE, "--maxmemory", "100mb", "--maxmemory-policy", "noeviction"), None),
    ],
)
async def test_what_would_not_outlive_a_crash_is_told(
    arguments: tuple[str, ...], expected: str | None, tmp_path: Path, connect: Connect
) -> None:
    with running_redis(tmp_path, arguments) as server:
        faults = (await connect(server.port).ledger.status()).faults
    if expected is None:
        assert faults == ()
    else:
        (fault,) = faults
        assert fault.startswith("LedgerNotDurable: ")
        assert expected in fault


def test_a_file_that_the_server_could_not_write_is_told() -> None:
    settings = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory": "0", "maxmemory-policy": "noeviction"}
    assert faults_of(settings, {"aof_last_write_status": "ok"}) == ()
    (fault,) = faults_of(settings, {"aof_last_write_status": "err"})
    assert fault.startswith("LedgerNotDurable: Redis could not write")


async def test_a_full_memory_refuses_and_changes_nothing(server: RedisServer, connect: Connect) -> None:
    replica = connect(server.port)
    await opened([replica])
    held = await replica.granted(10)
    command(server.port, "CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(LedgerUnavailable, match="OutOfMemory"):
        await replica.reserve(5)
    assert await replica.used() == [(0, 10)]
    command(server.port, "CONFIG", "SET", "maxmemory", "0")
    await replica.settle(held, 10)
    assert await replica.used() == [(10, 0)]


def files_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}

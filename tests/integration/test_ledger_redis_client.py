"""Clients with heartbeats and journals over a real Redis that is killed, emptied or stalls: the sums are right afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from tests.support.ledger_replicas import PATIENCE_SECONDS, today
from tests.support.ledgers import ledger_client
from tests.support.outages import STALL_SECONDS, STOP_SECONDS
from tests.support.redis_server import DURABLE, FORGETFUL, running_redis

from foresail_sidecar.ledger.client import LedgerClient, Pace
from foresail_sidecar.ledger.interface import Claim, Granted, LedgerError, LedgerUnavailable, Option
from foresail_sidecar.ledger.redis.backend import RedisLedger
from foresail_sidecar.ledger.redis.calls import RedisSettings

PACE = Pace(lease_ms=20_000, renew_seconds=0.1, heartbeat_seconds=0.1)


@contextlib.asynccontextmanager
async def clients(
    port: int, directory: Path, *, number: int = 1, deadline_seconds: float = 2.0, opens_after_ms: int = 1_000
) -> AsyncIterator[list[LedgerClient]]:
    uid = uuid.uuid4().hex
    settings = RedisSettings(f"redis://127.0.0.1:{port}", deadline_seconds=deadline_seconds)
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                ledger_client(
                    RedisLedger(settings, uid, opens_after_ms=opens_after_ms),
                    directory / f"replica-{n}",
                    deadline_seconds=deadline_seconds,
                    pace=PACE,
                )
            )
            for n in range(number)
        ]


def budgets(_: int) -> tuple[Claim, ...]:
    return (today(),)


async def reserved(client: LedgerClient, attempt: str, amount: int) -> Granted:
    """Reserve as soon as the ledger is there."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            answer = await client.reserve(attempt, budgets, (Option(amount, amount),))
        except LedgerError:
            assert time.monotonic() < deadline, "the ledger did not come back"
            await asyncio.sleep(0.05)
            # An attempt whose answer did not come was abandoned.
            attempt += "'"
        else:
            assert isinstance(answer, Granted)
            return answer


async def becomes(those: Sequence[LedgerClient], spent: int, reserved: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    seen = None
    while seen != (spent, reserved):
        assert time.monotonic() < deadline, f"spent and reserved are {seen} and not {(spent, reserved)}"
        with contextlib.suppress(LedgerError):
            (usage,) = await those[0].usage(budgets(0))
            seen = usage.spent, usage.reserved
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("arguments", [DURABLE, FORGETFUL])
async def test_a_killed_redis_costs_no_client_its_reservations_or_settlements(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    with running_redis(tmp_path / "redis", arguments) as server:
        async with clients(server.port, tmp_path, number=3) as all_of_them:
            first, second, third = all_of_them
            done = await reserved(first, "done", 100)
            first.settle(done.receipt, (70,), "Reported")
            under_way, held = await reserved(second, "under way", 500), await reserved(third, "held", 40)
            await becomes(all_of_them, 70, 540)
            server.kill()
            second.settle(under_way.receipt, (300,), "Counted")
            await asyncio.sleep(STOP_SECONDS)
            server.start()
            await becomes(all_of_them, 370, 40)
            third.settle(held.receipt, (40,), "Assumed")
            await becomes(all_of_them, 410, 0)


async def test_a_stall_leaves_nothing_reserved_that_nobody_was_granted(tmp_path: Path) -> None:
    with running_redis(tmp_path / "redis") as server:
        async with clients(server.port, tmp_path, deadline_seconds=0.5, opens_after_ms=0) as (client,):
            await reserved(client, "first", 10)
            server.pause()
            ends = time.monotonic() + STALL_SECONDS
            with pytest.raises(LedgerUnavailable):
                await client.reserve("stalled", budgets, (Option(500, 500),))
            await asyncio.sleep(ends - time.monotonic())
            server.resume()
            await becomes([client], 0, 10)

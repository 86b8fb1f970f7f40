"""What processes learn is shared through notes of their ledger, and outlives them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.ledgers import LedgerCounts
from tests.support.serving import eventually
from tests.support.sidecar import model_of, snapshot_of, state_of, upstream_of

from foresail_api.ledgers import LedgerType
from foresail_api.snapshot_budgets import SnapshotLedger
from foresail_sidecar.configuration.state import ServingHolder
from foresail_sidecar.flow.record import Memory
from foresail_sidecar.serving.keeping import Keeper
from foresail_sidecar.serving.ledgers import Ledgers
from foresail_sidecar.telemetry.metrics import Metrics

SMALL = model_of("small", upstream_of("http://127.0.0.1:1/v1"))
SERVED = snapshot_of(SMALL, per_request_nano_dollars=10**9)


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Process:
    memory: Memory
    keeper: Keeper
    clock: Clock

    def distrusts(self) -> bool:
        return self.memory.trust.distrusted(SERVED) == {"small"}


@contextlib.asynccontextmanager
async def process(directory: Path, snapshot: object = SERVED) -> AsyncIterator[Process]:
    """One process that serves `snapshot`, from its start to its end."""
    state, clock = state_of(snapshot), Clock()  # type: ignore[arg-type]
    ledgers, memory = Ledgers(directory, LedgerCounts()), Memory(Metrics())
    await ledgers.prepare(state)
    keeper = Keeper(ServingHolder(state), ledgers, memory, clock)
    await keeper.start()
    try:
        yield Process(memory, keeper, clock)
    finally:
        await keeper.end()
        await ledgers.aclose()


async def test_distrust_outlives_the_process(tmp_path: Path) -> None:
    async with process(tmp_path) as first:
        for _ in range(3):
            first.memory.trust.exceeded(SMALL)
    async with process(tmp_path) as second:
        assert second.distrusts()


async def test_excesses_of_two_processes_add_up_in_both(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with process(tmp_path) as one, process(tmp_path) as two:
        one.memory.trust.exceeded(SMALL)
        one.memory.trust.exceeded(SMALL)
        two.memory.trust.exceeded(SMALL)

        async def both_know() -> bool:
            await one.keeper.round()
            await two.keeper.round()
            return one.distrusts() and two.distrusts()

        await eventually(both_know, "both processes distrust the model")
        await one.keeper.round()
    assert [record.message for record in caplog.records].count("model distrusted") == 2


async def test_the_calibration_outlives_the_process(tmp_path: Path) -> None:
    async with process(tmp_path) as first:
        for _ in range(50):
            first.memory.calibrator.observe("small", 1000, 1000)
    async with process(tmp_path) as second:
        assert second.memory.calibrator.ratios.estimate("small", 1000) > 800


async def test_the_calibration_is_shared_every_half_minute_and_not_with_every_round(tmp_path: Path) -> None:
    async with process(tmp_path) as one, process(tmp_path) as two:
        for _ in range(50):
            one.memory.calibrator.observe("small", 1000, 1000)
        one.clock.seconds = two.clock.seconds = 29.0
        await one.keeper.round()
        assert len(one.memory.calibrator._gathered) == 1
        one.clock.seconds = 31.0

        async def two_knows() -> bool:
            two.clock.seconds += 31.0
            await one.keeper.round()
            await two.keeper.round()
            return two.memory.calibrator.ratios.estimate("small", 1000) > 800

        await eventually(two_knows, "the other process knows what one learned")


async def test_nothing_is_lost_while_the_ledger_is_away(tmp_path: Path) -> None:
    nowhere = SnapshotLedger(type=LedgerType.REDIS, url="redis://127.0.0.1:1", timeout_milliseconds=50)
    async with process(tmp_path, SERVED.model_copy(update={"ledger": nowhere})) as alone:
        for _ in range(3):
            alone.memory.trust.exceeded(SMALL)
        alone.memory.calibrator.observe("small", 1000, 1000)
        await alone.keeper.round()
        assert alone.distrusts()
        assert alone.memory.calibrator.ratios.estimate("small", 1000) > 250

"""A call to a ledger that fails leaves nothing behind, however many fail together."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable

import pytest
from tests.support.garbage import run_without_search
from tests.support.ledgers import LedgerCounts

from foresail_sidecar.ledger.calls import RESTORE, Calls
from foresail_sidecar.ledger.interface import DataLost, LedgerClosed, LedgerError, LedgerUnavailable

SECONDS = 0.02


async def is_closed() -> None:
    raise LedgerClosed(1.0)


async def never_answers() -> None:
    await asyncio.get_running_loop().create_future()


async def nothing_to_restore(generation: int) -> None:
    raise AssertionError(generation)


@pytest.mark.parametrize("operation", [is_closed, never_answers])
def test_an_error_is_gone_with_its_call_and_not_left_to_the_search_for_garbage(
    operation: Callable[[], Awaitable[None]],
) -> None:
    async def failed_call() -> weakref.ref[LedgerError]:
        try:
            await Calls(SECONDS, LedgerCounts(), nothing_to_restore).made("Reserve", operation)
        except LedgerError as error:
            return weakref.ref(error)
        raise AssertionError("the call did not fail")

    async def is_gone() -> bool:
        return (await failed_call())() is None

    assert run_without_search(is_gone())


async def test_a_loss_while_it_is_restored_is_told_to_who_restores_and_not_restored_inside_of_that() -> None:
    async def loses() -> None:
        raise DataLost(7)

    with pytest.raises(LedgerUnavailable, match="lost data again"):
        await Calls(1.0, LedgerCounts(), nothing_to_restore).made(RESTORE, loses)


async def answers() -> None:
    pass


@pytest.mark.parametrize("quiet", [False, True])
async def test_a_ledger_that_goes_away_and_comes_back_is_told_once_each(
    quiet: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    calls = Calls(SECONDS, LedgerCounts(), nothing_to_restore, quiet=quiet)
    for _ in range(5):
        with pytest.raises(LedgerUnavailable):
            await calls.made("Reserve", never_answers)
    for _ in range(2):
        await calls.made("Reserve", answers)
    told = [record.getMessage() for record in caplog.records]
    assert told == ([] if quiet else ["ledger does not answer", "ledger answers again"])

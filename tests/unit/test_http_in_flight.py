from __future__ import annotations

import asyncio

import pytest

from foresail_sidecar.fronts.http.in_flight import InFlight, Interrupted, TooManyRequests


async def under_way(in_flight: InFlight, log: list[str]) -> str:
    task = asyncio.current_task()
    assert task is not None
    try:
        with in_flight.entered(task):
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                log.append("cancelled inside")
                raise
    except Interrupted:
        await asyncio.sleep(0)
        return "interrupted"
    return "ended"


async def begun(in_flight: InFlight, log: list[str]) -> asyncio.Task[str]:
    task = asyncio.create_task(under_way(in_flight, log))
    await asyncio.sleep(0)
    return task


async def test_what_is_interrupted_is_cancelled_inside_and_can_still_answer() -> None:
    in_flight, log = InFlight(8), list[str]()
    tasks = [await begun(in_flight, log) for _ in range(2)]
    assert len(in_flight) == 2
    assert not await in_flight.finished(0.01)
    in_flight.interrupt()
    in_flight.interrupt()
    assert await in_flight.finished(5)
    assert [await task for task in tasks] == ["interrupted", "interrupted"]
    assert log == ["cancelled inside"] * 2
    assert not len(in_flight)


@pytest.mark.parametrize("interrupted_first", [False, True])
async def test_a_client_who_leaves_while_it_is_interrupted_gets_no_answer(interrupted_first: bool) -> None:
    in_flight, log = InFlight(8), list[str]()
    task = await begun(in_flight, log)
    steps = [in_flight.interrupt, task.cancel]
    for step in steps if interrupted_first else reversed(steps):
        step()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not len(in_flight)


async def test_one_that_left_is_not_interrupted() -> None:
    in_flight = InFlight(8)
    task = asyncio.current_task()
    assert task is not None
    with in_flight.entered(task):
        pass
    in_flight.interrupt()
    await asyncio.sleep(0)
    assert task.cancelling() == 0


async def test_there_are_never_more_than_there_may_be() -> None:
    in_flight, log = InFlight(1), list[str]()
    task = await begun(in_flight, log)
    with pytest.raises(TooManyRequests):
        in_flight.entered(task)
    in_flight.interrupt()
    assert await task == "interrupted"
    assert not len(in_flight)

"""The work queue: one run at a time per key, no key twice, back-off, and no run that stops the others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from foresail_operator.queue import Backoff, TryAgain, WorkQueue

Handle = Callable[[str], Awaitable[None]]
QUICK = Backoff(first_seconds=0.001, longest_seconds=0.004, hurried_seconds=0.002)
NEVER = Backoff(first_seconds=1000, longest_seconds=1000, hurried_seconds=0.001)


@contextlib.asynccontextmanager
async def running(handle: Handle, workers: int = 2, backoff: Backoff = QUICK) -> AsyncIterator[WorkQueue[str]]:
    queue: WorkQueue[str] = WorkQueue(handle, backoff=backoff)
    task = asyncio.create_task(queue.run(workers))
    try:
        async with asyncio.timeout(10):
            yield queue
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(check: Callable[[], bool]) -> None:
    while not check():  # noqa: ASYNC110  the queue announces nothing, on purpose
        await asyncio.sleep(0.001)


async def test_a_key_waits_once_however_often_it_is_added() -> None:
    handled: list[str] = []

    async def handle(key: str) -> None:
        handled.append(key)

    queue: WorkQueue[str] = WorkQueue(handle)
    for key in "abababa":
        queue.add(key)
    assert len(queue) == 2
    async with asyncio.timeout(10):
        task = asyncio.create_task(queue.run(1))
        await until(lambda: len(handled) == 2)
        await asyncio.sleep(0.01)
        task.cancel()
    assert handled == ["a", "b"]
    assert len(queue) == 0


async def test_a_key_never_runs_twice_at_once_and_runs_again_after_a_change() -> None:
    most = present = runs = 0
    gate = asyncio.Event()

    async def handle(_: str) -> None:
        nonlocal most, present, runs
        present += 1
        most = max(most, present)
        await gate.wait()
        present -= 1
        runs += 1

    async with running(handle, workers=3) as queue:
        queue.add("a")
        await until(lambda: present == 1)
        for _ in range(5):
            queue.add("a")
        await asyncio.sleep(0.01)
        gate.set()
        await until(lambda: runs == 2)
        await asyncio.sleep(0.01)
    assert (most, runs) == (1, 2)


async def test_no_more_keys_run_at_once_than_there_are_workers() -> None:
    most = present = done = 0

    async def handle(_: str) -> None:
        nonlocal most, present, done
        present += 1
        most = max(most, present)
        await asyncio.sleep(0.002)
        present -= 1
        done += 1

    async with running(handle, workers=3) as queue:
        for number in range(12):
            queue.add(str(number))
        await until(lambda: done == 12)
    assert most == 3


async def test_a_failing_key_comes_back_and_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    failures = {"unlucky": 3, "broken": 2}
    done: list[str] = []

    async def handle(key: str) -> None:
        if failures.get(key, 0):
            failures[key] -= 1
            if key == "broken":
                raise ValueError("a fault of ours")
            raise TryAgain("not yet")
        done.append(key)

    with caplog.at_level(logging.INFO):
        async with running(handle, workers=1) as queue:
            for key in ("unlucky", "broken", "good"):
                queue.add(key)
            await until(lambda: len(done) == 3)
    assert done[0] == "good"
    assert "unlucky will be tried again: not yet" in caplog.messages
    assert "broken could not be handled: ValueError: a fault of ours" in caplog.messages


async def test_a_key_that_backs_off_is_hurried_by_a_change_but_not_run_at_once() -> None:
    runs = 0

    async def handle(_: str) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise TryAgain("for a long time")

    async with running(handle, backoff=NEVER) as queue:
        queue.add("a")
        await until(lambda: runs == 1)
        queue.add("a")
        queue.add("a")
        assert len(queue) == 0
        await until(lambda: runs == 2)


def test_delays_double_up_to_the_longest_and_differ() -> None:
    backoff = Backoff(first_seconds=1, longest_seconds=8)
    for failures, full in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (10_000, 8)]:
        delays = {backoff.delay(failures) for _ in range(20)}
        assert len(delays) > 1
        assert all(full / 2 <= delay <= full for delay in delays)

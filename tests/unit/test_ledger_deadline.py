"""What a deadline takes for late: an answer that did not come, and not one that the loop had no time to look at."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import uvloop

from foresail_sidecar.ledger.deadline import Deadline

SECONDS = 0.05


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=request.param) as running:
        yield running


def busy(loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    """Hold the loop up in its next turn."""
    loop.call_soon(time.sleep, seconds)


def test_an_answer_of_a_thread_counts_though_the_loop_was_busy(runner: asyncio.Runner) -> None:
    async def ask() -> str:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()
        threading.Timer(SECONDS / 5, lambda: loop.call_soon_threadsafe(answer.set_result, "here")).start()
        busy(loop, 3 * SECONDS)
        with Deadline(SECONDS):
            return await answer

    assert runner.run(ask()) == "here"


def test_an_answer_of_a_socket_counts_though_the_loop_was_busy(runner: asyncio.Runner) -> None:
    async def ask() -> bytes:
        here, there = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=here)

        async def read() -> bytes:
            return await asyncio.create_task(reader.readexactly(4))

        busy(asyncio.get_running_loop(), 3 * SECONDS)
        there.sendall(b"here")
        try:
            with Deadline(SECONDS):
                return await asyncio.create_task(read())
        finally:
            writer.close()
            await writer.wait_closed()
            there.close()

    assert runner.run(ask()) == b"here"


def test_what_never_comes_ends_with_a_time_out(runner: asyncio.Runner) -> None:
    async def ask() -> None:
        with Deadline(SECONDS):
            await asyncio.get_running_loop().create_future()

    with pytest.raises(TimeoutError):
        runner.run(ask())


def test_who_cancels_for_another_reason_is_not_told_of_a_time_out(runner: asyncio.Runner) -> None:
    async def ask() -> None:
        with Deadline(10 * SECONDS):
            await asyncio.get_running_loop().create_future()

    async def leave() -> bool:
        asking = asyncio.create_task(ask())
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        return asking.cancelled()

    assert runner.run(leave())


def test_after_a_time_out_the_task_can_wait_again(runner: asyncio.Runner) -> None:
    async def ask() -> int:
        with contextlib.suppress(TimeoutError), Deadline(SECONDS):
            await asyncio.get_running_loop().create_future()
        task = asyncio.current_task()
        assert task is not None
        await asyncio.sleep(SECONDS)
        return task.cancelling()

    assert runner.run(ask()) == 0


@pytest.mark.parametrize("fails", [lambda: None, lambda: 1 / 0])
def test_what_ends_before_leaves_no_timer_behind(runner: asyncio.Runner, fails: Callable[[], object]) -> None:
    async def ask() -> None:
        try:
            with Deadline(SECONDS):
                fails()
        except ZeroDivisionError:
            pass
        await asyncio.sleep(3 * SECONDS)

    runner.run(ask())

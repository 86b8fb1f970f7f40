"""The bounds on each part of one attempt, with upstreams on raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvloop
from yarl import URL

from foresail_api.pool import OutputLimitField
from foresail_sidecar.upstreams.client import UpstreamAnswer, UpstreamClient
from foresail_sidecar.upstreams.failures import FailureKind, UpstreamFailure
from foresail_sidecar.upstreams.targets import Target
from foresail_sidecar.upstreams.timeouts import UpstreamTimeouts

PATIENT = UpstreamTimeouts(connect=300.0, first_byte=300.0, idle=300.0, total=300.0)
CHUNK = b"400\r\n" + b"x" * 1024 + b"\r\n"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[str]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


def target(url: str, timeouts: UpstreamTimeouts) -> Target:
    return Target("up", URL(url), "m", OutputLimitField.MAX_TOKENS, {}, None, timeouts)


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer):
        await reader.read()


async def never_stops(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer), contextlib.suppress(ConnectionError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(64 * CHUNK)
            await writer.drain()


async def answers_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
        while await reader.readuntil(b"{}"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()


async def read_slowly(answer: UpstreamAnswer) -> None:
    async for _ in answer.pieces():
        await asyncio.sleep(0.02)


async def test_the_time_for_a_connection_is_not_added_to_that_for_the_first_byte() -> None:
    timeouts = UpstreamTimeouts(connect=300.0, first_byte=0.2, total=600.0)
    async with listening(says_nothing) as url, UpstreamClient() as client:
        async with asyncio.timeout(20):
            with pytest.raises(UpstreamFailure, match=r"no answer within 0\.2 s") as failed:
                await client.ask(target(url, timeouts), [], b"{}")
    assert failed.value.kind == FailureKind.TIMED_OUT


async def test_a_total_that_ends_before_there_is_a_connection_says_that_nothing_was_sent() -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(8):
            # As many as wait to be accepted; further ones are not answered at all.
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        async with UpstreamClient() as client, asyncio.timeout(20):
            deadline = asyncio.get_running_loop().time() + 0.3
            with pytest.raises(UpstreamFailure, match="no connection") as failed:
                await client.ask(target(url, PATIENT), [], b"{}", deadline)
    assert failed.value.kind == FailureKind.UNREACHABLE


async def test_the_total_bounds_also_an_answer_that_is_read_more_slowly_than_it_comes() -> None:
    async with listening(never_stops) as url, UpstreamClient() as client:
        async with asyncio.timeout(20):
            deadline = asyncio.get_running_loop().time() + 0.5
            answer = await client.ask(target(url, PATIENT), [], b"{}", deadline)
            with pytest.raises(UpstreamFailure, match="took longer than 300 s") as failed:
                await read_slowly(answer)
            answer.close()
    assert failed.value.kind == FailureKind.TIMED_OUT


def test_a_task_that_asked_is_gone_with_its_request_and_not_left_to_the_search_for_garbage() -> None:
    async def ask(client: UpstreamClient, url: str) -> None:
        answer = await client.ask(target(url, PATIENT), [], b"{}")
        assert await answer.read(10) == b""

    async def is_gone() -> bool:
        async with listening(answers_nothing) as url, UpstreamClient() as client, asyncio.timeout(20):
            # The kept connection knows who it was made for.
            asking = asyncio.create_task(ask(client, url))
            await asking
            left = weakref.ref(asking)
            del asking
            await asyncio.sleep(0)  # the loop lets go of it
            return left() is None

    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            assert runner.run(is_gone())
    finally:
        gc.enable()

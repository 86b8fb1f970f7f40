"""The bounds on each part of one attempt, with upstreams on raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
import uvloop
from tests.support.certificates import Authority
from tests.support.garbage import run_without_search
from yarl import URL

from foresail_api.pool import OutputLimitField
from foresail_sidecar.upstreams.answer import UpstreamAnswer
from foresail_sidecar.upstreams.client import UpstreamClient
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
    ended = False
    while not ended:
        ended = await answer.deliver(lambda _: False)
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

    assert run_without_search(is_gone())


def streaming(*steps: bytes | float, connections: list[str] | None = None) -> Serve:
    """Answer each request with these chunks; a number is a pause in seconds, and empty bytes end the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if connections is not None:
            connections.append("one")
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"{}")
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for step in steps:
                    if isinstance(step, float):
                        await asyncio.sleep(step)
                    elif step:
                        writer.write(b"%x\r\n%b\r\n" % (len(step), step))
                    else:
                        return
                writer.write(b"0\r\n\r\n")

    return serve


async def test_pieces_come_one_by_one_and_the_connection_is_used_again() -> None:
    connections: list[str] = []
    came: list[bytes] = []

    def take(piece: bytes) -> bool:
        came.append(piece)
        return piece != b"b"

    serve = streaming(b"a", 0.02, b"b", 0.02, b"c", 0.02, connections=connections)
    async with listening(serve) as url, UpstreamClient() as client, asyncio.timeout(20):
        for number in range(1, 4):
            answer = await client.ask(target(url, PATIENT), [], b"{}")
            assert not await answer.deliver(take)
            assert came[-2:] == [b"a", b"b"]
            assert await answer.deliver(take)
            answer.close()
            assert came == number * [b"a", b"b", b"c"]
    assert len(connections) == 1


async def test_the_idle_time_begins_anew_with_each_piece() -> None:
    timeouts = UpstreamTimeouts(connect=300.0, first_byte=300.0, idle=0.4, total=300.0)
    serve = streaming(b"a", 0.25, b"b", 0.25, b"c", 300.0)
    came: list[bytes] = []
    async with listening(serve) as url, UpstreamClient() as client, asyncio.timeout(20):
        answer = await client.ask(target(url, timeouts), [], b"{}")
        with pytest.raises(UpstreamFailure, match=r"sent nothing for 0\.4 s") as failed:
            await answer.deliver(lambda piece: not came.append(piece))
        answer.close()
    assert (came, failed.value.kind) == ([b"a", b"b", b"c"], FailureKind.TIMED_OUT)


async def test_the_total_ends_a_stream_that_never_pauses_for_long() -> None:
    async with listening(streaming(*[b"a", 0.02] * 500)) as url, UpstreamClient() as client, asyncio.timeout(20):
        deadline = asyncio.get_running_loop().time() + 0.3
        answer = await client.ask(target(url, PATIENT), [], b"{}", deadline)
        with pytest.raises(UpstreamFailure, match="took longer than 300 s"):
            await answer.deliver(lambda _: True)
        answer.close()


async def test_an_upstream_that_breaks_off_is_told_after_what_it_sent() -> None:
    came: list[bytes] = []
    async with listening(streaming(b"a", 0.05, b"b", b"")) as url, UpstreamClient() as client, asyncio.timeout(20):
        answer = await client.ask(target(url, PATIENT), [], b"{}")
        with pytest.raises(UpstreamFailure, match="broke off its answer") as failed:
            await answer.deliver(lambda piece: not came.append(piece))
        answer.close()
    assert (b"".join(came), failed.value.kind) == (b"ab", FailureKind.BROKEN)


async def test_an_answer_is_too_large_at_whichever_piece() -> None:
    async with listening(streaming(b"a", 0.05, b"b", 300.0)) as url, UpstreamClient() as client, asyncio.timeout(20):
        answer = await client.ask(target(url, PATIENT), [], b"{}")
        with pytest.raises(UpstreamFailure, match="exceeds 1 bytes") as failed:
            await answer.read(limit_bytes=1)
        answer.close()
    assert failed.value.kind == FailureKind.TOO_LARGE


@pytest.mark.parametrize("factory", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_a_connection_that_ends_in_the_moment_of_a_wait_for_it_is_noticed(
    factory: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    """TLS tells the end of a connection a turn of the loop after it knows of it."""
    authority = Authority(tmp_path)
    pair = authority.issue("server", common_name="localhost", hosts=("127.0.0.1",))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pair.certificate, pair.key)
    with asyncio.Runner(loop_factory=factory) as runner:
        failures = runner.run(ended_after_turns(serving, ssl.create_default_context(cafile=authority.certificate)))
    assert set(failures) == {FailureKind.BROKEN}


async def ended_after_turns(serving: ssl.SSLContext, trusting: ssl.SSLContext) -> list[FailureKind]:
    ends = asyncio.Event()

    async def breaks_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            await reader.readuntil(b"{}")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            await ends.wait()
            ends.clear()

    failures = []
    timeouts = UpstreamTimeouts(idle=5.0)
    server = await asyncio.start_server(breaks_off, "127.0.0.1", ssl=serving)
    async with server, aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        for turns in range(5):
            response = await session.post(url, data=b"{}")
            answer = UpstreamAnswer(response, timeouts, asyncio.get_running_loop().time() + 60)
            assert not await answer.deliver(lambda _: False)
            assert response.connection is not None
            assert response.connection.transport is not None
            transport = response.connection.transport
            ends.set()
            while not transport.is_closing():  # noqa: ASYNC110  nothing announces it
                await asyncio.sleep(0)
            for _ in range(turns):
                await asyncio.sleep(0)
            with pytest.raises(UpstreamFailure) as failed:
                await answer.deliver(lambda _: True)
            failures.append(failed.value.kind)
            answer.close()
    return failures

"""A client that leaves stops the upstream's work, before and after the first token, and pays for what may have been done."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket

import pytest
from aiohttp import web
from tests.support.sidecar import Sidecar, model_of, running_sidecar, snapshot_of, upstream_of
from tests.support.upstream import DONE, Asked, event, hangs, piece, running_upstream, send_events, streams

from foresail_sidecar.fronts.http.settings import HttpSettings

MESSAGES = [{"role": "user", "content": "x"}]


async def settled(sidecar: Sidecar, basis: str) -> float:
    """US dollars settled on that basis, once there are any."""
    async with asyncio.timeout(5):
        # A scrape says it, nothing announces it.
        while not (dollars := await sidecar.metric("foresail_settled_dollars_total", basis=basis)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return dollars


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_before_the_first_token_reaches_the_upstream(stream: bool) -> None:
    async with (
        running_upstream(hangs) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        asking = asyncio.create_task(sidecar.ask(stream=stream, max_tokens=100))
        async with asyncio.timeout(5):
            await upstream.arrived.wait()
            asking.cancel()
            await upstream.abandoned.wait()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        # Nobody knows what was generated: the worst case of 100 output tokens and the bound of the input.
        assert await settled(sidecar, "Assumed") > 100 * 2e-6
        assert await sidecar.metric("foresail_requests_total", outcome="ClientLeft") == 1
        assert await sidecar.metric("foresail_in_flight_requests") == 0


async def test_leaving_between_the_head_of_a_stream_and_its_first_token_reaches_the_upstream() -> None:
    begun = asyncio.Event()

    async def begins(asked, request):
        response = await send_events(request, [b": soon\n\n"])
        begun.set()
        await asyncio.Event().wait()
        return response

    async with (
        running_upstream(begins) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        asking = asyncio.create_task(sidecar.ask(stream=True, max_tokens=100))
        async with asyncio.timeout(5):
            await begun.wait()
            asking.cancel()
            await upstream.abandoned.wait()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(5):
            # Counted or assumed, for nobody knows whether the head had come when the client left.
            while not await sidecar.metric("foresail_settled_dollars_total"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await sidecar.metric("foresail_requests_total", outcome="ClientLeft") == 1


async def test_leaving_inside_of_a_stream_reaches_the_upstream() -> None:
    async with (
        running_upstream(streams(event(piece("one")), then="hang")) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        stream = await sidecar.openai().chat.completions.create(
            model="auto", messages=MESSAGES, stream=True, max_tokens=100
        )
        await anext(stream)
        await stream.close()
        async with asyncio.timeout(5):
            await upstream.abandoned.wait()
        # The bound of the input and of the three bytes that came.
        assert 3 * 2e-6 < await settled(sidecar, "Counted") < 100 * 2e-6
        assert await sidecar.metric("foresail_upstream_attempts_total", outcome="ClientLeft") == 1


async def test_a_client_that_does_not_read_holds_nothing_for_ever() -> None:
    async def floods(asked, request):
        return await send_events(request, [event(piece("x" * 65536))] * 1000)

    settings = HttpSettings(stalled_client_seconds=0.3)
    async with (
        running_upstream(floods) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url))), settings) as sidecar,
    ):
        stream = sidecar.http.stream(
            "POST", "/v1/chat/completions", json={"model": "auto", "messages": MESSAGES, "stream": True}
        )
        async with stream as answer, asyncio.timeout(10):
            assert answer.status_code == 200
            await upstream.abandoned.wait()
        assert await sidecar.metric("foresail_requests_total", outcome="ClientLeft") == 1


async def test_what_came_for_a_client_that_did_not_read_it_is_paid_for() -> None:
    """It has come faster than it could be passed on, so nobody has counted all of it."""
    sent = 0

    async def floods(asked: Asked, request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(event(piece("w ")))
            sent += 1

    model = {"max_output_tokens": 10**6, "default_max_output_tokens": 10**6, "context_window_tokens": 10**7}
    settings = HttpSettings(stalled_client_seconds=0.5)
    async with (
        running_upstream(floods) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url), **model)), settings) as sidecar,
    ):
        host, port = sidecar.url.removeprefix("http://").split(":")
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.connect((host, int(port)))
            body = json.dumps({"model": "auto", "stream": True, "messages": MESSAGES}).encode()
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            await settled(sidecar, "Assumed")
        assert await sidecar.metric("foresail_tokens_total", direction="output") >= sent > 0


async def test_every_request_ends_once_however_many_clients_leave_when_they_like() -> None:
    draw = random.Random(7)
    words = [event(piece("word ")) for _ in range(20)] + [event(piece("", "stop")), DONE]
    async with (
        running_upstream(streams(*words, seconds_between=0.005)) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):

        async def asks(leaves_after: float | None) -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(leaves_after):
                    answer = await sidecar.ask(stream=True)
                    assert answer.content == b"".join(words)

        await asyncio.gather(*(asks(draw.choice([None, draw.uniform(0, 0.2)])) for _ in range(100)))
        async with asyncio.timeout(10):
            while await sidecar.metric("foresail_in_flight_requests"):  # noqa: ASYNC110  a scrape says it
                await asyncio.sleep(0.01)
        whole = await sidecar.metric("foresail_requests_total", outcome="Answered")
        left = await sidecar.metric("foresail_requests_total", outcome="ClientLeft")
        attempts = await sidecar.metric("foresail_upstream_attempts_total", outcome="ClientLeft")
        broken = await sidecar.metric("foresail_requests_total", outcome="Failed")
    assert whole + left <= 100
    assert whole >= 30
    assert attempts <= left
    assert broken == 0

"""However many requests come at once, what is held of their bodies and answers stays within one limit."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator

from tests.support.serving import eventually
from tests.support.sidecar import Sidecar, model_of, running_sidecar, snapshot_of, upstream_of
from tests.support.upstream import answers, completion, event, hangs, piece, running_upstream, says, streams, usage

from foresail_router.decision.types import NeutralRequest
from foresail_sidecar.fronts.http.settings import HttpSettings
from foresail_sidecar.protocols.openai import ParsedChat

KIB = 1024


async def held(sidecar: Sidecar) -> float:
    return await sidecar.metric("foresail_buffered_bytes")


async def nothing_is_held(sidecar: Sidecar) -> None:
    async def empty() -> bool:
        return await held(sidecar) == 0

    await eventually(empty, "no bytes are held", 5)


@contextlib.asynccontextmanager
async def answered_but_not_read(sidecar: Sidecar) -> AsyncIterator[None]:
    """The head of a large answer is there, the rest cannot be: neither side's buffers take so much."""
    host, port = sidecar.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=KIB)
    asked = b'{"model":"auto","messages":[{"role":"user","content":"x"}]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(asked)}\r\n\r\n"
    writer.write(head.encode() + asked)
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    try:
        yield
    finally:
        writer.transport.abort()


async def test_a_body_that_would_exceed_the_total_is_refused_and_the_others_go_on() -> None:
    async with running_upstream(hangs) as upstream:
        snapshot = snapshot_of(model_of("small", upstream_of(upstream.url), context_window_tokens=10**7))
        async with running_sidecar(snapshot, HttpSettings(buffered_bytes=100 * KIB)) as sidecar:
            first = asyncio.create_task(sidecar.ask("x" * 60 * KIB))
            async with asyncio.timeout(5):
                await upstream.arrived.wait()
            while_first = await held(sidecar)
            second, explained = (
                await sidecar.ask("x" * 60 * KIB),
                await sidecar.http.post("/v1/route", content=b"x" * 60 * KIB),
            )
            upstream.script = answers()
            small = await sidecar.ask("x" * 30 * KIB)
            first.cancel()
            await asyncio.wait([first])
            await nothing_is_held(sidecar)
            again = await sidecar.ask("x" * 60 * KIB)
            counted = await sidecar.metric("foresail_requests_total", outcome="Overloaded")
            await nothing_is_held(sidecar)
    assert 60 * KIB < while_first < 61 * KIB
    for shed in (second, explained):
        assert (shed.status_code, shed.json()["error"]["code"]) == (503, "overloaded")
        assert shed.headers["retry-after"] == "1"
    assert (small.status_code, again.status_code) == (200, 200)
    assert counted == 1


async def test_an_answer_that_would_exceed_the_total_is_refused_and_settled() -> None:
    async with (
        running_upstream(says(200, completion("x" * 60 * KIB, usage(3, 2)))) as upstream,
        running_sidecar(
            snapshot_of(model_of("small", upstream_of(upstream.url))), HttpSettings(buffered_bytes=50 * KIB)
        ) as sidecar,
    ):
        answer = await sidecar.ask()
        assumed = await sidecar.metric("foresail_settled_dollars_total", basis="Assumed")
        broke = await sidecar.metric("foresail_upstream_attempts_total", outcome="Broke")
        await nothing_is_held(sidecar)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
    # The upstream has worked for it.
    assert assumed > 0
    assert broke == 1


async def test_a_stream_holds_nothing_of_its_prompt_once_a_piece_of_it_is_relayed() -> None:
    gc.collect()  # of what earlier tests left
    async with (
        running_upstream(streams(event(piece("x")), then="hang")) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        message = {"role": "user", "content": "x" * 60 * KIB}
        body = {"model": "auto", "stream": True, "messages": [message]}
        async with sidecar.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            pieces = answer.aiter_bytes()
            await anext(pieces)
            while_streamed = await held(sidecar)
            gc.collect()  # what other tests left
            prompts = [each.text for each in gc.get_objects() if type(each) in (NeutralRequest, ParsedChat)]
    assert while_streamed == 0
    assert "" in prompts
    # Other tests have short ones of their own.
    assert max(map(len, prompts)) < KIB


async def test_an_answer_is_held_until_its_client_has_read_it() -> None:
    body = completion("x" * 16 * KIB * KIB, usage(3, 2))
    async with (
        running_upstream(says(200, body)) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        async with answered_but_not_read(sidecar):
            while_read = await held(sidecar)
        await nothing_is_held(sidecar)
    assert while_read == len(body)


async def test_an_answer_of_which_its_client_reads_nothing_is_not_held_for_ever() -> None:
    body = completion("x" * 16 * KIB * KIB, usage(3, 2))
    async with (
        running_upstream(says(200, body)) as upstream,
        running_sidecar(
            snapshot_of(model_of("small", upstream_of(upstream.url))), HttpSettings(stalled_client_seconds=0.3)
        ) as sidecar,
        answered_but_not_read(sidecar),
    ):
        await nothing_is_held(sidecar)


async def test_a_client_that_reads_slowly_gets_all_of_an_answer() -> None:
    body = completion("x" * 4 * KIB * KIB, usage(3, 2))
    async with (
        running_upstream(says(200, body)) as upstream,
        running_sidecar(
            snapshot_of(model_of("small", upstream_of(upstream.url))), HttpSettings(stalled_client_seconds=0.5)
        ) as sidecar,
        sidecar.http.stream(
            "POST", "/v1/chat/completions", json={"model": "auto", "messages": [{"role": "user", "content": "x"}]}
        ) as answer,
    ):
        got = 0
        async for part in answer.aiter_raw(256 * KIB):
            got += len(part)
            await asyncio.sleep(0.1)
    assert got == len(body)

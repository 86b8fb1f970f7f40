"""Answers pass byte for byte as they come; of a request only the model, the output limit and the wish for usage change."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json

import httpx
import pytest
from tests.support.sidecar import model_of, running_sidecar, snapshot_of, upstream_of
from tests.support.upstream import (
    DONE,
    answers,
    completion,
    event,
    piece,
    running_upstream,
    says,
    send_events,
    streams,
    usage,
    usage_piece,
)

from foresail_api.pool import OutputLimitField

CLIENT_BODY = (
    b'{ "vendor_field" : {"deep": [1, 2.50, "\\u00e9 \xc3\xa9"]},\n "model":"auto", '
    b'"messages":[{"role":"user","content":"hi","weird":null}], "temperature":1.0, "max_tokens" : 7}'
)


async def test_a_json_answer_arrives_byte_for_byte_with_fields_that_nobody_knows() -> None:
    body = completion("Grüße \u2028 ok", usage(3, 2), provider_extra={"n": 1.50, "text": "\u00e9"})
    async with (
        running_upstream(says(200, body, "application/json; charset=utf-8", **{"X-Provider-Id": "abc"})) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        answer = await sidecar.ask()
    assert answer.content == body
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["x-provider-id"] == "abc"


async def test_a_request_keeps_every_other_byte() -> None:
    async with (
        running_upstream(answers()) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        answer = await sidecar.http.post(
            "/v1/chat/completions", content=CLIENT_BODY, headers={"Content-Type": "text/plain"}
        )
    assert answer.status_code == 200
    assert upstream.asked[0].body == CLIENT_BODY.replace(b'"auto"', b'"upstream-name"')
    assert upstream.asked[0].headers["Content-Type"] == "application/json"


async def test_the_output_limit_goes_into_the_field_that_the_upstream_knows() -> None:
    async with running_upstream(answers()) as upstream:
        limit_field = OutputLimitField.MAX_COMPLETION_TOKENS
        snapshot = snapshot_of(model_of("small", upstream_of(upstream.url, output_limit_field=limit_field)))
        async with running_sidecar(snapshot) as sidecar:
            await sidecar.ask(max_tokens=7)
            await sidecar.ask()
    assert upstream.asked[0].json["max_completion_tokens"] == 7
    assert "max_tokens" not in upstream.asked[0].json
    assert upstream.asked[1].json["max_completion_tokens"] == 500


@pytest.mark.parametrize("wants_usage", [True, False])
async def test_a_stream_arrives_byte_for_byte_and_usage_only_where_it_was_asked_for(wants_usage: bool) -> None:
    text = [b": keep-alive\n\n", event(piece("Grü")), event(piece("ße", "stop", vendor="x"))]
    counted = event(usage_piece(3, 2))
    async with (
        running_upstream(streams(*text, counted, DONE)) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        options = {"stream_options": {"include_usage": True}} if wants_usage else {}
        answer = await sidecar.ask(stream=True, **options)
        settled = await sidecar.metric("foresail_tokens_total", direction="output")
    assert answer.content == b"".join([*text, *([counted] if wants_usage else []), DONE])
    assert answer.headers["content-type"] == "text/event-stream"
    assert upstream.asked[0].json["stream_options"] == {"include_usage": True}
    assert settled == 2


async def test_a_stream_is_relayed_while_the_upstream_is_still_at_work() -> None:
    goes_on = asyncio.Event()

    async def script(asked, request):
        response = await send_events(request, [event(piece("first"))])
        await goes_on.wait()
        await response.write(event(piece("", "stop")) + DONE)
        return response

    async with (
        running_upstream(script) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        stream = await sidecar.openai().chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "x"}], stream=True
        )
        pieces = aiter(stream)
        first = await anext(pieces)
        goes_on.set()
        rest = [chunk async for chunk in pieces]
    assert first.choices[0].delta.content == "first"
    assert len(rest) == 1


async def test_a_client_that_knows_no_chunks_gets_the_bare_events() -> None:
    text = [event(piece("one")), event(piece("two")), event(piece("three", "stop")), DONE]
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "x"}], "stream": True}).encode()
    async with (
        running_upstream(streams(*text, seconds_between=0.02)) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
        asyncio.timeout(20),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(sidecar.url).port)
        with contextlib.closing(writer):
            writer.write(b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0]
    assert b"chunked" not in head.lower()
    assert rest == b"".join(text)


async def test_a_client_without_chunks_that_would_keep_its_connection_sees_the_end_of_a_stream() -> None:
    async with (
        running_upstream(streams(event(piece("Hello.")), event(piece("", "stop")), DONE)) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        host, port = sidecar.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = b'{"model":"auto","stream":true,"messages":[{"role":"user","content":"x"}]}'
        head = f"POST /v1/chat/completions HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        async with asyncio.timeout(10):
            received = await reader.read()
        writer.close()
    assert received.endswith(DONE)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_field_that_cannot_be_sent_on_does_not_cost_the_answer(stream: bool) -> None:
    answer = completion("Hello.", usage(3, 2))
    kind, body = (b"application/json", answer)
    if stream:
        kind, body = b"text/event-stream", event(piece("Hello.")) + event(piece("", "stop")) + DONE

    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nX-Odd: a\x1bb\r\nX-Even: yes\r\nContent-Length: %d\r\n\r\n"
            writer.write(head % (kind, len(body)) + body)
            await writer.drain()
            await reader.read()

    async with await asyncio.start_server(odd, "127.0.0.1") as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with running_sidecar(snapshot_of(model_of("small", upstream_of(url)))) as sidecar:
            got = await sidecar.ask(stream=stream)
    assert (got.status_code, got.content) == (200, body)
    assert "x-odd" not in got.headers
    assert got.headers["x-even"] == "yes"


async def test_events_cut_anywhere_arrive_whole() -> None:
    whole = event(piece("ü\u2028")) + event(piece("ö", "stop")) + DONE
    async with (
        running_upstream(streams(*(bytes([byte]) for byte in whole))) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        answer = await sidecar.ask(stream=True)
    assert answer.content == whole


async def test_the_openai_sdk_reads_answers_streams_and_models() -> None:
    async with (
        running_upstream(answers("one two")) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        client = sidecar.openai()
        messages = [{"role": "user", "content": "x"}]
        whole = await client.chat.completions.create(model="auto", messages=messages)
        stream = await client.chat.completions.create(
            model="small", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        models = [model.id async for model in client.models.list()]
    assert whole.choices[0].message.content == "one two"
    assert "".join(chunk.choices[0].delta.content for chunk in chunks if chunk.choices) == "one two "
    assert chunks[-1].usage.completion_tokens == 2
    assert models == ["auto", "small"]


async def test_an_answer_that_is_compressed_unasked_arrives_readable() -> None:
    body = completion("Hello.", usage(3, 2))
    compressed = says(200, gzip.compress(body), **{"Content-Encoding": "gzip"})
    async with (
        running_upstream(compressed) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        answer = await sidecar.ask()
        unknown = upstream.script = says(200, body, **{"Content-Encoding": "compress"})
        refused = await sidecar.ask()
    assert unknown is not None
    assert answer.content == body
    assert "content-encoding" not in answer.headers
    assert upstream.asked[0].headers["Accept-Encoding"] == "identity"
    assert refused.status_code == 502
    assert refused.json()["error"]["code"] == "upstream_error"


async def test_large_bodies_pass_both_ways() -> None:
    body = completion("x" * (4 << 20), usage(3, 2))
    async with (
        running_upstream(says(200, body)) as upstream,
        running_sidecar(
            snapshot_of(model_of("small", upstream_of(upstream.url), context_window_tokens=10**8))
        ) as sidecar,
    ):
        answer = await sidecar.ask("y" * (4 << 20))
    assert answer.content == body
    assert "Transfer-Encoding" not in upstream.asked[0].headers
    assert json.loads(upstream.asked[0].body)["messages"][0]["content"] == "y" * (4 << 20)

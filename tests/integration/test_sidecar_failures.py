"""What clients see when an upstream fails: a clean error before the first byte, an error inside of the stream after it, never a clean end."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest
from tests.support.sidecar import model_of, running_sidecar, snapshot_of, state_of, upstream_of
from tests.support.upstream import (
    DONE,
    Script,
    answers,
    completion,
    cuts_body,
    disconnects,
    event,
    hangs,
    piece,
    running_upstream,
    says,
    streams,
    unreachable_url,
    usage,
    usage_piece,
)

from foresail_api.pool import AuthScheme
from foresail_api.snapshot import SnapshotAuth, SnapshotTimeouts
from foresail_sidecar.fronts.http.settings import HttpSettings

KEY = SnapshotAuth(scheme=AuthScheme.BEARER, header_name="Authorization", secret_name="keys", secret_key="key")
MESSAGES = [{"role": "user", "content": "x"}]
SHORT = SnapshotTimeouts(connect_milliseconds=1000, first_byte_milliseconds=200, idle_milliseconds=200)


async def raw_stream(sidecar, **body):
    """The raw bytes of a streamed answer, and whether its body ended as HTTP says it must."""
    host, port = sidecar.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    sent = json.dumps({"model": "auto", "stream": True, "messages": MESSAGES, **body}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(sent)}\r\n\r\n"
    writer.write(head.encode() + sent)
    received = b""
    try:
        async with asyncio.timeout(10):
            while not received.endswith(b"\r\n0\r\n\r\n") and (chunk := await reader.read(65536)):
                received += chunk
    finally:
        writer.close()
        await writer.wait_closed()
    return received, received.endswith(b"0\r\n\r\n")


async def test_the_next_upstream_of_the_same_model_answers_where_the_first_accepts_no_connection() -> None:
    async with running_upstream(answers()) as upstream:
        upstreams = (upstream_of(unreachable_url(), "gone"), upstream_of(upstream.url, "there", model="other-name"))
        async with running_sidecar(snapshot_of(model_of("small", *upstreams))) as sidecar:
            answer = await sidecar.ask()
            gone = await sidecar.metric("foresail_upstream_attempts_total", upstream="gone", outcome="Unreachable")
    assert answer.status_code == 200
    assert upstream.asked[0].json["model"] == "other-name"
    assert gone == 1
    assert answer.headers["x-foresail-cost-usd"] == "0.000007"


async def test_without_any_connection_the_client_is_told_which_upstreams_were_tried() -> None:
    upstreams = (upstream_of(unreachable_url(), "one"), upstream_of(unreachable_url(), "two"))
    async with running_sidecar(snapshot_of(model_of("small", *upstreams))) as sidecar:
        answer = await sidecar.ask()
        stream = await sidecar.ask(stream=True)
    error = answer.json()["error"]
    assert (answer.status_code, stream.status_code) == (502, 502)
    assert error["type"] == "upstream_error"
    assert error["code"] == "upstream_unreachable"
    assert "one: no connection (ClientConnectorError); two: no connection" in error["message"]
    assert "x-foresail-cost-usd" not in answer.headers


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "script", [disconnects, cuts_body(completion("Hello.", usage(3, 2)), 40), says(200, b"<html>", "text/html")]
)
async def test_a_failure_before_the_first_byte_is_a_json_error(stream, script) -> None:
    async with (
        running_upstream(script) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        answer = await sidecar.ask(stream=stream)
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["type"] == "upstream_error"


async def test_what_came_together_with_an_error_is_not_sent_as_the_beginning_of_an_answer() -> None:
    script = streams(event(piece("one")) + event({"error": {"message": "out of memory"}}))
    async with (
        running_upstream(script) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        answer = await sidecar.ask(stream=True)
        counted = await sidecar.metric("foresail_settled_dollars_total", basis="Counted")
    assert answer.status_code == 502
    assert "out of memory" in answer.json()["error"]["message"]
    assert counted > 0


async def test_an_error_event_as_the_first_thing_of_a_stream_is_a_json_error() -> None:
    refusal = event({"error": {"message": "overloaded", "type": "server_error", "code": 529}})
    async with (
        running_upstream(streams(refusal)) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        answer = await sidecar.ask(stream=True)
    assert answer.status_code == 502
    assert "overloaded" in answer.json()["error"]["message"]


async def test_the_sdk_raises_where_a_stream_breaks() -> None:
    pieces = (event(piece("one")), event(piece("two")))
    async with (
        running_upstream(streams(*pieces, then="cut")) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        stream = await sidecar.openai().chat.completions.create(model="auto", messages=MESSAGES, stream=True)
        seen = [(await anext(stream)).choices[0].delta.content for _ in range(2)]
        with pytest.raises(openai.APIError, match="broke off"):
            await anext(stream)
        received, ended = await raw_stream(sidecar)
    assert seen == ["one", "two"]
    assert not ended
    assert received.count(b'"error"') == 1


async def test_a_stream_that_ends_without_saying_so_is_broken() -> None:
    async with (
        running_upstream(streams(event(piece("one")))) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        _, ended = await raw_stream(sidecar)
        outcome = await sidecar.metric("foresail_requests_total", outcome="UpstreamBroke")
    assert not ended
    assert outcome == 1


async def test_an_upstreams_own_error_inside_of_a_stream_is_relayed_once() -> None:
    script = streams(event(piece("one")), event({"error": {"message": "out of memory"}}), DONE, seconds_between=0.05)
    async with (
        running_upstream(script) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        received, ended = await raw_stream(sidecar)
        stream = await sidecar.openai().chat.completions.create(model="auto", messages=MESSAGES, stream=True)
        await anext(stream)
        with pytest.raises(openai.APIError, match="out of memory"):
            await anext(stream)
    assert not ended
    assert received.count(b'"error"') == 1


async def test_a_stream_that_said_it_is_done_is_whole_even_if_the_connection_is_not() -> None:
    script = streams(event(piece("one", "stop")), event(usage_piece(3, 2)), DONE, then="cut")
    async with (
        running_upstream(script) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        _, ended = await raw_stream(sidecar)
    assert ended


async def test_an_upstream_that_does_not_answer_in_time_is_a_504() -> None:
    async with (
        running_upstream(hangs) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url, timeouts=SHORT)))) as sidecar,
    ):
        answer = await sidecar.ask()
        async with asyncio.timeout(5):
            await upstream.abandoned.wait()
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "upstream_timeout"


async def test_a_stream_that_pauses_for_too_long_is_broken_off() -> None:
    async with (
        running_upstream(streams(event(piece("one")), then="hang")) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url, timeouts=SHORT)))) as sidecar,
    ):
        received, ended = await raw_stream(sidecar)
        async with asyncio.timeout(5):
            await upstream.abandoned.wait()
    assert not ended
    assert b"sent nothing for 0.2 s" in received


@pytest.mark.parametrize(
    ("status", "seen", "code", "outcome"),
    [
        (400, 400, "context_length_exceeded", "Refused"),
        (401, 502, "upstream_credential_refused", "Refused"),
        (403, 502, "upstream_credential_refused", "Refused"),
        (404, 404, "context_length_exceeded", "Refused"),
        (408, 504, "upstream_timeout", "Refused"),
        (429, 429, "upstream_rate_limited", "Refused"),
        (500, 502, "upstream_error", "Errored"),
        (503, 502, "upstream_error", "Errored"),
        (302, 502, "upstream_error", "Errored"),
    ],
)
async def test_what_becomes_of_an_upstreams_status(status: int, seen: int, code: str, outcome: str) -> None:
    body = json.dumps(
        {"error": {"message": "m" * 2000, "type": "t", "param": "messages", "code": "context_length_exceeded"}}
    )
    script = says(status, body.encode(), **{"Retry-After": "7", "Location": "http://127.0.0.1:1/"})
    async with (
        running_upstream(script) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        answer = await sidecar.ask()
        ended = await sidecar.metric("foresail_upstream_attempts_total", outcome=outcome)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (seen, code)
    assert len(error["message"]) < 700
    assert len(upstream.asked) == 1
    assert ended == 1
    if status == 429:
        assert answer.headers["retry-after"] == "7"
    # Only a status that says that nothing was generated costs nothing.
    assert ("x-foresail-cost-usd" in answer.headers) == (outcome == "Errored")


@pytest.mark.parametrize("script", [says(500, b"x" * 100_000, "text/plain"), says(503, b"", "text/plain")])
async def test_the_status_is_told_even_where_the_upstreams_explanation_is_useless(script: Script) -> None:
    async with (
        running_upstream(script) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        answer = await sidecar.ask()
        settled = await sidecar.metric("foresail_settled_dollars_total", basis="Assumed")
    assert answer.status_code == 502
    assert "answered with status 50" in answer.json()["error"]["message"]
    assert not answer.json()["error"]["message"].endswith(": ")
    assert settled > 0


async def test_an_answer_that_is_too_large_to_be_held_is_refused() -> None:
    settings = HttpSettings(answer_limit_bytes=1000)
    async with (
        running_upstream(says(200, completion("x" * 2000, usage(3, 2)))) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url))), settings) as sidecar,
    ):
        answer = await sidecar.ask()
    assert answer.status_code == 502
    assert "1000 bytes" in answer.json()["error"]["message"]


async def test_a_whole_answer_to_a_client_that_waits_for_a_stream_is_an_error_and_is_settled() -> None:
    async with (
        running_upstream(says(200, completion("Hello.", usage(3, 2)))) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        async with openai.AsyncOpenAI(base_url=f"{sidecar.url}/v1", api_key="x", max_retries=0) as client:
            with pytest.raises(openai.APIStatusError, match="does not stream") as caught:
                await client.chat.completions.create(model="auto", messages=MESSAGES, stream=True)
        settled = await sidecar.metric("foresail_upstream_attempts_total", outcome="Answered")
    assert caught.value.status_code == 502
    assert settled == 1


@pytest.mark.parametrize("status", [400, 429, 500])
async def test_an_upstream_that_repeats_the_credential_in_its_error_does_not_show_it_to_the_client(status: int) -> None:
    error = {
        "message": "key sk-pool-key of org-Ab12Cd34 has no quota, see https://provider.example/account",
        "code": "sk-pool-key",
    }
    said = json.dumps({"error": error}).encode()
    async with running_upstream(says(status, said)) as upstream:
        model = model_of("small", upstream_of(upstream.url, auth=KEY))
        async with running_sidecar(
            state_of(snapshot_of(model), credentials={("keys", "key"): "sk-pool-key"})
        ) as sidecar:
            answer = await sidecar.ask()
    assert not any(secret in answer.text for secret in ("sk-pool-key", "org-", "provider.example"))
    assert ("key *** of *** has no quota, see ***" in answer.text) == (status < 500)


@pytest.mark.parametrize("streams_it", [False, True])
async def test_a_long_error_does_not_show_the_beginning_of_a_credential_that_it_ends_with(streams_it: bool) -> None:
    said = {"error": {"message": "x " * 240 + "the key is hunter2hunter2"}}
    script = streams(event(said)) if streams_it else says(400, json.dumps(said).encode())
    async with running_upstream(script) as upstream:
        model = model_of("small", upstream_of(upstream.url, auth=KEY))
        async with running_sidecar(
            state_of(snapshot_of(model), credentials={("keys", "key"): "hunter2hunter2"})
        ) as sidecar:
            answer = await sidecar.ask(stream=streams_it)
    assert "x x x" in answer.text
    assert "hunter" not in answer.text


async def test_an_upstreams_error_inside_of_a_stream_does_not_show_the_credential_either() -> None:
    pieces = event(piece("one")), event({"error": {"message": "key sk-pool-key has no quota"}}) + DONE
    async with running_upstream(streams(*pieces, seconds_between=0.05)) as upstream:
        model = model_of("small", upstream_of(upstream.url, auth=KEY))
        async with running_sidecar(
            state_of(snapshot_of(model), credentials={("keys", "key"): "sk-pool-key"})
        ) as sidecar:
            received, ended = await raw_stream(sidecar)
            stream = await sidecar.openai().chat.completions.create(model="auto", messages=MESSAGES, stream=True)
            await anext(stream)
            with pytest.raises(openai.APIError, match="has no quota"):
                await anext(stream)
    assert b"sk-pool-key" not in received
    assert b"DONE" not in received
    assert not ended

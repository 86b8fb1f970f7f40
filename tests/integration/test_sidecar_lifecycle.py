"""What a running data plane outlives: a replaced configuration drops no request, an end waits for streams and then tells them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import openai
import pytest
from tests.support.sidecar import bearer, model_of, running_sidecar, snapshot_of, state_of, upstream_of
from tests.support.upstream import DONE, answers, event, hangs, piece, running_upstream, send_events, streams

from foresail_api.snapshot import SnapshotTenants
from foresail_sidecar.configuration.state import ServingState
from foresail_sidecar.tenants.directory import read_keys
from foresail_sidecar.tenants.keys import hash_of_key, key_line, new_key

MESSAGES = [{"role": "user", "content": "x"}]


async def test_replacing_what_is_served_drops_no_request() -> None:
    async with running_upstream(answers("one")) as first, running_upstream(answers("two")) as second:
        states = [
            state_of(snapshot_of(model_of(f"model-{number}", upstream_of(upstream.url))))
            for number, upstream in enumerate([first, second])
        ]
        async with running_sidecar(states[0]) as sidecar:
            asking = [asyncio.create_task(sidecar.ask(stream=number % 2 == 0)) for number in range(200)]
            # On a slow machine a fixed number of changes could be over before the first request is read, and on any the 200 could be
            # read between two changes: so one more is answered under each state.
            between = []
            for number in itertools.count():
                sidecar.serving.replace(states[number % 2])
                between.append(await sidecar.ask())
                if number and all(task.done() for task in asking):
                    break
            given = await asyncio.gather(*asking)
    said = [
        (answer.headers["x-foresail-model"], "two" if "two" in answer.text else "one") for answer in (*given, *between)
    ]
    assert {answer.status_code for answer in (*given, *between)} == {200}
    # Each request was decided and forwarded under one state.
    assert set(said) == {("model-0", "one"), ("model-1", "two")}
    assert all(DONE.strip() in answer.content for answer in given[::2])


async def test_a_new_credential_is_used_from_the_next_request_on() -> None:
    async with running_upstream(answers()) as upstream:
        snapshot = snapshot_of(model_of("small", upstream_of(upstream.url, auth=bearer())))
        async with running_sidecar(state_of(snapshot, credentials={("keys", "token"): "old"})) as sidecar:
            await sidecar.ask()
            sidecar.serving.replace(state_of(snapshot, credentials={("keys", "token"): "new"}))
            await sidecar.ask()
            sidecar.serving.replace(state_of(snapshot))
            revoked = await sidecar.ask()
    assert [asked.headers["Authorization"] for asked in upstream.asked] == ["Bearer old", "Bearer new"]
    assert revoked.status_code == 400


async def test_a_key_that_is_revoked_while_the_body_comes_is_not_valid_any_more() -> None:
    key = new_key()
    directory, _ = read_keys({"a": key_line(hash_of_key(key), "team-a", None)})
    async with running_upstream(answers()) as upstream:
        snapshot = snapshot_of(
            model_of("small", upstream_of(upstream.url)), tenants=SnapshotTenants(secret_name="keys")
        )
        valid = replace(state_of(snapshot), tenants=directory)
        async with running_sidecar(valid) as sidecar:

            async def body(then: ServingState) -> AsyncIterator[bytes]:
                yield b'{"model": "auto", '
                # By the time of another answer the head of this request was read.
                assert (await sidecar.http.get("/v1/models", headers=headers)).status_code == 200
                sidecar.serving.replace(then)
                yield json.dumps({"messages": MESSAGES}).encode()[1:]

            headers = {"Authorization": f"Bearer {key}"}
            answered, revoked = [
                await sidecar.http.post("/v1/chat/completions", content=body(then), headers=headers)
                for then in (valid, state_of(snapshot))
            ]
    assert answered.status_code == 200
    assert (revoked.status_code, revoked.json()["error"]["code"]) == (401, "invalid_api_key")
    assert len(upstream.asked) == 1


async def test_an_end_waits_for_what_is_under_way() -> None:
    goes_on = asyncio.Event()

    async def script(asked, request):
        response = await send_events(request, [event(piece("one"))])
        await goes_on.wait()
        await response.write(event(piece("two", "stop")) + DONE)
        return response

    async with (
        running_upstream(script) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        stream = await sidecar.openai().chat.completions.create(model="auto", messages=MESSAGES, stream=True)
        await anext(stream)
        sidecar.serving.draining = True
        ready = await sidecar.http.get("/readyz")
        alive = await sidecar.http.get("/healthz")
        draining = asyncio.create_task(sidecar.drain(10))
        with pytest.raises(httpx.ConnectError):
            await sidecar.ask()
        goes_on.set()
        last = await anext(stream)
        assert await draining
    assert (ready.status_code, ready.json()["reason"], alive.status_code) == (503, "draining", 200)
    assert ready.headers["connection"] == "close"
    assert last.choices[0].delta.content == "two"


async def test_what_is_not_done_in_time_is_told_and_settled() -> None:
    async with (
        running_upstream(streams(event(piece("one")), then="hang")) as streaming,
        running_upstream(hangs) as hanging,
        running_sidecar(
            snapshot_of(model_of("streams", upstream_of(streaming.url)), model_of("hangs", upstream_of(hanging.url)))
        ) as sidecar,
    ):
        stream = await sidecar.openai().chat.completions.create(model="streams", messages=MESSAGES, stream=True)
        await anext(stream)
        whole = asyncio.create_task(sidecar.ask(model="hangs"))
        await hanging.arrived.wait()
        assert not await sidecar.drain(0.05)
        with pytest.raises(openai.APIError, match="shutting down"):
            await anext(stream)
        answer = await whole
        async with asyncio.timeout(5):
            await streaming.abandoned.wait()
            await hanging.abandoned.wait()
        counted = sidecar.sample("foresail_settled_dollars_total", policy="chat", model="streams", basis="Counted")
        assumed = sidecar.sample("foresail_settled_dollars_total", policy="chat", model="hangs", basis="Assumed")
        interrupted = sidecar.sample("foresail_requests_total", policy="chat", model="hangs", outcome="Interrupted")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
    assert 0 < counted < assumed
    assert interrupted == 1


async def test_before_anything_is_loaded_only_the_process_is_alive() -> None:
    async with running_sidecar(None) as sidecar:
        ready, alive = await sidecar.http.get("/readyz"), await sidecar.http.get("/healthz")
        answer, models = await sidecar.ask(), await sidecar.http.get("/v1/models")
        metrics = await sidecar.http.get("/metrics")
        sidecar.serving.replace(state_of(snapshot_of(model_of("small", upstream_of("http://127.0.0.1:1/v1")))))
        loaded = await sidecar.http.get("/readyz")
        sidecar.serving.refuse("pool.yaml: sk-live-SECRET is no price")
        broken = await sidecar.http.get("/readyz")
        shown = await sidecar.metric("foresail_snapshot_info", policy="chat")
    assert (ready.status_code, alive.status_code, metrics.status_code) == (503, 200, 200)
    assert (answer.status_code, models.status_code) == (503, 503)
    assert answer.json()["error"]["code"] == "not_ready"
    assert loaded.json()["policy"] == "chat"
    assert "configuration_error" not in loaded.json()
    assert broken.status_code == 200
    # Whoever may ask for readiness need not be one who may read the configuration.
    assert broken.json()["configuration_error"] == "the last change of the configuration was refused; the log says why"
    assert shown == 1


async def test_requests_on_one_connection_follow_each_other() -> None:
    async with (
        running_upstream(answers()) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        host, port = sidecar.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps({"model": "auto", "messages": MESSAGES}).encode()
        request = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        statuses = []
        async with asyncio.timeout(10):
            for _ in range(3):
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                statuses.append(head.split(b" ")[1])
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
                await reader.readexactly(int(length.split(b":")[1]))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    assert statuses == [b"200"] * 3

"""Requests that get no answer: each is told what is wrong in OpenAI's shape, and nothing is forwarded."""

from __future__ import annotations

import asyncio
import functools
import gzip
from pathlib import Path

import openai
import pytest
from tests.support.sidecar import model_of, running_sidecar, snapshot_of, upstream_of
from tests.support.upstream import answers, event, hangs, piece, running_upstream, streams

from foresail_sidecar.fronts.http.settings import HttpSettings
from foresail_sidecar.telemetry.decision_log import DecisionLog

MESSAGES = [{"role": "user", "content": "x"}]
MEBIBYTE = 1 << 20


async def test_a_body_of_20_megabytes_is_refused_with_or_without_a_declared_length() -> None:
    async def in_pieces():
        for _ in range(20):
            yield b"x" * MEBIBYTE

    async with (
        running_upstream(answers()) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        declared = await sidecar.http.post("/v1/chat/completions", content=b"x" * 20 * MEBIBYTE)
        chunked = await sidecar.http.post("/v1/chat/completions", content=in_pieces())
        routed = await sidecar.http.post("/v1/route", content=in_pieces())
        with pytest.raises(openai.APIStatusError) as raised:
            await sidecar.openai().chat.completions.create(
                model="auto", messages=[{"role": "user", "content": "x" * 20 * MEBIBYTE}]
            )
    for answer in (declared, chunked, routed):
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_too_large"
        assert str(8 * MEBIBYTE) in answer.json()["error"]["message"]
        assert answer.headers["x-foresail-decision-id"]
    assert raised.value.status_code == 413
    assert upstream.asked == []


async def test_the_body_limit_is_a_setting_and_exact() -> None:
    body = b'{"model":"auto","messages":[{"role":"user","content":"x"}]}'
    async with running_upstream(answers()) as upstream:
        snapshot = snapshot_of(model_of("small", upstream_of(upstream.url)))
        async with running_sidecar(snapshot, HttpSettings(body_limit_bytes=len(body))) as sidecar:
            fits = await sidecar.http.post("/v1/chat/completions", content=body)
            exceeds = await sidecar.http.post("/v1/chat/completions", content=body + b" ")
    assert (fits.status_code, exceeds.status_code) == (200, 413)


async def test_a_body_that_never_comes_is_not_waited_for() -> None:
    async def stalls():
        yield b'{"model":'
        await asyncio.sleep(1)
        yield b'"auto"}'

    snapshot = snapshot_of(model_of("small", upstream_of("http://127.0.0.1:1/v1")))
    async with running_sidecar(snapshot, HttpSettings(body_seconds=0.1)) as sidecar:
        answer = await sidecar.http.post("/v1/chat/completions", content=stalls())
    assert answer.status_code == 408


async def test_a_client_that_leaves_inside_of_its_body_is_no_defect() -> None:
    async with running_sidecar(snapshot_of(model_of("small", upstream_of("http://127.0.0.1:1/v1")))) as sidecar:
        host, port = sidecar.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b'POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"model"')
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(5):
            while not await sidecar.metric("foresail_requests_total"):  # noqa: ASYNC110  a scrape says it
                await asyncio.sleep(0.01)
        assert await sidecar.metric("foresail_requests_total", outcome="ClientLeft") == 1


async def test_a_compressed_body_is_read_within_its_limit() -> None:
    body = b'{"model":"auto","messages":[{"role":"user","content":"x"}]}'
    headers = {"Content-Encoding": "gzip"}
    async with (
        running_upstream(answers()) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        post = functools.partial(sidecar.http.post, "/v1/chat/completions", headers=headers)
        good = await post(content=gzip.compress(body))
        bomb = await post(content=gzip.compress(b" " * 20 * MEBIBYTE))
        broken = await post(content=b"no gzip at all")
    assert (good.status_code, bomb.status_code, broken.status_code) == (200, 413, 400)
    assert "Content-Encoding" not in upstream.asked[0].headers
    assert len(upstream.asked) == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"model": "auto", "messages": [', None),
        (b"", None),
        (b"[]", None),
        (b"\xff\xfe", None),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "model"),
        (b'{"model": "auto"}', "messages"),
        (b'{"model": "auto", "messages": "x"}', "messages"),
    ],
)
async def test_a_body_that_cannot_be_read_is_the_clients_error(body: bytes, param: str | None) -> None:
    async with (
        running_upstream(answers()) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        answer = await sidecar.http.post("/v1/chat/completions", content=body)
        routed = await sidecar.http.post("/v1/route", content=body)
        counted = await sidecar.metric("foresail_requests_total", outcome="Invalid")
    error = answer.json()["error"]
    assert (answer.status_code, routed.status_code) == (400, 400)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert routed.json()["error"] == error
    assert routed.headers["x-foresail-decision-id"] != answer.headers["x-foresail-decision-id"]
    assert counted == 1
    assert upstream.asked == []


async def test_an_unknown_model_is_answered_with_the_names_that_exist() -> None:
    snapshot = snapshot_of(model_of("small", upstream_of("http://127.0.0.1:1/v1")), aliases=("auto", "best"))
    async with running_sidecar(snapshot) as sidecar:
        with pytest.raises(openai.NotFoundError) as raised:
            await sidecar.openai().chat.completions.create(model="gpt-unknown", messages=MESSAGES)
    assert raised.value.code == "model_not_found"
    assert all(name in str(raised.value) for name in ("gpt-unknown", "auto", "best", "small"))


async def test_a_cap_that_is_too_small_for_the_prompt_is_named_with_what_would_fit() -> None:
    snapshot = snapshot_of(model_of("small", upstream_of("http://127.0.0.1:1/v1")), per_request_nano_dollars=1000)
    async with running_sidecar(snapshot) as sidecar:
        answer = await sidecar.ask("a prompt that is longer than the cap pays for")
        routed = await sidecar.http.post("/v1/route", json={"model": "auto", "messages": MESSAGES})
        counted = await sidecar.metric("foresail_eliminations_total", model="small", reason="OverPerRequestCap")
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["code"] == "cost_cap_exceeded"
    assert "0.000001" in error["message"]
    assert routed.status_code == 200
    assert routed.json()["refusal"]["kind"] == "CostCapExceeded"
    assert routed.json()["model"] is None
    assert counted == 2


async def test_anonymous_callers_are_refused_unless_the_policy_allows_them() -> None:
    snapshot = snapshot_of(model_of("small", upstream_of("http://127.0.0.1:1/v1")), anonymous_allowed=False)
    async with running_sidecar(snapshot) as sidecar:
        with pytest.raises(openai.AuthenticationError):
            await sidecar.openai().chat.completions.create(model="auto", messages=MESSAGES)
        models = await sidecar.http.get("/v1/models")
        routed = await sidecar.http.post("/v1/route", json={"model": "auto", "messages": MESSAGES})
        ready = await sidecar.http.get("/readyz")
    assert (models.status_code, routed.status_code, ready.status_code) == (401, 401, 200)
    assert routed.headers["x-foresail-decision-id"]
    assert models.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/", 404),
    ],
)
async def test_other_paths_and_methods_are_refused_in_the_same_shape(method: str, path: str, status: int) -> None:
    async with running_sidecar(snapshot_of(model_of("small", upstream_of("http://127.0.0.1:1/v1")))) as sidecar:
        answer = await sidecar.http.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert ("allow" in answer.headers) == (status == 405)


async def test_more_requests_than_there_may_be_are_shed_and_counted() -> None:
    async with running_upstream(hangs) as upstream:
        snapshot = snapshot_of(model_of("small", upstream_of(upstream.url)))
        async with running_sidecar(snapshot, HttpSettings(most_in_flight=1)) as sidecar:
            first = asyncio.create_task(sidecar.ask())
            async with asyncio.timeout(5):
                await upstream.arrived.wait()
            shed = await sidecar.ask()
            alive = await sidecar.http.get("/healthz")
            counted = await sidecar.metric("foresail_requests_total", outcome="Overloaded")
            first.cancel()
            await asyncio.wait([first])
    assert (shed.status_code, alive.status_code) == (503, 200)
    assert shed.json()["error"]["code"] == "overloaded"
    assert shed.headers["retry-after"] == "1"
    assert counted == 1


async def test_no_prompt_answer_or_key_reaches_a_log_or_a_metric(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    marker = "the-secret-marker"
    decisions = DecisionLog(tmp_path / "log")
    caplog.set_level("DEBUG")
    broken = streams(event(piece(marker)), then="cut")
    async with (
        running_upstream(answers(marker)) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url))), decision_log=decisions) as sidecar,
    ):
        sidecar.http.headers["Authorization"] = f"Bearer {marker}"
        await sidecar.ask(marker)
        await sidecar.ask(marker, temperature={"no": marker}, stream=marker)
        await sidecar.ask("x", model=marker)
        await sidecar.http.post("/v1/chat/completions", content=f'{{"model": {marker}')
        await sidecar.http.post("/v1/route", json={"model": "auto", "messages": [{"role": "user", "content": marker}]})
        upstream.script = broken
        stream = await sidecar.openai().chat.completions.create(
            model="auto", messages=[{"role": "user", "content": marker}], stream=True
        )
        with pytest.raises(openai.APIError):
            [chunk async for chunk in stream]
        metrics = (await sidecar.http.get("/metrics")).text
    ours = [record for record in caplog.records if record.name.startswith(("foresail", "aiohttp", "asyncio"))]
    decisions.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 5
    assert not [line for line in lines if marker in line]
    assert not [record for record in ours if marker in str(vars(record))]
    assert not [record for record in ours if record.exc_info]
    assert marker not in metrics

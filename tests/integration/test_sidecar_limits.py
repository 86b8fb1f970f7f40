"""Limits of upstreams as clients meet them: OpenAI's SDK in front, a real ledger behind, upstreams that are full in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.support.ledgers import SqliteBackend, ledger_client
from tests.support.sidecar import Sidecar, model_of, running_sidecar, snapshot_of, upstream_of
from tests.support.upstream import answers, event, hangs, piece, running_upstream, says, streams

from foresail_api.snapshot import Snapshot, SnapshotFallback, SnapshotLimits, SnapshotModel
from foresail_sidecar.configuration.state import ServingState
from foresail_sidecar.ledger.client import LedgerClient
from foresail_sidecar.telemetry.decision_log import DecisionLog

MESSAGES: Any = [{"role": "user", "content": "x"}]
ONE_AT_ONCE = SnapshotLimits(concurrent_requests=1)
ONE_A_MINUTE = SnapshotLimits(requests_per_minute=1)


class OneLedger:
    """The same ledger for whatever is served."""

    def __init__(self, client: LedgerClient) -> None:
        self.client = client

    def of(self, state: ServingState) -> LedgerClient | None:
        return self.client


@contextlib.asynccontextmanager
async def serving(
    directory: Path, *models: SnapshotModel, log: DecisionLog | None = None, **changes: Any
) -> AsyncIterator[Sidecar]:
    snapshot: Snapshot = snapshot_of(*models, **changes)
    async with (
        ledger_client(SqliteBackend(directory).open("uid"), directory) as client,
        running_sidecar(snapshot, decision_log=log, ledgers=OneLedger(client)) as sidecar,
    ):
        yield sidecar


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


async def open_stream(sidecar: Sidecar) -> Any:
    stream = await sidecar.openai().chat.completions.create(model="auto", messages=MESSAGES, stream=True)
    return stream


async def test_a_full_upstream_overflows_to_the_next_one_of_the_same_model(tmp_path: Path) -> None:
    async with (
        running_upstream(streams(event(piece("Hello.")), then="hang")) as full,
        running_upstream(answers("Here.")) as spare,
    ):
        model = model_of("m", upstream_of(full.url, limits=ONE_AT_ONCE), upstream_of(spare.url, "second"))
        async with serving(tmp_path, model) as sidecar:
            stream = await open_stream(sidecar)
            answer = await sidecar.openai().chat.completions.create(model="auto", messages=MESSAGES)
            assert answer.choices[0].message.content == "Here."
            assert (len(full.asked), len(spare.asked)) == (1, 1)
            await stream.close()


@pytest.mark.parametrize("other_models", [True, False])
async def test_then_to_the_next_candidate_which_is_no_fallback_after_a_failure(
    other_models: bool, tmp_path: Path
) -> None:
    log, path = DecisionLog(tmp_path / "log"), tmp_path / "log"
    async with running_upstream(answers()) as first, running_upstream(answers()) as second:
        cheap = model_of("cheap", upstream_of(first.url, limits=ONE_A_MINUTE))
        dear = model_of("dear", upstream_of(second.url), dollars_in=9)
        fallback = SnapshotFallback(other_models=other_models)
        async with serving(tmp_path, cheap, dear, log=log, fallback=fallback) as sidecar:
            models = [(await sidecar.ask()).headers["x-foresail-model"] for _ in range(2)]
            named = await sidecar.ask(model="cheap")
            counted = await sidecar.metric("foresail_eliminations_total", model="cheap", reason="RateLimited")
    log.close()
    assert (models, counted) == (["cheap", "dear"], 2)
    assert (named.status_code, named.json()["error"]["code"]) == (429, "upstream_limit")
    eliminated = [[one["eliminated"] for one in line["candidates"]] for line in lines_of(path)]
    assert eliminated == [[None, None], ["RateLimited", None], ["RateLimited", "NotRequested"]]


async def test_where_nobody_has_room_the_sdk_is_told_when_there_is(tmp_path: Path) -> None:
    log, path = DecisionLog(tmp_path / "log"), tmp_path / "log"
    async with running_upstream(answers()) as upstream:
        async with serving(tmp_path, model_of("m", upstream_of(upstream.url, limits=ONE_A_MINUTE)), log=log) as sidecar:
            await sidecar.ask()
            with pytest.raises(openai.RateLimitError) as caught:
                await sidecar.openai().chat.completions.create(model="auto", messages=MESSAGES)
            assert await sidecar.metric("foresail_requests_total", outcome="UpstreamLimited") == 1
        log.close()
        assert len(upstream.asked) == 1
    error, body = caught.value, caught.value.body
    assert isinstance(body, dict)
    assert (error.type, error.code) == ("rate_limit_error", "upstream_limit")
    assert (body["model"], body["upstream"], body["limit"]) == ("m", "first", "requestsPerMinute")
    assert "takes at most 1 requests a minute" in body["message"]
    assert 50 < int(error.response.headers["retry-after"]) <= 60
    assert "x-should-retry" not in error.response.headers
    line = lines_of(path)[1]
    assert (line["outcome"], line["status"], line["budget_refusal"]) == ("UpstreamLimited", 429, None)
    figures = {"spent": 1, "reserved": 0, "limit": 1, "needed": 1}
    assert line["limit_refusal"] == {"model": "m", "upstream": "first", "measure": "requests", **figures}


async def test_a_place_is_free_again_when_its_client_leaves(tmp_path: Path) -> None:
    async with running_upstream(streams(event(piece("Hello.")), then="hang")) as upstream:
        async with serving(tmp_path, model_of("m", upstream_of(upstream.url, limits=ONE_AT_ONCE))) as sidecar:
            first = await open_stream(sidecar)
            with pytest.raises(openai.RateLimitError) as caught:
                await open_stream(sidecar)
            assert int(caught.value.response.headers["retry-after"]) <= 2
            await first.close()
            await (await open_stream(sidecar)).close()
        assert len(upstream.asked) == 2


async def test_a_client_that_leaves_while_it_waits_takes_no_place(tmp_path: Path) -> None:
    async with running_upstream(hangs) as upstream:
        async with serving(tmp_path, model_of("m", upstream_of(upstream.url, limits=ONE_AT_ONCE))) as sidecar:
            first = asyncio.create_task(sidecar.ask())
            await upstream.arrived.wait()
            with pytest.raises(openai.APITimeoutError):
                await sidecar.openai(timeout=0.2).chat.completions.create(model="auto", messages=MESSAGES)
            first.cancel()
            upstream.script = answers()
            assert (await sidecar.ask()).status_code == 200
        assert len(upstream.asked) == 2


async def test_each_attempt_takes_a_place_of_its_own(tmp_path: Path) -> None:
    async with running_upstream(says(500, b"{}")) as ill, running_upstream(answers()) as well:
        places = upstream_of(ill.url, limits=ONE_A_MINUTE), upstream_of(well.url, "second", limits=ONE_A_MINUTE)
        async with serving(tmp_path, model_of("m", *places)) as sidecar:
            assert [(await sidecar.ask()).status_code for _ in range(2)] == [200, 429]
        assert (len(ill.asked), len(well.asked)) == (1, 1)


async def test_what_failed_is_told_where_a_limit_leaves_no_room_for_another_attempt(tmp_path: Path) -> None:
    async with running_upstream(says(500, b"{}")) as ill, running_upstream(answers()) as well:
        places = upstream_of(ill.url), upstream_of(well.url, "second", limits=ONE_A_MINUTE)
        async with serving(tmp_path, model_of("m", *places)) as sidecar:
            assert [(await sidecar.ask()).status_code for _ in range(2)] == [200, 502]
        assert (len(ill.asked), len(well.asked)) == (2, 1)


async def test_tokens_count_as_they_were_billed(tmp_path: Path) -> None:
    async with running_upstream(answers()) as upstream:
        limits = SnapshotLimits(tokens_per_minute=600)
        async with serving(tmp_path, model_of("m", upstream_of(upstream.url, limits=limits))) as sidecar:
            # Each could use some 540 tokens and is billed 5.
            assert [(await sidecar.ask(max_tokens=500)).status_code for _ in range(6)] == [200] * 6


async def test_a_request_that_never_fits_is_not_to_be_sent_again(tmp_path: Path) -> None:
    async with running_upstream(answers()) as upstream:
        limits = SnapshotLimits(tokens_per_minute=100)
        async with serving(tmp_path, model_of("m", upstream_of(upstream.url, limits=limits))) as sidecar:
            answer = await sidecar.ask(max_tokens=500)
        assert upstream.asked == []
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "upstream_limit")
    assert answer.headers["x-should-retry"] == "false"
    assert "name a smaller `max_tokens`" in answer.json()["error"]["message"]


async def test_without_a_ledger_limits_do_not_hold_and_that_is_counted() -> None:
    async with running_upstream(answers()) as upstream:
        model = model_of("m", upstream_of(upstream.url, limits=ONE_A_MINUTE))
        async with running_sidecar(snapshot_of(model)) as sidecar:
            assert [(await sidecar.ask()).status_code for _ in range(3)] == [200] * 3
            assert await sidecar.metric("foresail_ledger_skipped_total", policy="chat") == 3

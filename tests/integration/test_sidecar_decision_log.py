"""Each request leaves one line that says what was decided, why, and what it cost; nobody's words are in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support.sidecar import bearer, model_of, running_sidecar, snapshot_of, state_of, upstream_of
from tests.support.upstream import answers, hangs, running_upstream, says, usage

from foresail_sidecar.telemetry.decision_log import DecisionLog


@contextmanager
def logging_to(path: Path) -> Iterator[DecisionLog]:
    log = DecisionLog(path)
    try:
        yield log
    finally:
        log.close()


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_line_says_what_was_decided_and_what_it_cost(tmp_path: Path, stream: bool) -> None:
    path = tmp_path / "log"
    async with running_upstream(answers("Yes.", counted=usage(7, 5))) as upstream:
        dear = model_of("dear", upstream_of(upstream.url), dollars_in=9, dollars_out=9)
        snapshot = snapshot_of(
            dear,
            model_of("cheap", upstream_of(upstream.url)),
            model_of("tiny", upstream_of(upstream.url), context_window_tokens=8),
        )
        with logging_to(path) as log:
            async with running_sidecar(snapshot, decision_log=log) as sidecar:
                answer = await sidecar.ask(stream=stream, max_tokens=100)
                await sidecar.http.get("/v1/models")
    (line,) = lines_of(path)
    assert datetime.fromisoformat(line.pop("time")).tzinfo == UTC
    assert 0 < line["overhead_ms"] < line["latency_ms"] < 10_000
    del line["overhead_ms"], line["latency_ms"]
    candidates = {candidate.pop("model"): candidate for candidate in line.pop("candidates")}
    assert candidates["cheap"]["eliminated"] is None
    assert candidates["tiny"]["eliminated"] == "ContextTooSmall"
    assert candidates["dear"]["worst_case_nano_dollars"] > candidates["cheap"]["worst_case_nano_dollars"] > 0
    assert set(candidates["cheap"]) == {"eliminated", "quality", "cost_nano_dollars", "worst_case_nano_dollars"}
    assert line == {
        "decision_id": answer.headers["x-foresail-decision-id"],
        "policy": "chat",
        "snapshot": snapshot.content_hash(),
        "artifact": None,
        "basis": "Cheapest",
        "scoring_error": None,
        "tenant": "",
        "choice": "cheap",
        "refusal": None,
        "pressure_percent": 0,
        "budget_refusal": None,
        "limit_refusal": None,
        "ledger_skipped": False,
        "attempts": [
            {
                "model": "cheap",
                "upstream": "first",
                "outcome": "Answered",
                "basis": "Reported",
                "input_tokens": 7,
                "output_tokens": 5,
                "cost_nano_dollars": 17_000,
            }
        ],
        "cost_nano_dollars": 17_000,
        "outcome": "Answered",
        "status": 200,
        "stream": stream,
        "max_tokens": 100,
    }


async def test_a_refusal_and_an_upstreams_error_are_told_by_their_words(tmp_path: Path) -> None:
    path = tmp_path / "log"
    async with running_upstream(says(400, b'{"error":{"message":"no"}}')) as upstream:
        snapshot = snapshot_of(model_of("small", upstream_of(upstream.url)))
        with logging_to(path) as log:
            async with running_sidecar(snapshot, decision_log=log) as sidecar:
                await sidecar.http.post("/v1/chat/completions", content=b"{")
                await sidecar.ask(model="absent")
                await sidecar.ask("x" * 900_000)
                await sidecar.ask()
    lines = lines_of(path)
    assert [(line["status"], line["outcome"], line["refusal"], line["choice"]) for line in lines] == [
        (400, "Invalid", None, None),
        (404, "UnknownModel", "UnknownModel", None),
        (400, "NoEligibleModel", "NoEligibleModel", None),
        (400, "UpstreamRefused", None, "small"),
    ]
    assert [line["attempts"] for line in lines[:3]] == [[], [], []]
    assert lines[2]["candidates"][0]["eliminated"] == "ContextTooSmall"
    assert (lines[3]["attempts"][0]["outcome"], lines[3]["attempts"][0]["basis"]) == ("Refused", None)


async def test_a_client_that_leaves_is_in_the_log_with_what_it_cost(tmp_path: Path) -> None:
    path = tmp_path / "log"
    async with running_upstream(hangs) as upstream:
        snapshot = snapshot_of(model_of("small", upstream_of(upstream.url)))
        with logging_to(path) as log:
            async with running_sidecar(snapshot, decision_log=log) as sidecar:
                asking = asyncio.create_task(sidecar.ask())
                async with asyncio.timeout(5):
                    await upstream.arrived.wait()
                    asking.cancel()
                    await upstream.abandoned.wait()
    (line,) = lines_of(path)
    assert (line["status"], line["outcome"]) == (None, "ClientLeft")
    assert line["attempts"][0]["basis"] == "Assumed"
    assert line["cost_nano_dollars"] == line["attempts"][0]["cost_nano_dollars"] > 0


async def test_no_prompt_answer_or_key_is_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    async with running_upstream(answers("the-answers-words")) as upstream:
        snapshot = snapshot_of(model_of("small", upstream_of(upstream.url, auth=bearer())))
        state = state_of(snapshot, credentials={("keys", "token"): "the-pools-key"})
        with logging_to(path) as log:
            async with running_sidecar(state, decision_log=log) as sidecar:
                headers = {"Authorization": "Bearer the-clients-key"}
                for model in ("auto", "the-prompts-words"):
                    body = {"model": model, "messages": [{"role": "user", "content": "the-prompts-words"}]}
                    await sidecar.http.post("/v1/chat/completions", json=body, headers=headers)
                upstream.script = says(401, b'{"error":{"message":"the-answers-words the-pools-key"}}')
                await sidecar.ask("the-prompts-words", user="the-prompts-words")
    written = path.read_text()
    assert len(lines_of(path)) == 3
    for secret in ("the-prompts-words", "the-answers-words", "the-pools-key", "the-clients-key"):
        assert secret not in written


async def test_lines_that_are_lost_are_counted_in_the_metrics() -> None:
    async with running_upstream(answers()) as upstream:
        snapshot = snapshot_of(model_of("small", upstream_of(upstream.url)))
        with logging_to(Path("/dev/full")) as log:
            async with running_sidecar(snapshot, decision_log=log) as sidecar:
                answered = [(await sidecar.ask()).status_code for _ in range(3)]
                async with asyncio.timeout(5):
                    while await sidecar.metric("foresail_decision_log_lost_total") < 3:  # noqa: ASYNC110  a scrape says it
                        await asyncio.sleep(0.02)
    assert answered == [200, 200, 200]

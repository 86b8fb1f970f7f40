"""The router's estimates decide; where there are none in time, the failure mode does, and the answer says so."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.support.sidecar import DIGEST, model_of, running_sidecar, snapshot_of, state_of, upstream_of
from tests.support.upstream import answers, running_upstream, says

from foresail_api.policy import FailureMode, Strategy
from foresail_router.decision.ratios import InputMeans
from foresail_router.engine.interface import (
    DeadlineExceeded,
    Estimate,
    ScoreRequest,
    ScoreResult,
    ScorerOverloaded,
    ScoringError,
)

MESSAGES = [{"role": "user", "content": "which one?"}]


class Foresees:
    """A scorer that gives these qualities, after some time, or raises."""

    def __init__(self, error: Exception | None = None, seconds: float = 0, **qualities: float) -> None:
        self.asked: list[ScoreRequest] = []
        self._error = error
        self._seconds = seconds
        self._qualities = qualities
        self.tokens, self.median = 50.0, 40.0

    async def score(self, request: ScoreRequest) -> ScoreResult:
        self.asked.append(request)
        await asyncio.sleep(self._seconds)
        if self._error is not None:
            raise self._error
        estimates = [
            Estimate(model, self._qualities[model], 0.1, self.tokens, 10, 90, self.median) for model in request.models
        ]
        return ScoreResult((tuple(estimates),))


def pool(url: str, **changes):
    models = (model_of("cheap", upstream_of(url)), model_of("good", upstream_of(url), dollars_in=5, dollars_out=10))
    return snapshot_of(*models, strategy=Strategy.LEARNED, **changes)


async def test_the_model_that_is_foreseen_to_be_best_answers() -> None:
    scorer = Foresees(cheap=0.2, good=0.9)
    async with (
        running_upstream(answers()) as upstream,
        running_sidecar(state_of(pool(upstream.url), scorer=scorer)) as sidecar,
    ):
        answer = await sidecar.ask("which one?")
        passed = await sidecar.ask(model="cheap")
    assert answer.headers["x-foresail-model"] == "good"
    assert answer.headers["x-foresail-basis"] == "Learned"
    assert scorer.asked == [ScoreRequest(DIGEST, ("which one?",), ("cheap", "good"), 1.0)]
    assert passed.headers["x-foresail-model"] == "cheap"


async def test_the_decision_is_shown_with_every_candidate() -> None:
    scorer = Foresees(cheap=0.2, good=0.9)
    async with running_sidecar(state_of(pool("http://127.0.0.1:1/v1"), scorer=scorer)) as sidecar:
        answer = await sidecar.http.post("/v1/route", json={"model": "auto", "messages": MESSAGES, "max_tokens": 100})
    shown = answer.json()
    assert shown.keys() == {
        "decision_id",
        "policy",
        "snapshot_hash",
        "artifact_digest",
        "basis",
        "scoring_error",
        "model",
        "refusal",
        "order",
        "pressure_percent",
        "candidates",
    }
    assert (shown["model"], shown["basis"], shown["artifact_digest"]) == ("good", "Learned", DIGEST)
    good = next(candidate for candidate in shown["candidates"] if candidate["model"] == "good")
    assert good["quality"] == 0.9
    assert good["quality_interval"] == pytest.approx([0.704, 1.0])
    assert good["output_limit"] == 100
    assert (good["output_tokens_p05"], good["output_tokens_p50"], good["output_tokens_p95"]) == (10, 40, 90)
    assert float(good["cost_p05_usd"]) < float(good["cost_usd"]) < float(good["cost_p95_usd"])
    assert float(good["cost_p95_usd"]) < float(good["worst_case_usd"])
    assert good["utility"] is not None
    assert good["eliminated"] is None


async def test_before_anything_is_settled_the_input_is_as_long_as_the_artifact_expects() -> None:
    models = [model_of(name, upstream_of("http://127.0.0.1:1/v1"), overhead_tokens=1000) for name in ("cheap", "good")]
    state = state_of(snapshot_of(*models, strategy=Strategy.LEARNED), scorer=Foresees(cheap=0.2, good=0.9))
    assert state.artifact is not None
    # Of prompts as long as the one that is asked; nothing is known of the cheap model.
    facts = replace(state.artifact, input_means={"good": InputMeans(tokens=500, text_bytes=len("which one?"))})
    async with running_sidecar(replace(state, artifact=facts)) as sidecar:
        shown = (await sidecar.http.post("/v1/route", json={"model": "auto", "messages": MESSAGES})).json()
    # A quarter token for each of 43 bytes, and of those 33 that are not text.
    assert [one["input_tokens"] for one in shown["candidates"]] == [11, 508]


@pytest.mark.parametrize(
    ("scorer", "reason"),
    [
        (Foresees(ScoringError("x")), "ScoringFailed"),
        (Foresees(DeadlineExceeded("x")), "DeadlineExceeded"),
        (Foresees(ScorerOverloaded("x")), "ScorerOverloaded"),
        (Foresees(RuntimeError("which one?")), "ScoringFailed"),
        (Foresees(seconds=30, cheap=1, good=1), "DeadlineExceeded"),
        (None, "ArtifactNotLoaded"),
    ],
)
async def test_without_estimates_the_failure_mode_decides_and_the_answer_says_so(
    scorer: Foresees | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_upstream(answers()) as upstream:
        cheapest = pool(upstream.url, deadline_milliseconds=50)
        default = pool(upstream.url, deadline_milliseconds=50, default_model="good")
        closed = pool(upstream.url, deadline_milliseconds=50, failure_mode=FailureMode.FAIL_CLOSE)
        async with running_sidecar(state_of(cheapest, scorer=scorer)) as sidecar:
            from_cheapest = await sidecar.ask("which one?")
            sidecar.serving.replace(state_of(default, scorer=scorer))
            from_default = await sidecar.ask("which one?")
            sidecar.serving.replace(state_of(closed, scorer=scorer))
            refused = await sidecar.ask("which one?")
            shown = (await sidecar.http.post("/v1/route", json={"model": "auto", "messages": MESSAGES})).json()
            failed = await sidecar.metric("foresail_decisions_total", scoring_error=reason)
    assert from_cheapest.headers["x-foresail-basis"] == "FailOpenCheapest"
    assert from_cheapest.headers["x-foresail-model"] == "cheap"
    assert from_cheapest.headers["x-foresail-scoring-error"] == reason
    assert from_default.headers["x-foresail-basis"] == "FailOpenDefault"
    assert from_default.headers["x-foresail-model"] == "good"
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "scoring_failed"
    assert (shown["scoring_error"], shown["refusal"]["kind"]) == (reason, "ScoringFailed")
    assert failed == 4
    assert "which one?" not in caplog.text


async def test_models_that_the_artifact_does_not_know_are_not_asked_for() -> None:
    scorer = Foresees(cheap=0.2)
    async with running_upstream(answers()) as upstream:
        async with running_sidecar(state_of(pool(upstream.url), scorer=scorer, known=["cheap"])) as sidecar:
            learned = await sidecar.ask()
        async with running_sidecar(state_of(pool(upstream.url), scorer=scorer, known=["other"])) as sidecar:
            unknown = await sidecar.ask()
    assert learned.headers["x-foresail-basis"] == "Learned"
    assert [request.models for request in scorer.asked] == [("cheap",)]
    assert unknown.headers["x-foresail-scoring-error"] == "ModelsUnknown"


async def test_a_policy_that_fails_closed_is_ready_only_with_its_artifact() -> None:
    closed = pool("http://127.0.0.1:1/v1", failure_mode=FailureMode.FAIL_CLOSE)
    async with running_sidecar(state_of(closed)) as sidecar:
        without = await sidecar.http.get("/readyz")
        sidecar.serving.replace(state_of(closed, scorer=Foresees()))
        with_it = await sidecar.http.get("/readyz")
        sidecar.serving.replace(state_of(pool("http://127.0.0.1:1/v1")))
        open_without = await sidecar.http.get("/readyz")
    assert (without.status_code, with_it.status_code, open_without.status_code) == (503, 200, 200)
    assert "artifact" in without.json()["reason"]


async def test_a_model_is_out_if_the_cap_cuts_off_half_of_its_answers() -> None:
    scorer = Foresees(cheap=0.2, good=0.9)
    async with running_upstream(answers()) as upstream:
        # 43 bytes and an overhead of 10 tokens: what is left buys 100 tokens of the cheap model, and none of the good one.
        served = pool(upstream.url, per_request_nano_dollars=253_000)
        async with running_sidecar(state_of(served, scorer=scorer)) as sidecar:
            scorer.tokens, scorer.median = 150.0, 60.0
            answered = await sidecar.ask()
            scorer.median = 140.0
            refused = await sidecar.ask()
    assert (answered.status_code, answered.headers["x-foresail-model"]) == (200, "cheap")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "cost_cap_exceeded")
    assert "fewer than the 140 that half of the answers are predicted to exceed" in refused.json()["error"]["message"]


@pytest.mark.parametrize(("left", "asked"), [(39, []), (40, [40])])
async def test_what_a_failure_leaves_of_the_cap_is_not_spent_on_less_than_the_predicted_length(
    left: int, asked: list[int]
) -> None:
    """The first attempt may have cost 100 tokens of 2,000 nano-dollars each; half of the answers need 40."""
    async with running_upstream(says(500, b"{}")) as ill, running_upstream(answers()) as well:
        model = model_of("good", upstream_of(ill.url), upstream_of(well.url, "second"), dollars_in=0)
        snapshot = snapshot_of(model, strategy=Strategy.LEARNED, per_request_nano_dollars=(100 + left) * 2000)
        async with running_sidecar(state_of(snapshot, scorer=Foresees(good=0.9))) as sidecar:
            answer = await sidecar.ask(max_tokens=100)
    assert answer.status_code == (200 if asked else 502)
    assert [one.json["max_tokens"] for one in well.asked] == asked

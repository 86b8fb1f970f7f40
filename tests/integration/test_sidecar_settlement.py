"""What a request costs is settled once, from the best that is known, and shown in headers and metrics."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.sidecar import Sidecar, model_of, running_sidecar, snapshot_of, state_of, upstream_of
from tests.support.upstream import (
    DONE,
    answers,
    completion,
    cuts_body,
    event,
    piece,
    running_upstream,
    says,
    streams,
    usage,
)

from foresail_api.pool import Capability

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUFB"}}


async def settled(sidecar: Sidecar, basis: str) -> float:
    return await sidecar.metric("foresail_settled_dollars_total", model="small", basis=basis)


async def test_an_answer_without_usage_is_counted_from_what_came() -> None:
    async with (
        running_upstream(says(200, completion("Grüße", None))) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url), dollars_in=0))) as sidecar,
    ):
        answer = await sidecar.ask()
        counted = await settled(sidecar, "Counted")
    # 7 bytes of text are at most 7 tokens, at 2 US dollars per million.
    assert answer.headers["x-foresail-cost-usd"] == "0.000014"
    assert counted == 14e-6


async def test_a_stream_without_usage_is_counted_from_what_came() -> None:
    async with (
        running_upstream(streams(event(piece("Hello")), event(piece("", "stop")), DONE)) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url), dollars_in=0))) as sidecar,
    ):
        await sidecar.ask(stream=True)
        counted = await settled(sidecar, "Counted")
    assert counted == 10e-6


async def test_an_answer_that_never_came_whole_is_settled_at_the_worst_case() -> None:
    async with (
        running_upstream(cuts_body(completion("Hello.", usage(3, 2)), 40)) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url), dollars_in=0))) as sidecar,
    ):
        answer = await sidecar.ask(max_tokens=100)
        assumed = await settled(sidecar, "Assumed")
    assert answer.status_code == 502
    assert answer.headers["x-foresail-cost-usd"] == "0.0002"
    assert assumed == 200e-6


async def test_more_than_was_bounded_is_settled_as_reported_and_counted() -> None:
    async with (
        running_upstream(answers(counted=usage(5, 101))) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url), dollars_in=0))) as sidecar,
    ):
        answer = await sidecar.ask(max_tokens=100)
        exceeded = await sidecar.metric("foresail_bound_exceeded_total", model="small")
        await sidecar.ask(max_tokens=101)
        unchanged = await sidecar.metric("foresail_bound_exceeded_total", model="small")
    assert answer.headers["x-foresail-cost-usd"] == "0.000202"
    assert (exceeded, unchanged) == (1, 1)


async def test_the_estimate_of_the_input_learns_from_what_upstreams_report() -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "x" * 1000}]}

    async def estimated(sidecar: Sidecar) -> int:
        shown = (await sidecar.http.post("/v1/route", json=body)).json()
        return int(shown["candidates"][0]["input_tokens"])

    async with (
        running_upstream(answers(counted=usage(500, 2))) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        before = await estimated(sidecar)
        for _ in range(20):
            await sidecar.http.post("/v1/chat/completions", json=body)
        after = await estimated(sidecar)
    assert before < 300
    assert 400 < after <= 500


@pytest.mark.parametrize(
    ("content", "counted"),
    [
        ("x" * 1000, None),
        ("x" * 1000, usage(100_001, 2)),
        ([{"type": "text", "text": "x" * 1000}, PICTURE], usage(5000, 2)),
    ],
    ids=["not reported", "more than the context window", "with an image"],
)
async def test_the_estimate_of_the_input_learns_from_nothing_else(content: Any, counted: Any) -> None:
    shown = {"model": "auto", "messages": [{"role": "user", "content": "x" * 1000}]}
    asked = {"model": "auto", "messages": [{"role": "user", "content": content}]}
    async with running_upstream(says(200, completion("Hello.", counted))) as upstream:
        model = model_of(
            "small", upstream_of(upstream.url), capabilities=frozenset({Capability.VISION}), max_tokens_per_image=9000
        )
        async with running_sidecar(snapshot_of(model)) as sidecar:
            before = (await sidecar.http.post("/v1/route", json=shown)).json()["candidates"]
            for _ in range(3):
                assert (await sidecar.http.post("/v1/chat/completions", json=asked)).status_code == 200
            assert (await sidecar.http.post("/v1/route", json=shown)).json()["candidates"] == before


async def test_only_the_model_that_answered_is_billed() -> None:
    async with running_upstream(answers()) as upstream:
        models = (
            model_of("small", upstream_of(upstream.url)),
            model_of("large", upstream_of(upstream.url), dollars_in=9),
        )
        async with running_sidecar(snapshot_of(*models)) as sidecar:
            await sidecar.ask()
            await sidecar.http.post(
                "/v1/route", json={"model": "large", "messages": [{"role": "user", "content": "x"}]}
            )
            small = await sidecar.metric("foresail_tokens_total", model="small", direction="input")
            large = await sidecar.metric("foresail_tokens_total", model="large", direction="input")
    assert (small, large) == (3, 0)


async def test_a_model_that_exceeds_its_bound_three_times_is_out_where_a_cap_holds() -> None:
    async with running_upstream(answers(counted=usage(5, 101))) as upstream:
        models = (
            model_of("small", upstream_of(upstream.url)),
            model_of("large", upstream_of(upstream.url), dollars_out=9),
        )
        async with running_sidecar(snapshot_of(*models, per_request_nano_dollars=10**9)) as sidecar:
            chosen = [(await sidecar.ask(max_tokens=100)).headers["x-foresail-model"] for _ in range(4)]
            body = {"model": "auto", "messages": [{"role": "user", "content": "x"}]}
            shown = (await sidecar.http.post("/v1/route", json=body)).json()["candidates"][0]
            distrusted = await sidecar.metric("foresail_distrusted_models")
            eliminated = await sidecar.metric("foresail_eliminations_total", model="small", reason="BoundExceeded")
            # The operator's hand: what is declared of the model changes.
            corrected = models[0].model_copy(update={"overhead_tokens": 200})
            sidecar.serving.replace(state_of(snapshot_of(corrected, per_request_nano_dollars=10**9)))
            again = (await sidecar.ask(max_tokens=100)).headers["x-foresail-model"]
    assert chosen == ["small", "small", "small", "large"]
    assert (shown["model"], shown["eliminated"]) == ("small", "BoundExceeded")
    assert (distrusted, eliminated, again) == (1, 2, "small")


async def test_without_a_cap_nothing_follows_from_an_excess_nor_from_what_the_request_left_unbounded() -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "x"}], "max_tokens": 100}
    unbounded = body | {"n_predict": 5000}
    async with (
        running_upstream(answers(counted=usage(5, 101))) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        unaware = [(await sidecar.http.post("/v1/chat/completions", json=unbounded)).status_code for _ in range(4)]
        distrusted = await sidecar.metric("foresail_distrusted_models")
        uncapped = [(await sidecar.http.post("/v1/chat/completions", json=body)).status_code for _ in range(4)]
        narrowed = await sidecar.http.post("/v1/chat/completions", json=body, headers={"x-foresail-max-cost-usd": "1"})
    assert (unaware, distrusted, uncapped) == ([200] * 4, 0, [200] * 4)
    assert narrowed.status_code == 400
    assert "small: BoundExceeded" in narrowed.json()["error"]["message"]

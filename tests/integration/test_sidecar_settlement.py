"""What a request costs is settled once, from the best that is known, and shown in headers and metrics."""

from __future__ import annotations

from tests.support.sidecar import Sidecar, model_of, running_sidecar, snapshot_of, upstream_of
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

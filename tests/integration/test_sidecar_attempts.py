"""Each failure of docs/reference/failures.md, played by a real upstream: where the request goes next, what it costs, what the client is told at last."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import openai
import pytest
from aiohttp import web
from tests.support.failure_table import failure_rows
from tests.support.sidecar import Sidecar, model_of, running_sidecar, snapshot_of, upstream_of
from tests.support.upstream import (
    Asked,
    Script,
    answers,
    completion,
    disconnects,
    event,
    hangs,
    piece,
    running_upstream,
    says,
    streams,
    unreachable_url,
    usage,
)

from foresail_api.snapshot import SnapshotFallback, SnapshotOutlierDetection, SnapshotTimeouts
from foresail_sidecar.fronts.http.settings import HttpSettings

ROWS = failure_rows()
MESSAGES: Any = [{"role": "user", "content": "x"}]
PATIENT = SnapshotTimeouts()
QUICK = SnapshotTimeouts(connect_milliseconds=1000, first_byte_milliseconds=200, idle_milliseconds=300)
SETTINGS = HttpSettings(answer_limit_bytes=1000)
ONE = SnapshotOutlierDetection(consecutive_failures=1, ejection_seconds=30)
FEW = SnapshotFallback(max_attempts=2)


def fails(status: int, code: str = "some_code", **headers: str) -> Script:
    error = {"message": "no", "type": "some_type", "param": None, "code": code}
    return says(status, json.dumps({"error": error}).encode(), **headers)


@dataclass(frozen=True)
class Case:
    """How an upstream plays a row, None for one that is not there, and the basis on which that is settled, None if not at all."""

    script: Script | None
    basis: str | None
    body: Mapping[str, Any] = field(default_factory=dict)
    timeouts: SnapshotTimeouts = PATIENT


STREAM = {"stream": True}
CASES = {
    "Unreachable": Case(None, None),
    "ContextLength": Case(fails(400, "context_length_exceeded"), None),
    "Refused": Case(fails(422), None),
    "CredentialRefused": Case(fails(401), None),
    "RequestTimedOut": Case(fails(408), None),
    "RateLimited": Case(fails(429, **{"Retry-After": "7"}), None),
    "ServerError": Case(fails(500), "Assumed"),
    "Unavailable": Case(fails(503, **{"Retry-After": "7"}), "Assumed"),
    "Unexpected": Case(says(302, b"", Location="http://127.0.0.1:1/"), "Assumed"),
    "TimedOut": Case(hangs, "Assumed", {}, QUICK),
    "Broken": Case(disconnects, "Assumed"),
    "ErrorEvent": Case(streams(event({"error": {"message": "no"}})), "Counted", STREAM),
    "NoCompletion": Case(fails(200), "Assumed"),
    "TooLarge": Case(says(200, completion("x" * 2000, usage(3, 2))), "Assumed"),
    "NotStreamed": Case(says(200, completion("Hello.", usage(3, 2))), "Reported", STREAM),
    "StreamBroken": Case(streams(event(piece("one")), then="cut"), "Counted", STREAM),
    "StreamStalled": Case(streams(event(piece("one")), then="hang"), "Counted", STREAM, QUICK),
    "StreamError": Case(
        streams(event(piece("one")), event({"error": {"message": "no"}}), seconds_between=0.05), "Counted", STREAM
    ),
}


def small(first: str, *others: str, timeouts: SnapshotTimeouts = PATIENT, **changes: Any) -> Any:
    upstreams = [upstream_of(first, "first", timeouts=timeouts)]
    upstreams += [upstream_of(url, name) for name, url in zip(("second", "third"), others, strict=False)]
    return model_of("small", *upstreams, **changes)


def large(url: str, **changes: Any) -> Any:
    return model_of(
        "large", upstream_of(url, "other"), dollars_in=5, dollars_out=9, context_window_tokens=200_000, **changes
    )


async def ask(sidecar: Sidecar, body: Mapping[str, Any]) -> httpx.Response | None:
    """Ask once; None where the answer broke off, as HTTP clients see it."""
    try:
        return await sidecar.ask(**body)
    except httpx.RemoteProtocolError:
        return None


async def settled(sidecar: Sidecar, basis: str) -> float:
    return await sidecar.metric("foresail_settled_dollars_total", model="small", basis=basis)


def test_every_row_is_played() -> None:
    assert set(CASES) == set(ROWS)


@pytest.mark.parametrize("failure", sorted(CASES))
async def test_where_the_request_goes_next(failure: str) -> None:
    case, row = CASES[failure], ROWS[failure]
    async with (
        running_upstream(case.script or answers()) as first,
        running_upstream(answers()) as second,
        running_upstream(answers()) as third,
    ):
        url = first.url if case.script else unreachable_url()
        snapshot = snapshot_of(small(url, second.url, timeouts=case.timeouts), large(third.url))
        async with running_sidecar(snapshot, SETTINGS) as sidecar:
            answer = await ask(sidecar, case.body)
            ended = await sidecar.metric("foresail_upstream_attempts_total", upstream="first", outcome=row.attempt)
            retried = await sidecar.metric("foresail_retries_total", failure=failure)
            fell_back = await sidecar.metric("foresail_fallbacks_total", model="large")
    asked = {"next": [0, 1], "larger context": [1, 0], "return": [0, 0]}[row.step]
    assert [len(third.asked), len(second.asked)] == asked
    assert len(first.asked) == (1 if case.script else 0)
    assert ended == 1
    assert retried == sum(asked)
    assert fell_back == asked[0]
    if sum(asked):
        assert answer is not None
        assert answer.status_code == 200
        assert answer.headers["x-foresail-model"] == ("large" if asked[0] else "small")
        repeated = (second.asked or third.asked)[0].headers["X-Request-Id"]
        assert repeated == answer.headers["x-foresail-decision-id"] + "-2"


@pytest.mark.parametrize("failure", sorted(name for name, row in ROWS.items() if "event" not in row.client))
async def test_what_the_client_is_told_at_last_and_what_it_cost(failure: str) -> None:
    case, row = CASES[failure], ROWS[failure]
    async with running_upstream(case.script or answers()) as upstream:
        url = upstream.url if case.script else unreachable_url()
        async with running_sidecar(snapshot_of(small(url, timeouts=case.timeouts)), SETTINGS) as sidecar:
            with pytest.raises(openai.APIStatusError) as caught:
                await sidecar.openai().chat.completions.create(model="auto", messages=MESSAGES, **case.body)
            bases = [basis for basis in ("Reported", "Counted", "Assumed") if await settled(sidecar, basis)]
    told = re.match(r"(\d+) `(\w+)`", row.client)
    expected = (
        (int(told[1]), told[2])
        if told
        else {"Refused": (422, "some_code")}.get(failure, (400, "context_length_exceeded"))
    )
    assert (caught.value.status_code, caught.value.code) == expected
    assert bases == ([] if case.basis is None else [case.basis])
    assert (row.settled == "released") if case.basis is None else (f"`{case.basis}`" in row.settled)
    assert ("retry-after" in caught.value.response.headers) == (failure == "RateLimited")


@pytest.mark.parametrize("failure", sorted(name for name, row in ROWS.items() if "event" in row.client))
async def test_a_failure_after_the_first_byte_is_an_event_that_the_sdk_raises_on(failure: str) -> None:
    case, row = CASES[failure], ROWS[failure]
    assert case.script is not None
    async with (
        running_upstream(case.script) as upstream,
        running_sidecar(snapshot_of(small(upstream.url, timeouts=case.timeouts)), SETTINGS) as sidecar,
    ):
        stream = await sidecar.openai().chat.completions.create(model="auto", messages=MESSAGES, stream=True)
        assert (await anext(stream)).choices[0].delta.content == "one"
        with pytest.raises(openai.APIError) as caught:
            await anext(stream)
        bases = [basis for basis in ("Reported", "Counted", "Assumed") if await settled(sidecar, basis)]
    told = re.match(r"event `(\w+)`", row.client)
    assert told is not None
    assert caught.value.code == told[1]
    assert bases == [case.basis]


@pytest.mark.parametrize("failure", sorted(CASES))
async def test_what_a_failure_says_of_the_upstream(failure: str) -> None:
    case, row = CASES[failure], ROWS[failure]
    async with running_upstream(case.script or answers()) as upstream:
        url = upstream.url if case.script else unreachable_url()
        async with running_sidecar(
            snapshot_of(small(url, timeouts=case.timeouts), outlier_detection=ONE), SETTINGS
        ) as sidecar:
            await ask(sidecar, case.body)
            asked = len(upstream.asked)
            again = await ask(sidecar, case.body)
            shown = (await sidecar.http.post("/v1/route", json={"model": "auto", "messages": MESSAGES})).json()
            ejections = await sidecar.metric("foresail_upstream_ejections_total", upstream="first")
            unhealthy = await sidecar.metric("foresail_requests_total", outcome="Unhealthy")
    left_alone = bool(row.health)
    assert ejections == ("failure" in row.health)
    assert (shown["candidates"][0]["eliminated"] == "Unhealthy") == left_alone
    assert unhealthy == left_alone
    if left_alone:
        assert again is not None
        assert len(upstream.asked) == asked
        assert (again.status_code, again.json()["error"]["code"]) == (503, "no_healthy_upstream")
        longest = 30 if "failure" in row.health else 7
        assert 1 <= int(again.headers["retry-after"]) <= longest


async def test_other_models_follow_in_the_order_of_the_decision_and_none_for_a_model_asked_by_name() -> None:
    async with running_upstream(fails(500)) as failing, running_upstream(answers()) as upstream:
        models = (
            model_of("dear", upstream_of(upstream.url), dollars_in=7),
            small(failing.url),
            model_of("middle", upstream_of(upstream.url), dollars_in=3),
        )
        async with running_sidecar(snapshot_of(*models)) as sidecar:
            routed = await sidecar.ask()
            shown = (await sidecar.http.post("/v1/route", json={"model": "auto", "messages": MESSAGES})).json()
            named = await sidecar.ask(model="small")
        async with running_sidecar(snapshot_of(*models, fallback=SnapshotFallback(other_models=False))) as sidecar:
            kept = await sidecar.ask()
    assert routed.headers["x-foresail-model"] == "middle"
    assert shown["order"] == ["small", "middle", "dear"]
    assert (named.status_code, kept.status_code) == (502, 502)
    assert len(upstream.asked) == 1


async def test_the_cap_bounds_the_sum_of_all_attempts() -> None:
    # 10 tokens of overhead and the bytes of the prompt at a dollar a million, 500 output tokens at two: about 0.00105 USD at worst.
    async with running_upstream(fails(500)) as first, running_upstream(answers(counted=usage(3, 2))) as second:
        snapshot = snapshot_of(small(first.url, second.url), per_request_nano_dollars=1_500_000)
        async with running_sidecar(snapshot) as sidecar:
            answer = await sidecar.ask()
            assumed = round(await settled(sidecar, "Assumed") * 1e9)
        forwarded = second.asked[0].json["max_tokens"]
        limits = [json.loads(asked.body)["max_tokens"] for asked in first.asked]
    assert answer.status_code == 200
    assert limits == [500]
    assert 1_000_000 < assumed < 1_100_000
    # What is left pays for the input once more and for as many tokens as the header says.
    assert 0 < forwarded < 500
    assert answer.headers["x-foresail-max-tokens"] == str(forwarded)
    assert assumed + (assumed - 500 * 2000) + forwarded * 2000 <= 1_500_000
    assert float(answer.headers["x-foresail-cost-usd"]) == pytest.approx((assumed + 3 * 1000 + 2 * 2000) / 1e9)


async def test_an_attempt_that_took_the_whole_cap_leaves_nothing_for_another() -> None:
    async with running_upstream(fails(500)) as first, running_upstream(answers()) as second:
        snapshot = snapshot_of(small(first.url, second.url), per_request_nano_dollars=1_060_000)
        async with running_sidecar(snapshot) as sidecar:
            answer = await sidecar.ask()
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert second.asked == []


async def test_a_callers_own_cap_bounds_the_sum_too() -> None:
    async with (
        running_upstream(fails(500)) as first,
        running_upstream(answers()) as second,
        running_sidecar(snapshot_of(small(first.url, second.url))) as sidecar,
    ):
        body = {"model": "auto", "messages": MESSAGES}
        headers = {"x-foresail-max-cost-usd": "0.00106"}
        answer = await sidecar.http.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 502
    assert second.asked == []


async def test_a_stream_says_the_most_that_it_can_cost_with_what_failed_before() -> None:
    async with running_upstream(fails(500)) as first, running_upstream(answers()) as second:
        snapshot = snapshot_of(small(first.url, second.url), per_request_nano_dollars=1_500_000)
        async with running_sidecar(snapshot) as sidecar:
            answer = await sidecar.ask(stream=True)
    assert 0.00105 < float(answer.headers["x-foresail-cost-max-usd"]) <= 0.0015
    assert answer.headers["x-foresail-max-tokens"] == str(second.asked[0].json["max_tokens"])


async def test_there_are_no_more_attempts_than_the_policy_allows() -> None:
    async with (
        running_upstream(fails(500)) as failing,
        running_upstream(answers()) as last,
        running_sidecar(snapshot_of(small(failing.url, failing.url, last.url), fallback=FEW)) as sidecar,
    ):
        answer = await sidecar.ask()
    assert answer.status_code == 502
    assert (len(failing.asked), len(last.asked)) == (2, 0)


async def test_without_a_retry_budget_only_what_was_never_sent_goes_elsewhere() -> None:
    none = SnapshotFallback(retry_budget_percent=0)
    async with running_upstream(fails(500)) as failing, running_upstream(answers()) as last:
        async with running_sidecar(snapshot_of(small(failing.url, last.url), fallback=none)) as sidecar:
            refused = await sidecar.ask()
        async with running_sidecar(snapshot_of(small(unreachable_url(), last.url), fallback=none)) as sidecar:
            answered = await sidecar.ask()
    assert (refused.status_code, answered.status_code) == (502, 200)


async def test_retries_are_a_share_of_requests() -> None:
    async with running_upstream(fails(500)) as failing, running_upstream(answers()) as last:
        never = SnapshotOutlierDetection(consecutive_failures=100, ejection_seconds=1)
        snapshot = snapshot_of(small(failing.url, last.url), outlier_detection=never)
        async with running_sidecar(snapshot) as sidecar:
            statuses = [(await sidecar.ask()).status_code for _ in range(40)]
    # Ten from the start, and one for every five requests.
    assert len(failing.asked) == 40
    assert 15 <= statuses.count(200) <= 18


async def test_the_only_upstream_is_asked_again_after_a_short_pause_that_it_asks_for() -> None:
    script = fails(429, **{"Retry-After": "0"})
    async with running_upstream(script) as upstream:

        async def then_answers(asked: Any, request: Any) -> Any:
            return await (script if len(upstream.asked) == 1 else answers())(asked, request)

        upstream.script = then_answers
        async with running_sidecar(snapshot_of(small(upstream.url))) as sidecar:
            answer = await sidecar.ask()
            retried = await sidecar.metric("foresail_retries_total", failure="RateLimited")
    assert answer.status_code == 200
    assert len(upstream.asked) == 2
    assert retried == 1


async def test_an_upstream_is_taken_back_once_it_answers() -> None:
    quick = SnapshotOutlierDetection(consecutive_failures=2, ejection_seconds=1)
    async with (
        running_upstream(fails(500)) as upstream,
        running_sidecar(snapshot_of(small(upstream.url), outlier_detection=quick)) as sidecar,
    ):
        statuses = [(await sidecar.ask()).status_code for _ in range(3)]
        upstream.script = answers()
        # The wait is the upstream's time out; a second client of OpenAI's waits as it is told.
        answer = await sidecar.openai(max_retries=3).chat.completions.create(model="auto", messages=MESSAGES)
        again = await sidecar.ask()
    assert statuses == [502, 502, 503]
    assert answer.choices[0].message.content == "Hello."
    assert again.status_code == 200
    assert len(upstream.asked) == 4


async def test_while_an_upstream_is_left_alone_others_answer_at_once() -> None:
    async with running_upstream(fails(500)) as first, running_upstream(answers()) as second:
        snapshot = snapshot_of(small(first.url), large(second.url), outlier_detection=ONE)
        async with running_sidecar(snapshot) as sidecar:
            models = [(await sidecar.ask()).headers["x-foresail-model"] for _ in range(3)]
            named = await sidecar.ask(model="small")
    assert models == ["large", "large", "large"]
    assert len(first.asked) == 1
    assert named.json()["error"]["code"] == "no_healthy_upstream"


@pytest.mark.parametrize("status", [429, 500])
async def test_models_behind_one_address_are_left_alone_one_by_one(status: int) -> None:
    refuses, accepts = fails(status), answers()

    async def script(asked: Asked, request: web.Request) -> web.StreamResponse:
        return await (refuses if asked.json["model"] == "limited" else accepts)(asked, request)

    async with running_upstream(script) as upstream:
        refused = model_of("small", upstream_of(upstream.url, "provider", model="limited"))
        other = model_of("large", upstream_of(upstream.url, "provider", model="free"), dollars_in=5, dollars_out=9)
        async with running_sidecar(snapshot_of(refused, other, outlier_detection=ONE)) as sidecar:
            answered = [(await sidecar.ask()).headers["x-foresail-model"] for _ in range(2)]
    assert answered == ["large", "large"]
    assert [asked.json["model"] for asked in upstream.asked] == ["limited", "free", "free"]


async def test_the_total_deadline_counts_from_the_first_attempt() -> None:
    long = SnapshotTimeouts(total_milliseconds=1000)
    short = SnapshotTimeouts(connect_milliseconds=100, first_byte_milliseconds=100, total_milliseconds=1000)
    async with running_upstream(hangs) as first, running_upstream(hangs) as second:
        upstreams = (upstream_of(first.url, timeouts=short), upstream_of(second.url, "second", timeouts=long))
        async with running_upstream(answers()) as third:
            model = model_of("small", *upstreams, upstream_of(third.url, "third", timeouts=long))
            async with running_sidecar(snapshot_of(model)) as sidecar:
                answer = await sidecar.ask()
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
    assert (len(first.asked), len(second.asked), len(third.asked)) == (1, 1, 0)


async def test_an_answer_that_takes_longer_than_the_total_is_broken_off() -> None:
    short = SnapshotTimeouts(total_milliseconds=800)
    slow = streams(*(event(piece("word ")) for _ in range(40)), seconds_between=0.1)
    async with running_upstream(slow) as upstream:
        model = model_of("small", upstream_of(upstream.url, timeouts=short))
        async with running_sidecar(snapshot_of(model)) as sidecar:
            stream = await sidecar.openai().chat.completions.create(model="auto", messages=MESSAGES, stream=True)
            with pytest.raises(openai.APIError, match=r"took longer than 0\.8 s"):
                async for _ in stream:
                    pass


async def test_usage_is_not_asked_of_an_upstream_that_does_not_take_the_wish() -> None:
    async with running_upstream(answers()) as upstream:
        model = model_of("small", upstream_of(upstream.url, stream_usage="NotSupported"))
        async with running_sidecar(snapshot_of(model)) as sidecar:
            answer = await sidecar.ask(stream=True)
            counted = await settled(sidecar, "Counted")
    assert answer.status_code == 200
    assert "stream_options" not in upstream.asked[0].json
    assert counted > 0


async def test_a_zero_that_the_upstream_reports_is_believed() -> None:
    async with (
        running_upstream(answers(counted=usage(0, 0))) as upstream,
        running_sidecar(snapshot_of(small(upstream.url))) as sidecar,
    ):
        answer = await sidecar.ask()
        bases = [basis for basis in ("Counted", "Assumed") if await settled(sidecar, basis)]
    assert answer.headers["x-foresail-cost-usd"] == "0"
    assert bases == []

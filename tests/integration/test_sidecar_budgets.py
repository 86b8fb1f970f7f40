"""Budgets as clients meet them: OpenAI's SDK in front, a real ledger behind, upstreams that bill in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.support.ledgers import SqliteBackend, ledger_client
from tests.support.sidecar import Sidecar, model_of, running_sidecar, snapshot_of, state_of, upstream_of
from tests.support.upstream import answers, event, hangs, piece, running_upstream, says, streams, usage

from foresail_api.budgets import BudgetMode, BudgetScope, CalendarUnit, HardAction
from foresail_api.ledgers import OnLedgerUnavailable
from foresail_api.policy import Strategy
from foresail_api.snapshot import Snapshot, SnapshotFallback, SnapshotPrice, SnapshotTenants
from foresail_api.snapshot_budgets import SnapshotBudget
from foresail_sidecar.configuration.state import ServingState
from foresail_sidecar.fronts.http.context import CONTEXT
from foresail_sidecar.ledger.accounts import zone_of
from foresail_sidecar.ledger.client import LedgerClient
from foresail_sidecar.telemetry.decision_log import DecisionLog
from foresail_sidecar.tenants.directory import read_keys
from foresail_sidecar.tenants.keys import hash_of_key, key_line, new_key

MESSAGES: Any = [{"role": "user", "content": "x"}]
# One message of one byte is bounded by its bytes and the overhead; one output token costs 2,000 nano-dollars.
OUTPUT_NANO = 2_000
FREE = SnapshotPrice(input_micro_dollars=0, output_micro_dollars=0, request_micro_dollars=0)


@pytest.fixture(autouse=True)
def _time_zone() -> None:
    # As it is read before a configuration is served.
    zone_of("UTC")


class OneLedger:
    """The same ledger for whatever is served."""

    def __init__(self, client: LedgerClient) -> None:
        self.client = client

    def of(self, state: ServingState) -> LedgerClient | None:
        return self.client


def budget(amount: int, name: str = "month", **changes: Any) -> SnapshotBudget:
    values = {"calendar": CalendarUnit.MONTH, "rolling_seconds": None, **changes}
    return SnapshotBudget(name=name, amount_nano_dollars=amount, **values)


@contextlib.asynccontextmanager
async def serving(
    snapshot: Snapshot | ServingState, directory: Path, log: DecisionLog | None = None
) -> AsyncIterator[Sidecar]:
    async with (
        ledger_client(SqliteBackend(directory).open("uid"), directory) as client,
        running_sidecar(snapshot, decision_log=log, ledgers=OneLedger(client)) as sidecar,
    ):
        yield sidecar


async def shown(sidecar: Sidecar, **headers: str) -> dict[str, Any]:
    (first, *_) = (await sidecar.http.get("/v1/budgets", headers=headers)).json()["data"]
    return first


async def settled(sidecar: Sidecar, spent: str) -> dict[str, Any]:
    """The first budget once nothing is reserved and so much is spent."""
    async with asyncio.timeout(10):
        while True:
            first = await shown(sidecar)
            if (first["spent_usd"], first["reserved_usd"]) == (spent, "0"):
                return first
            await asyncio.sleep(0.01)


async def worst_of(sidecar: Sidecar, max_tokens: int = 100) -> int:
    """What a request of `MESSAGES` can cost at worst, in nano-dollars."""
    body = {"model": "auto", "messages": MESSAGES, "max_tokens": max_tokens}
    decision = (await sidecar.http.post("/v1/route", json=body)).json()
    (chosen,) = (one for one in decision["candidates"] if one["model"] == decision["model"])
    return round(float(chosen["worst_case_usd"]) * 10**9)


async def ask(sidecar: Sidecar, max_tokens: int = 100, **options: Any) -> Any:
    return await sidecar.openai(**options).chat.completions.create(
        model="auto", messages=MESSAGES, max_tokens=max_tokens
    )


async def test_an_answer_is_spent_as_the_upstream_reports_it(tmp_path: Path) -> None:
    async with running_upstream(answers(counted=usage(7, 5))) as upstream:
        snapshot = snapshot_of(model_of("m", upstream_of(upstream.url)), budgets=(budget(10**9),))
        async with serving(snapshot, tmp_path) as sidecar:
            await ask(sidecar)
            first = await settled(sidecar, "0.000017")
    assert datetime.fromisoformat(first.pop("window_end")).day == 1
    assert first == {
        "name": "month",
        "scope": "Policy",
        "mode": "Enforce",
        "amount_usd": "1",
        "spent_usd": "0.000017",
        "reserved_usd": "0",
        "remaining_usd": "0.999983",
        "overdraft_usd": "0",
        "soft_threshold_percent": None,
    }


async def test_who_leaves_before_there_is_a_connection_pays_nothing(tmp_path: Path) -> None:
    """The upstream never says a word of TLS, so nothing can be sent to it."""
    accepted = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        with contextlib.closing(writer):
            await reader.read()

    async with await asyncio.start_server(silent, "127.0.0.1") as server, asyncio.timeout(20):
        port = server.sockets[0].getsockname()[1]
        upstream = upstream_of(f"https://127.0.0.1:{port}")
        snapshot = snapshot_of(model_of("m", upstream), budgets=(budget(10**9),))
        async with serving(snapshot, tmp_path) as sidecar:
            asking = asyncio.create_task(ask(sidecar))
            await accepted.wait()
            assert (await shown(sidecar))["reserved_usd"] != "0"
            asking.cancel()
            await settled(sidecar, "0")
            assert await sidecar.metric("foresail_upstream_attempts_total", outcome="Abandoned") == 1


async def test_while_an_answer_is_under_way_its_worst_case_is_reserved_and_given_back_when_the_client_leaves(
    tmp_path: Path,
) -> None:
    pieces = [event(piece("Hello."))]
    async with running_upstream(streams(*pieces, then="hang")) as upstream:
        snapshot = snapshot_of(model_of("m", upstream_of(upstream.url)), budgets=(budget(10**9),))
        async with serving(snapshot, tmp_path) as sidecar:
            worst = await worst_of(sidecar)
            stream = await sidecar.openai().chat.completions.create(
                model="auto", messages=MESSAGES, max_tokens=100, stream=True
            )
            first = await shown(sidecar)
            assert float(first["reserved_usd"]) == pytest.approx(worst / 1e9)
            assert float(first["remaining_usd"]) == pytest.approx(1 - worst / 1e9)
            assert await sidecar.metric("foresail_budget_dollars", part="reserved") == pytest.approx(worst / 1e9)
            assert await sidecar.metric("foresail_budget_dollars", part="spent") == 0
            await stream.close()
            input_cost = worst - 100 * OUTPUT_NANO
            await settled(sidecar, f"{(input_cost + len('Hello.') * OUTPUT_NANO) / 1e9:.9f}".rstrip("0"))


async def test_a_budget_that_is_used_up_says_until_when_and_the_sdk_does_not_try_again(tmp_path: Path) -> None:
    async with running_upstream(answers(counted=usage(7, 5))) as upstream:
        snapshot = snapshot_of(model_of("m", upstream_of(upstream.url)), budgets=(budget(0),))
        path = tmp_path / "log"
        log = DecisionLog(path)
        async with serving(snapshot, tmp_path, log) as sidecar:
            with pytest.raises(openai.RateLimitError) as caught:
                await ask(sidecar, max_retries=2)
        log.close()
    error = caught.value
    assert error.code == "budget_exhausted"
    assert error.type == "insufficient_quota"
    assert "the budget 'month' is too small for this request: of 0 USD, 0 USD are spent" in error.message
    body: Any = error.body
    assert body["budget"] == "month"
    assert datetime.fromisoformat(body["window_end"]).day == 1
    assert error.response.headers["x-should-retry"] == "false"
    assert 1 <= int(error.response.headers["retry-after"]) <= 60
    (line,) = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert line["outcome"] == "BudgetExhausted"
    assert [candidate["eliminated"] for candidate in line["candidates"]] == ["OverBudget"]
    assert line["budget_refusal"]["budget"] == "month"
    assert line["budget_refusal"]["needed_nano_dollars"] > line["budget_refusal"]["limit_nano_dollars"] == 0
    assert upstream.asked == []


async def test_money_that_others_hold_is_worth_another_try(tmp_path: Path) -> None:
    async with running_upstream(hangs) as upstream:
        model = model_of("m", upstream_of(upstream.url))
        async with serving(snapshot_of(model, budgets=(budget(10**9),)), tmp_path) as sidecar:
            worst = await worst_of(sidecar)
            sidecar.serving.current = state_of(snapshot_of(model, budgets=(budget(worst),)))
            first = asyncio.create_task(ask(sidecar))
            await upstream.arrived.wait()
            with pytest.raises(openai.RateLimitError) as caught:
                await ask(sidecar)
            upstream.script = answers(counted=usage(1, 1))
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
    assert (caught.value.code, caught.value.type) == ("budget_reserved", "rate_limit_error")
    assert caught.value.response.headers["retry-after"] in {"1", "2"}
    assert "x-should-retry" not in caught.value.response.headers


def fails_while_a_reservation_is_waited_for(sidecar: Sidecar, client: LedgerClient, upstream: str) -> None:
    """Have that upstream of the model `m` left alone from the moment on at which the next reservation was granted."""
    context, reserve = sidecar.application[CONTEXT], client.reserve
    served = context.served(sidecar.serving.current)
    (target,) = (served.targets[place] for place in served.places["m"] if place.upstream == upstream)

    async def reserve_and_fail(*arguments: Any) -> Any:
        client.reserve = reserve  # type: ignore[method-assign]
        answer = await reserve(*arguments)
        context.health.pause(target.key, 30)
        return answer

    client.reserve = reserve_and_fail  # type: ignore[method-assign]


@pytest.mark.parametrize("another", [True, False])
async def test_an_upstream_that_fails_while_the_ledger_is_asked_is_not_asked_any_more(
    another: bool, tmp_path: Path
) -> None:
    async with (
        running_upstream(answers(counted=usage(7, 5))) as failing,
        running_upstream(answers(counted=usage(7, 5))) as healthy,
        ledger_client(SqliteBackend(tmp_path).open("uid"), tmp_path) as client,
    ):
        upstreams = (upstream_of(failing.url, "first"), upstream_of(healthy.url, "second"))[: 1 + another]
        snapshot = snapshot_of(model_of("m", *upstreams), budgets=(budget(10**9),))
        async with running_sidecar(snapshot, ledgers=OneLedger(client)) as sidecar:
            fails_while_a_reservation_is_waited_for(sidecar, client, "first")
            answer = await sidecar.ask()
            await settled(sidecar, "0.000017" if another else "0")
    assert not failing.asked
    assert len(healthy.asked) == another
    if not another:
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_healthy_upstream")
        assert 29 <= int(answer.headers["retry-after"]) <= 30


async def test_the_answer_is_clamped_to_what_is_left(tmp_path: Path) -> None:
    async with running_upstream(answers(counted=usage(1, 1))) as upstream:
        model = model_of("m", upstream_of(upstream.url))
        async with serving(snapshot_of(model, budgets=(budget(10**9),)), tmp_path) as sidecar:
            worst = await worst_of(sidecar)
            left = worst - 60 * OUTPUT_NANO
            sidecar.serving.current = state_of(snapshot_of(model, budgets=(budget(left),)))
            answer = await sidecar.ask("x", max_tokens=100)
    assert answer.status_code == 200
    assert answer.headers["x-foresail-max-tokens"] == "40"
    assert upstream.asked[-1].json["max_tokens"] == 40


@pytest.mark.parametrize("other_models", [True, False], ids=["Any", "Same"])
async def test_another_model_answers_where_the_first_does_not_fit(other_models: bool, tmp_path: Path) -> None:
    """Also where no other model follows a failure: a budget without room is none."""
    async with running_upstream(answers(counted=usage(1, 1))) as upstream:
        dear = model_of("dear", upstream_of(upstream.url), dollars_in=1000, dollars_out=2000)
        cheap = model_of("cheap", upstream_of(upstream.url))
        snapshot = snapshot_of(
            dear,
            cheap,
            strategy=Strategy.DEFAULT,
            default_model="dear",
            budgets=(budget(2_000_000),),
            fallback=SnapshotFallback(other_models=other_models),
        )
        async with serving(snapshot, tmp_path) as sidecar:
            answer = await sidecar.ask("x", max_tokens=100)
    assert answer.headers["x-foresail-model"] == "cheap"
    assert answer.headers["x-foresail-max-tokens"] == "100"


async def test_above_the_soft_threshold_the_cheapest_gains_until_it_is_all_there_is(tmp_path: Path) -> None:
    async with running_upstream(answers(counted=usage(100, 100))) as upstream:
        dear = model_of("dear", upstream_of(upstream.url), dollars_in=3, dollars_out=6)
        cheap = model_of("cheap", upstream_of(upstream.url))
        snapshot = snapshot_of(
            dear,
            cheap,
            strategy=Strategy.DEFAULT,
            default_model="dear",
            budgets=(budget(900_000, hard_action=HardAction.CHEAPEST, overdraft_nano_dollars=10**9),),
        )
        log = DecisionLog(tmp_path / "log")
        async with serving(snapshot, tmp_path, log) as sidecar:
            before = await sidecar.ask("x", max_tokens=100)
            await settled(sidecar, "0.0009")
            after = await sidecar.ask("x", max_tokens=100)
            explained = await sidecar.http.post("/v1/route", json={"model": "auto", "messages": MESSAGES})
    assert (before.headers["x-foresail-model"], before.headers["x-foresail-basis"]) == ("dear", "Default")
    assert (after.headers["x-foresail-model"], after.headers["x-foresail-basis"]) == ("cheap", "BudgetCheapest")
    assert explained.json()["pressure_percent"] == 100
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert [line["pressure_percent"] for line in lines] == [0, 100]


async def test_an_overdraft_ends_too(tmp_path: Path) -> None:
    async with running_upstream(answers(counted=usage(1, 100))) as upstream:
        model = model_of("m", upstream_of(upstream.url))
        async with serving(snapshot_of(model, budgets=(budget(10**9),)), tmp_path) as sidecar:
            worst = await worst_of(sidecar)
            overdrawn = budget(0, hard_action=HardAction.CHEAPEST, overdraft_nano_dollars=worst)
            sidecar.serving.current = state_of(snapshot_of(model, budgets=(overdrawn,)))
            assert (await sidecar.ask("x", max_tokens=100)).status_code == 200
            refused = await sidecar.ask("x", max_tokens=100)
    assert refused.status_code == 429


async def test_an_observed_budget_counts_and_never_refuses(tmp_path: Path) -> None:
    async with running_upstream(answers(counted=usage(7, 5))) as upstream:
        snapshot = snapshot_of(model_of("m", upstream_of(upstream.url)), budgets=(budget(0, mode=BudgetMode.OBSERVE),))
        async with serving(snapshot, tmp_path) as sidecar:
            await ask(sidecar)
            assert (await settled(sidecar, "0.000017"))["remaining_usd"] == "0"


@pytest.mark.parametrize(("mode", "status"), [(BudgetMode.ENFORCE, 400), (BudgetMode.OBSERVE, 200)])
async def test_what_has_no_bound_is_asked_only_where_budgets_are_observed(
    mode: BudgetMode, status: int, tmp_path: Path
) -> None:
    async with running_upstream(answers(counted=usage(7, 5))) as upstream:
        priced, unpriced = (
            model_of("priced", upstream_of(upstream.url)),
            model_of("unpriced", upstream_of(upstream.url), price=None),
        )
        async with serving(snapshot_of(priced, unpriced, budgets=(budget(10**9, mode=mode),)), tmp_path) as sidecar:
            answers_ = [
                await sidecar.ask("x", model="unpriced"),
                await sidecar.ask("x", model="priced", web_search_options={}),
            ]
    assert [one.status_code for one in answers_] == [status] * 2
    if status != 200:
        assert not upstream.asked
        assert [one.json()["error"]["code"] for one in answers_] == ["no_eligible_model"] * 2
        assert "unpriced: Unpriceable (it has no `price`" in answers_[0].json()["error"]["message"]
        assert "`web_search_options`: run by the provider" in answers_[1].json()["error"]["message"]


async def test_the_metrics_show_the_budgets_that_there_are(tmp_path: Path) -> None:
    async with running_upstream(answers(counted=usage(7, 5))) as upstream:
        model = model_of("m", upstream_of(upstream.url))
        both = (budget(10**9, "day"), budget(2 * 10**9, "month"))
        async with serving(snapshot_of(model, budgets=both), tmp_path) as sidecar:
            await sidecar.ask()
            name = "foresail_budget_dollars"
            shown = [await sidecar.metric(name, budget=each, part="amount") for each in ("day", "month")]
            sidecar.serving.current = state_of(snapshot_of(model, budgets=both[1:]))
            one_left = [await sidecar.metric(name, budget=each) > 0 for each in ("day", "month")]
            sidecar.serving.current = state_of(snapshot_of(model))
            none_left = f"{name}{{" in (await sidecar.http.get("/metrics")).text
    assert (shown, one_left, none_left) == ([1, 2], [False, True], False)


async def test_forty_at_once_never_spend_more_than_the_budget(tmp_path: Path) -> None:
    async with running_upstream(answers(counted=usage(11, 100))) as upstream:
        model = model_of("m", upstream_of(upstream.url), min_output_tokens=100)
        async with serving(snapshot_of(model, budgets=(budget(10**9),)), tmp_path) as sidecar:
            worst = await worst_of(sidecar)
            sidecar.serving.current = state_of(snapshot_of(model, budgets=(budget(10 * worst),)))
            outcomes = await asyncio.gather(*(sidecar.ask("x", max_tokens=100) for _ in range(40)))
            spent = float((await shown(sidecar))["spent_usd"])
    answered = [one for one in outcomes if one.status_code == 200]
    assert {one.status_code for one in outcomes} == {200, 429}
    assert len(upstream.asked) == len(answered)
    assert spent * 1e9 <= 10 * worst


async def test_a_failed_attempt_and_its_fallback_are_both_spent(tmp_path: Path) -> None:
    async with running_upstream(says(500, b"{}")) as ill, running_upstream(answers(counted=usage(7, 5))) as well:
        model = model_of("m", upstream_of(ill.url), upstream_of(well.url, "second"))
        async with serving(snapshot_of(model, budgets=(budget(10**9),)), tmp_path) as sidecar:
            worst = await worst_of(sidecar)
            assert (await sidecar.ask("x", max_tokens=100)).status_code == 200
            await settled(sidecar, f"{(worst + 17_000) / 1e9:.9f}".rstrip("0"))


async def test_what_was_refused_before_it_generated_anything_is_given_back(tmp_path: Path) -> None:
    async with running_upstream(says(400, b'{"error": {"message": "no"}}')) as upstream:
        snapshot = snapshot_of(model_of("m", upstream_of(upstream.url)), budgets=(budget(10**9),))
        async with serving(snapshot, tmp_path) as sidecar:
            assert (await sidecar.ask("x")).status_code == 400
            await settled(sidecar, "0")


async def test_without_an_answer_of_the_ledger_only_free_models_go_on(tmp_path: Path) -> None:
    broken = SqliteBackend(tmp_path).open("uid")
    await broken.close()
    async with running_upstream(answers()) as upstream:
        paid = model_of("paid", upstream_of(upstream.url))
        free = model_of("free", upstream_of(upstream.url), price=FREE)
        declared = {"budgets": (budget(10**9),)}
        async with (
            ledger_client(broken, tmp_path, deadline_seconds=0.2) as client,
            running_sidecar(snapshot_of(paid, **declared), ledgers=OneLedger(client)) as sidecar,
        ):
            refused = await sidecar.ask("x")
            balance = await sidecar.http.get("/v1/budgets")
            sidecar.serving.current = state_of(snapshot_of(paid, free, **declared))
            answered = await sidecar.ask("x")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert refused.headers["Retry-After"] in {"1", "2", "3"}
    assert (balance.status_code, balance.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert answered.headers["x-foresail-model"] == "free"


async def test_while_a_ledger_is_restored_everybody_is_told_to_come_back_soon(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path)
    snapshot = snapshot_of(model_of("m", upstream_of("http://127.0.0.1:9/v1")), budgets=(budget(10**9),))
    async with (
        ledger_client(backend.open("uid"), tmp_path) as client,
        running_sidecar(snapshot, ledgers=OneLedger(client)) as sidecar,
    ):
        await settled(sidecar, "0")
        for file in tmp_path.glob("ledger-*"):  # noqa: ASYNC240
            file.unlink()
        backend.pass_time(2_000)
        for refused in (
            await sidecar.http.get("/v1/budgets"),
            await sidecar.ask(),
            await sidecar.http.get("/v1/budgets"),
        ):
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "ledger_restoring")
            assert 1 <= int(refused.headers["retry-after"]) <= 6
        ready = await sidecar.http.get("/readyz")
        said = (ready.status_code, ready.json()["reason"])
        assert said == (503, "the ledger is being restored and opens in a few seconds")
        backend.pass_time(3_100)
        await settled(sidecar, "0")


@pytest.mark.parametrize(
    "declared",
    [
        {"budgets": (budget(10**9),), "on_ledger_unavailable": OnLedgerUnavailable.FAIL_OPEN},
        {"budgets": (budget(0, mode=BudgetMode.OBSERVE),)},
    ],
    ids=["FailOpen", "Observe"],
)
async def test_where_the_policy_says_so_requests_go_on_and_are_spent_later(
    tmp_path: Path, declared: dict[str, Any]
) -> None:
    backend = SqliteBackend(tmp_path)
    broken = backend.open("uid")
    await broken.close()
    async with running_upstream(answers(counted=usage(7, 5))) as upstream:
        snapshot = snapshot_of(model_of("m", upstream_of(upstream.url)), **declared)
        async with (
            ledger_client(broken, tmp_path, deadline_seconds=0.2) as client,
            running_sidecar(snapshot, ledgers=OneLedger(client)) as sidecar,
        ):
            assert (await sidecar.ask("x")).status_code == 200
            assert await sidecar.metric("foresail_ledger_skipped_total", policy="chat") == 1
        async with serving(snapshot, tmp_path) as sidecar:
            await settled(sidecar, "0.000017")


async def test_each_tenant_sees_and_spends_its_own(tmp_path: Path) -> None:
    keys = {name: new_key() for name in ("ann", "bob")}
    directory, faults = read_keys({name: key_line(hash_of_key(key), name, None) for name, key in keys.items()})
    assert not faults
    mine = budget(10**9, "mine", scope=BudgetScope.TENANT, overrides_nano_dollars={"bob": 0})
    async with running_upstream(answers(counted=usage(7, 5))) as upstream:
        snapshot = snapshot_of(
            model_of("m", upstream_of(upstream.url)), budgets=(mine,), tenants=SnapshotTenants(secret_name="keys")
        )
        async with serving(replace(state_of(snapshot), tenants=directory), tmp_path) as sidecar:
            await ask(sidecar, api_key=keys["ann"])
            with pytest.raises(openai.RateLimitError):
                await ask(sidecar, api_key=keys["bob"])
            of_ann, of_bob = [await shown(sidecar, Authorization=f"Bearer {key}") for key in keys.values()]
            stranger = await sidecar.http.get("/v1/budgets", headers={"Authorization": "Bearer fsk_x"})
    assert (of_ann["amount_usd"], of_bob["amount_usd"]) == ("1", "0")
    assert (of_ann["spent_usd"], of_ann["reserved_usd"]) != ("0", "0")
    assert (of_bob["spent_usd"], of_bob["reserved_usd"]) == ("0", "0")
    assert stranger.status_code == 401

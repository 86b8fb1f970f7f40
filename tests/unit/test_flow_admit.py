"""Admission with a real ledger: clamped to what is left, elsewhere, after a short wait, or refused; and what is settled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.decisions import decision_of, estimate, model, price, request, snapshot
from tests.support.ledgers import LedgerCounts, SqliteBackend, ledger_client

from foresail_api.budgets import BudgetMode, BudgetScope, CalendarUnit, HardAction
from foresail_api.policy import Strategy
from foresail_api.reasons import Elimination, SettlementBasis
from foresail_api.snapshot import SnapshotLimits, SnapshotModel
from foresail_api.snapshot_budgets import SnapshotBudget
from foresail_router.decision.counts import TokenCounts
from foresail_router.decision.price import worst_case
from foresail_router.engine.interface import Estimate
from foresail_sidecar.flow.admit import Admission, Admitted, NotAdmitted
from foresail_sidecar.flow.budgets import BudgetRefusal, Budgets, PolicyBudget, RefusalReason
from foresail_sidecar.flow.lazily import Lazily
from foresail_sidecar.flow.limits import LimitRefusal, Limits
from foresail_sidecar.flow.offers import Offer, offer_of
from foresail_sidecar.flow.settle import Settlement
from foresail_sidecar.ledger.client import LedgerClient
from foresail_sidecar.ledger.interface import MOST_OPTIONS, Measure

# 100 tokens of input at most, for 100,000 nano-dollars, and 100 of output for 200,000.
ASKED = request(input_bytes=90, output_limit=100)
INPUT, WORST = 100_000, 300_000
DEAR = model("dear")
CHEAP = model("cheap", price=price("0.1", "0.2"))
FREE = model("free", price=price("0", "0"))


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[LedgerClient]:
    async with ledger_client(SqliteBackend(tmp_path).open("uid"), tmp_path) as client:
        yield client


def budgets_of(amount: int, *, fail_open: bool = False, **changes: Any) -> Budgets:
    values = {"calendar": CalendarUnit.MONTH, "rolling_seconds": None, **changes}
    declared = SnapshotBudget(name="month", amount_nano_dollars=amount, **values)
    return Budgets((PolicyBudget.of(declared),), fail_open)


def offers_of(*models: SnapshotModel, estimates: Sequence[Estimate] | None = None) -> Sequence[Offer]:
    served = snapshot(*models, strategy=Strategy.CHEAPEST)
    decision, limits = decision_of(ASKED, served, estimates, input_tokens=50), Limits.of(served)
    cheapest = decision.order[0]
    return [
        offer_of(
            ASKED,
            one,
            candidate,
            overdraws=one.name == cheapest,
            upstream=upstream.name,
            claims=limits.claims(ASKED, candidate, upstream.name),
        )
        for one, candidate in zip(models, decision.candidates, strict=True)
        for upstream in one.upstreams
    ]


def limited(name: str, *limits: SnapshotLimits | None, **changes: Any) -> SnapshotModel:
    """A model with one upstream for each of `limits`."""
    (upstream,) = model(name).upstreams
    upstreams = [
        upstream.model_copy(update={"name": f"up-{number}", "limits": each}) for number, each in enumerate(limits)
    ]
    return model(name, upstreams=tuple(upstreams), **changes)


# As many places as a ledger is asked for.
MANY = [limited(f"dear-{number}", *(MOST_OPTIONS // 8 * [None])) for number in range(8)]


async def admit(
    ledger: LedgerClient | None, budgets: Budgets, attempt_id: str, *models: SnapshotModel, tenant: str = ""
) -> Admitted:
    return await Admission().admit(ledger, budgets, tenant, ASKED, offers_of(*models or (DEAR,)), attempt_id)


async def refused(
    ledger: LedgerClient | None, budgets: Budgets, attempt_id: str, *models: SnapshotModel
) -> BudgetRefusal:
    with pytest.raises(NotAdmitted) as caught:
        await admit(ledger, budgets, attempt_id, *models)
    refusal = caught.value.refusal
    assert isinstance(refusal, BudgetRefusal)
    return refusal


async def over_limit(ledger: LedgerClient, attempt_id: str, *models: SnapshotModel) -> NotAdmitted:
    with pytest.raises(NotAdmitted) as caught:
        await admit(ledger, Budgets(), attempt_id, *models)
    assert isinstance(caught.value.refusal, LimitRefusal)
    return caught.value


def settle(admitted: Admitted, cost: int | None, *, sent: bool = True, tokens: int = 1) -> None:
    assert admitted.reservation is not None
    counts = TokenCounts(plain=tokens)
    settlement = None if cost is None else Settlement(SettlementBasis.REPORTED, counts, cost)
    admitted.reservation.settle(settlement, sent=sent)


async def used(ledger: LedgerClient, budgets: Budgets, tenant: str = "") -> tuple[int, int]:
    (usage,) = await ledger.usage(budgets.claims(tenant, ledger.now_ms()))
    return usage.spent, usage.reserved


async def used_at_last(ledger: LedgerClient, budgets: Budgets, expected: tuple[int, int]) -> None:
    async with asyncio.timeout(10):
        while await used(ledger, budgets) != expected:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_the_worst_case_is_reserved_and_the_cost_is_spent(ledger: LedgerClient) -> None:
    budgets = budgets_of(1_000_000)
    admitted = await admit(ledger, budgets, "a")
    assert admitted.candidate.output_limit == 100
    assert await used(ledger, budgets) == (0, WORST)
    settle(admitted, 120_000)
    await used_at_last(ledger, budgets, (120_000, 0))


async def test_what_generated_nothing_is_given_back(ledger: LedgerClient) -> None:
    budgets = budgets_of(WORST)
    settle(await admit(ledger, budgets, "a"), None)
    await used_at_last(ledger, budgets, (0, 0))


async def test_the_output_is_clamped_to_what_is_left(ledger: LedgerClient) -> None:
    budgets = budgets_of(INPUT + 50_000)
    admitted = await admit(ledger, budgets, "a")
    assert admitted.candidate.output_limit == 25
    assert DEAR.price is not None
    assert admitted.candidate.input_bound is not None
    assert worst_case(DEAR.price, admitted.candidate.input_bound, 1, 25) == INPUT + 50_000
    assert await used(ledger, budgets) == (0, INPUT + 50_000)


async def test_an_answer_is_not_clamped_below_its_predicted_length(ledger: LedgerClient) -> None:
    offers = offers_of(DEAR, estimates=[estimate("dear", 0.9, 40)])
    with pytest.raises(NotAdmitted) as caught:
        await Admission().admit(ledger, budgets_of(INPUT + 79_999), "", ASKED, offers, "a")
    refusal = caught.value.refusal
    assert isinstance(refusal, BudgetRefusal)
    assert (refusal.reason, refusal.needed) == (RefusalReason.EXHAUSTED, INPUT + 80_000)
    admitted = await Admission().admit(ledger, budgets_of(INPUT + 80_000), "", ASKED, offers, "b")
    assert admitted.candidate.output_limit == 40


async def test_another_candidate_is_taken_where_the_first_does_not_fit(ledger: LedgerClient) -> None:
    admitted = await admit(ledger, budgets_of(INPUT), "a", DEAR, CHEAP)
    assert (admitted.candidate.model, admitted.candidate.output_limit) == ("cheap", 100)


async def test_of_a_large_pool_the_last_candidate_answers_if_it_alone_fits(ledger: LedgerClient) -> None:
    dear = [model(f"dear-{number}") for number in range(63)]
    admitted = await admit(ledger, budgets_of(INPUT - 1), "a", *dear, CHEAP)
    assert admitted.candidate.model == "cheap"
    assert len(admitted.left_out) == len(dear)


async def test_money_that_is_held_is_waited_for(ledger: LedgerClient) -> None:
    budgets = budgets_of(WORST)
    first = await admit(ledger, budgets, "a")
    second = asyncio.create_task(admit(ledger, budgets, "b"))
    await asyncio.sleep(0.05)
    assert not second.done()
    settle(first, 0)
    assert (await second).candidate.output_limit == 100


async def test_money_that_stays_held_is_refused_as_held(ledger: LedgerClient) -> None:
    budgets = budgets_of(WORST)
    await admit(ledger, budgets, "a")
    refusal = await refused(ledger, budgets, "b")
    assert (refusal.reason, refusal.budget, refusal.reserved) == (RefusalReason.RESERVED, "month", WORST)


async def test_money_that_is_spent_is_refused_at_once(ledger: LedgerClient) -> None:
    budgets = budgets_of(WORST)
    settle(await admit(ledger, budgets, "a"), WORST)
    await used_at_last(ledger, budgets, (WORST, 0))
    refusal = await refused(ledger, budgets, "b")
    assert (refusal.reason, refusal.spent, refusal.limit) == (RefusalReason.EXHAUSTED, WORST, WORST)


async def test_only_the_cheapest_overdraws_and_only_so_far(ledger: LedgerClient) -> None:
    worst_of_cheap = WORST // 10
    budgets = budgets_of(0, hard_action=HardAction.CHEAPEST, overdraft_nano_dollars=worst_of_cheap)
    admitted = await admit(ledger, budgets, "a", DEAR, CHEAP)
    assert admitted.candidate.model == "cheap"
    settle(admitted, worst_of_cheap)
    await used_at_last(ledger, budgets, (worst_of_cheap, 0))
    refusal = await refused(ledger, budgets, "b", DEAR, CHEAP)
    assert refusal.reason == RefusalReason.EXHAUSTED


async def test_each_tenant_has_a_budget_of_its_own(ledger: LedgerClient) -> None:
    budgets = budgets_of(WORST, scope=BudgetScope.TENANT)
    for tenant in ("ann", "bob"):
        await admit(ledger, budgets, tenant, tenant=tenant)
        assert await used(ledger, budgets, tenant) == (0, WORST)


async def test_an_observed_budget_counts_and_never_refuses(ledger: LedgerClient) -> None:
    budgets = budgets_of(0, mode=BudgetMode.OBSERVE)
    admitted = await admit(ledger, budgets, "a")
    assert admitted.candidate.output_limit == 100
    settle(admitted, WORST)
    await used_at_last(ledger, budgets, (WORST, 0))


async def test_concurrent_attempts_never_hold_more_than_the_budget(ledger: LedgerClient) -> None:
    budgets, admission = budgets_of(10 * WORST), Admission()
    offers = [Offer(offer.candidate, offer.model, WORST, WORST) for offer in offers_of(DEAR)]
    attempts = [admission.admit(ledger, budgets, "", ASKED, offers, str(number)) for number in range(40)]
    ended = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(one, Admitted) for one in ended) == 10
    assert sum(isinstance(one, NotAdmitted) for one in ended) == 30
    assert await used(ledger, budgets) == (0, 10 * WORST)


async def test_other_offers_are_looked_at_only_where_the_first_was_too_much(ledger: LedgerClient) -> None:
    budgets, admission, seen = budgets_of(WORST + INPUT), Admission(), list[str]()

    def looked_at() -> Iterator[Offer]:
        for offer in offers_of(DEAR, CHEAP):
            seen.append(offer.candidate.model)
            yield offer

    admitted = []
    for number in range(3):
        admitted.append(await admission.admit(ledger, budgets, "", ASKED, Lazily(looked_at()), str(number)))
        seen.append("")
    assert [one.candidate.model for one in admitted] == ["dear", "cheap", "cheap"]
    assert seen == ["dear", "", "dear", "cheap", "", "dear", "cheap", ""]
    for one in admitted:
        settle(one, None)
    await used_at_last(ledger, budgets, (0, 0))
    for number in range(2):
        seen.clear()
        again = await admission.admit(ledger, budgets, "", ASKED, Lazily(looked_at()), f"again-{number}")
        assert again.candidate.model == "dear"
        settle(again, None)
        await used_at_last(ledger, budgets, (0, 0))
    assert seen == ["dear"]


async def test_without_budgets_nothing_is_asked(ledger: LedgerClient) -> None:
    admitted = await admit(None, Budgets(), "a")
    assert (admitted.candidate.output_limit, admitted.reservation, admitted.skipped) == (100, None, False)


async def test_without_a_ledger_enforced_budgets_close_except_for_what_is_free() -> None:
    assert (await refused(None, budgets_of(WORST), "a")).reason == RefusalReason.UNAVAILABLE
    admitted = await admit(None, budgets_of(WORST), "a", DEAR, FREE)
    assert (admitted.candidate.model, admitted.skipped) == ("free", False)


async def test_of_too_many_offers_the_ledger_is_asked_for_the_one_that_needs_least_too(ledger: LedgerClient) -> None:
    offers = [replace(offer, overdraws=False) for offer in offers_of(*MANY, CHEAP, DEAR)]
    admitted = await Admission().admit(ledger, budgets_of(WORST // 10), "", ASKED, offers, "a")
    assert (admitted.number, admitted.candidate.model) == (MOST_OPTIONS, "cheap")
    assert len(admitted.left_out) == len(MANY)


async def test_of_too_many_offers_the_ledger_is_asked_for_the_one_that_overdraws_too(ledger: LedgerClient) -> None:
    budgets = budgets_of(0, hard_action=HardAction.CHEAPEST, overdraft_nano_dollars=WORST // 10)
    assert (await admit(ledger, budgets, "a", *MANY, CHEAP, DEAR)).number == MOST_OPTIONS


async def test_without_a_ledger_what_is_free_is_found_wherever_it_stands() -> None:
    assert (await admit(None, budgets_of(WORST), "a", *MANY, FREE)).candidate.model == "free"


@pytest.mark.parametrize("budgets", [budgets_of(0, fail_open=True), budgets_of(0, mode=BudgetMode.OBSERVE)])
async def test_what_goes_on_while_the_ledger_is_away_is_spent_when_it_is_back(budgets: Budgets, tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path)
    broken = backend.open("uid")
    await broken.close()
    async with ledger_client(broken, tmp_path, deadline_seconds=0.5) as away:
        admitted = await admit(away, budgets, "a")
        assert admitted.skipped
        settle(admitted, 120_000)
    async with ledger_client(backend.open("uid"), tmp_path) as back:
        await used_at_last(back, budgets, (120_000, 0))


ONE_AT_ONCE = SnapshotLimits(concurrent_requests=1)
TWO_A_MINUTE = SnapshotLimits(requests_per_minute=2)
# One attempt can use 200 tokens: 100 of input and 100 of output.
TOKENS = SnapshotLimits(tokens_per_minute=300)


async def limit_used(ledger: LedgerClient, one: SnapshotModel) -> list[tuple[int, int]]:
    (offer,) = offers_of(one)
    return [(usage.spent, usage.reserved) for usage in await ledger.usage(offer.claims)]


async def limit_used_at_last(ledger: LedgerClient, one: SnapshotModel, *expected: tuple[int, int]) -> None:
    async with asyncio.timeout(10):
        while await limit_used(ledger, one) != list(expected):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_what_is_held_of_a_limit_is_what_it_can_be_at_most_and_then_what_was_billed(ledger: LedgerClient) -> None:
    one = limited("m", SnapshotLimits(concurrent_requests=2, requests_per_minute=5, tokens_per_minute=1000))
    admitted = await admit(ledger, Budgets(), "a", one)
    assert await limit_used(ledger, one) == [(0, 1), (0, 1), (0, 200)]
    settle(admitted, 7, tokens=30)
    await limit_used_at_last(ledger, one, (0, 0), (1, 0), (30, 0))


async def test_a_request_that_was_refused_counts_and_one_that_was_never_sent_does_not(ledger: LedgerClient) -> None:
    one = limited("m", SnapshotLimits(requests_per_minute=5, tokens_per_minute=1000))
    settle(await admit(ledger, Budgets(), "a", one), None)
    settle(await admit(ledger, Budgets(), "b", one), None, sent=False)
    await limit_used_at_last(ledger, one, (1, 0), (0, 0))


async def test_a_full_upstream_overflows_to_the_next_one_of_the_model_and_then_to_the_next_model(
    ledger: LedgerClient,
) -> None:
    both, other = limited("m", ONE_AT_ONCE, TWO_A_MINUTE), model("other")
    taken = [await admit(ledger, Budgets(), str(number), both, other) for number in range(4)]
    assert [(one.number, one.candidate.model) for one in taken] == [(0, "m"), (1, "m"), (1, "m"), (2, "other")]
    assert [dict(one.left_out) for one in taken] == [{}, {}, {}, {"m": Elimination.RATE_LIMITED}]


async def test_of_two_reasons_that_of_each_model_is_told(ledger: LedgerClient) -> None:
    budgets = budgets_of(WORST + WORST // 10)
    full, cheap = limited("full", ONE_AT_ONCE, price=price("0.1", "0.2")), model("cheap", price=price("0.1", "0.2"))
    assert (await admit(ledger, budgets, "a", full)).candidate.model == "full"
    dear = limited("dear", SnapshotLimits(requests_per_minute=9), price=price("50", "50"))
    admitted = await admit(ledger, budgets, "b", dear, full, cheap)
    assert admitted.candidate.model == "cheap"
    assert admitted.left_out == {"dear": Elimination.OVER_BUDGET, "full": Elimination.RATE_LIMITED}


async def test_a_place_that_is_taken_is_waited_for(ledger: LedgerClient) -> None:
    one = limited("m", ONE_AT_ONCE)
    first = await admit(ledger, Budgets(), "a", one)
    second = asyncio.create_task(admit(ledger, Budgets(), "b", one))
    await asyncio.sleep(0.05)
    assert not second.done()
    settle(first, 0)
    assert (await second).candidate.model == "m"


async def test_a_place_that_stays_taken_is_refused(ledger: LedgerClient) -> None:
    one = limited("m", ONE_AT_ONCE)
    await admit(ledger, Budgets(), "a", one)
    said = await over_limit(ledger, "b", one)
    assert said.left_out == {"m": Elimination.RATE_LIMITED}
    refusal = LimitRefusal("m", "up-0", Measure.SLOTS, limit=1, spent=0, reserved=1, needed=1, retry_after_seconds=0)
    assert said.refusal == refusal


@pytest.mark.parametrize(("limits", "measure"), [(TWO_A_MINUTE, Measure.REQUESTS), (TOKENS, Measure.TOKENS)])
async def test_a_minute_that_is_used_up_is_refused_until_its_oldest_use_leaves_it(
    limits: SnapshotLimits, measure: Measure, tmp_path: Path
) -> None:
    counts, backend, one = LedgerCounts(), SqliteBackend(tmp_path), limited("m", limits)
    backend.now_ms = 1_000_000_000_500
    async with ledger_client(backend.open("uid"), tmp_path, metrics=counts) as client:
        settle(await admit(client, Budgets(), "a", one), 0, tokens=100)
        backend.pass_time(10_000)
        settle(await admit(client, Budgets(), "b", one), 0, tokens=100)
        await limit_used_at_last(client, one, (2 if measure == Measure.REQUESTS else 200, 0))
        before = counts.calls["Reserve", None]
        refusal = (await over_limit(client, "c", one)).refusal
        # The bucket of a second in which the first one began counts until all of it is older than a minute.
        assert isinstance(refusal, LimitRefusal)
        assert (refusal.measure, refusal.retry_after_seconds) == (measure, 50.5)
        assert counts.calls["Reserve", None] == before + 1
        backend.pass_time(50_500)
        assert (await admit(client, Budgets(), "d", one)).candidate.model == "m"


async def test_a_minute_whose_oldest_use_leaves_it_within_a_second_is_waited_for(tmp_path: Path) -> None:
    backend, one = SqliteBackend(tmp_path), limited("m", SnapshotLimits(requests_per_minute=1))
    backend.now_ms = 1_000_000_000_000
    async with ledger_client(backend.open("uid"), tmp_path) as client:
        settle(await admit(client, Budgets(), "a", one), 0)
        backend.pass_time(60_200)
        waiting = asyncio.create_task(admit(client, Budgets(), "b", one))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        backend.pass_time(800)
        assert (await waiting).candidate.model == "m"


async def test_what_needs_more_than_a_limit_is_goes_elsewhere_or_is_told_that_it_never_fits(
    ledger: LedgerClient,
) -> None:
    narrow = limited("m", SnapshotLimits(tokens_per_minute=199))
    assert (await admit(ledger, Budgets(), "a", narrow, DEAR)).candidate.model == "dear"
    refusal = (await over_limit(ledger, "b", narrow)).refusal
    assert isinstance(refusal, LimitRefusal)
    assert (refusal.needed, refusal.limit, refusal.never_fits) == (200, 199, True)


async def test_one_more_than_may_wait_is_refused_without_waiting(tmp_path: Path) -> None:
    counts, one = LedgerCounts(), limited("m", ONE_AT_ONCE)
    async with ledger_client(SqliteBackend(tmp_path).open("uid"), tmp_path, metrics=counts) as client:
        await admit(client, Budgets(), "a", one)
        admission, before = Admission(most_waiting=0), counts.calls["Reserve", None]
        with pytest.raises(NotAdmitted):
            await admission.admit(client, Budgets(), "", ASKED, offers_of(one), "b")
        assert counts.calls["Reserve", None] == before + 1


async def test_of_a_limit_and_a_budget_that_is_spent_the_limit_is_told_for_it_has_room_again_sooner(
    ledger: LedgerClient,
) -> None:
    budgets = budgets_of(WORST // 10)
    cheap = limited("cheap", ONE_AT_ONCE, price=price("0.1", "0.2"))
    settle(await admit(ledger, Budgets(), "a", cheap), None)
    holding = await admit(ledger, Budgets(), "b", cheap)
    with pytest.raises(NotAdmitted) as caught:
        await admit(ledger, budgets, "c", limited("dear", TWO_A_MINUTE), cheap)
    assert isinstance(caught.value.refusal, LimitRefusal)
    assert caught.value.left_out == {"dear": Elimination.OVER_BUDGET, "cheap": Elimination.RATE_LIMITED}
    settle(holding, 0)


async def test_without_a_ledger_limits_do_not_hold_and_what_went_on_counts_when_it_is_back(tmp_path: Path) -> None:
    backend, one = SqliteBackend(tmp_path), limited("m", SnapshotLimits(concurrent_requests=1, requests_per_minute=1))
    broken = backend.open("uid")
    await broken.close()
    async with ledger_client(broken, tmp_path, deadline_seconds=0.5) as away:
        for attempt in ("a", "b"):
            admitted = await admit(away, Budgets(), attempt, one)
            assert admitted.skipped
            settle(admitted, 0)
    async with ledger_client(backend.open("uid"), tmp_path) as back:
        await limit_used_at_last(back, one, (0, 0), (2, 0))
    assert (await admit(None, Budgets(), "c", one)).skipped


async def test_an_upstream_without_limits_needs_no_ledger_where_nothing_else_does(tmp_path: Path) -> None:
    counts = LedgerCounts()
    async with ledger_client(SqliteBackend(tmp_path).open("uid"), tmp_path, metrics=counts) as client:
        admitted = await admit(client, Budgets(), "a", DEAR, limited("m", ONE_AT_ONCE))
        assert (admitted.candidate.model, admitted.reservation) == ("dear", None)
        assert ("Reserve", None) not in counts.calls

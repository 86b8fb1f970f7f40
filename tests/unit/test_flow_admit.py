"""Admission with a real ledger: clamped to what is left, with another candidate, after a short wait, or refused; and what is settled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support.decisions import decision_of, model, price, request, snapshot
from tests.support.ledgers import SqliteBackend, ledger_client

from foresail_api.budgets import BudgetMode, BudgetScope, CalendarUnit, HardAction
from foresail_api.policy import Strategy
from foresail_api.reasons import SettlementBasis
from foresail_api.snapshot import SnapshotModel
from foresail_api.snapshot_budgets import SnapshotBudget
from foresail_router.decision.counts import TokenCounts
from foresail_router.decision.price import worst_case
from foresail_sidecar.flow.admit import Admission, Admitted, BudgetRefused
from foresail_sidecar.flow.budgets import BudgetRefusal, Budgets, PolicyBudget, RefusalReason
from foresail_sidecar.flow.offers import Offer, offer_of
from foresail_sidecar.flow.settle import Settlement
from foresail_sidecar.ledger.client import LedgerClient

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


def offers_of(*models: SnapshotModel) -> Sequence[Offer]:
    decision = decision_of(ASKED, snapshot(*models, strategy=Strategy.CHEAPEST), input_tokens=50)
    cheapest = decision.order[0]
    return [
        offer_of(ASKED, one, candidate, overdraws=one.name == cheapest)
        for one, candidate in zip(models, decision.candidates, strict=True)
    ]


async def admit(
    ledger: LedgerClient | None, budgets: Budgets, attempt_id: str, *models: SnapshotModel, tenant: str = ""
) -> Admitted:
    return await Admission().admit(ledger, budgets, tenant, ASKED, offers_of(*models or (DEAR,)), attempt_id)


async def refused(
    ledger: LedgerClient | None, budgets: Budgets, attempt_id: str, *models: SnapshotModel
) -> BudgetRefusal:
    with pytest.raises(BudgetRefused) as caught:
        await admit(ledger, budgets, attempt_id, *models)
    return caught.value.refusal


def settle(admitted: Admitted, cost: int | None) -> None:
    assert admitted.reservation is not None
    counts = TokenCounts(plain=1)
    admitted.reservation.settle(None if cost is None else Settlement(SettlementBasis.REPORTED, counts, cost))


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


async def test_another_candidate_is_taken_where_the_first_does_not_fit(ledger: LedgerClient) -> None:
    admitted = await admit(ledger, budgets_of(INPUT), "a", DEAR, CHEAP)
    assert (admitted.candidate.model, admitted.candidate.output_limit) == ("cheap", 100)


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
    assert sum(isinstance(one, BudgetRefused) for one in ended) == 30
    assert await used(ledger, budgets) == (0, 10 * WORST)


async def test_without_budgets_nothing_is_asked(ledger: LedgerClient) -> None:
    admitted = await admit(None, Budgets(), "a")
    assert (admitted.candidate.output_limit, admitted.reservation, admitted.skipped) == (100, None, False)


async def test_without_a_ledger_enforced_budgets_close_except_for_what_is_free() -> None:
    assert (await refused(None, budgets_of(WORST), "a")).reason == RefusalReason.UNAVAILABLE
    admitted = await admit(None, budgets_of(WORST), "a", DEAR, FREE)
    assert (admitted.candidate.model, admitted.skipped) == ("free", False)


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

"""What budgets mean for a request: how much they press before their end, and what a denial says of money that is spent or only held."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.decisions import decision_of, estimate, model, price, request, snapshot

from foresail_api.budgets import BudgetMode, BudgetScope, CalendarUnit, HardAction
from foresail_api.ledgers import OnLedgerUnavailable
from foresail_api.policy import Strategy
from foresail_api.reasons import Basis
from foresail_api.snapshot import SnapshotObjective
from foresail_api.snapshot_budgets import SnapshotBudget
from foresail_router.decision.conditions import RequestLimits
from foresail_router.decision.objective import pressed
from foresail_router.decision.types import Decision
from foresail_sidecar.flow.budgets import Budgets, PolicyBudget, RefusalReason, budget_refusal
from foresail_sidecar.flow.denials import is_worth_waiting
from foresail_sidecar.ledger.interface import Denied, Measure, Shortage, Usage
from foresail_sidecar.ledger.windows import slot_of

NOON_MS = 1_751_371_200_000  # 1 July 2025
DAY_END_MS = NOON_MS + 12 * 3_600_000
TEAM = "b|team|"


def budget(name: str = "team", amount: int = 1000, **changes: object) -> SnapshotBudget:
    values: dict[str, object] = {"calendar": CalendarUnit.DAY, "rolling_seconds": None, **changes}
    return SnapshotBudget(name=name, amount_nano_dollars=amount, **values)  # type: ignore[arg-type]


def budgets_of(*declared: SnapshotBudget) -> Budgets:
    return Budgets(tuple(map(PolicyBudget.of, declared)))


def short(option: int, spent: int, reserved: int, *, needed: int = 100, ends_ms: int = DAY_END_MS) -> Shortage:
    return Shortage(option, TEAM, Measure.MONEY, 1000, spent, reserved, needed, ends_ms)


def decide_under(pressure_percent: int) -> Decision:
    served = snapshot(model("dear"), model("cheap", price=price("0.1", "0.2")))
    estimates = [estimate("dear", 0.9), estimate("cheap", 0.8)]
    return decision_of(request(), served, estimates, pressure_percent=pressure_percent)


def denied(*shortages: Shortage) -> Denied:
    return Denied(shortages, (), NOON_MS)


@pytest.mark.parametrize(
    ("spent", "pressure"), [(0, 0), (799, 0), (800, 0), (850, 25), (900, 50), (999, 99), (1000, 100), (1500, 100)]
)
def test_pressure_rises_linearly_from_the_soft_threshold_to_the_amount(spent: int, pressure: int) -> None:
    soft = PolicyBudget.of(budget(soft_threshold_percent=80))
    assert soft.pressure_percent("", spent) == pressure


def test_only_a_budget_that_the_cheapest_may_overdraw_presses_without_a_threshold() -> None:
    overdrawn = budget(hard_action=HardAction.CHEAPEST, overdraft_nano_dollars=10)
    assert PolicyBudget.of(overdrawn).pressure_percent("", 999) == 0
    assert PolicyBudget.of(overdrawn).pressure_percent("", 1000) == 100
    assert PolicyBudget.of(budget()).pressure_percent("", 1000) == 0


def test_claims_follow_the_windows_however_often_they_were_asked_for() -> None:
    hours = budgets_of(budget(calendar=CalendarUnit.HOUR), budget("mine", scope=BudgetScope.TENANT))
    for minute in range(0, 181, 20):
        now = NOON_MS + minute * 60_000
        for tenant in ("ann", "bob", "ann"):
            shared, own = hours.claims(tenant, now)
            assert slot_of(shared.span, now) == (now - now % 3_600_000, now - now % 3_600_000 + 3_600_000)
            assert (shared.account, own.account) == (TEAM, f"b|mine|{tenant}")


def test_claims_of_more_tenants_than_are_kept_are_right() -> None:
    per_tenant = budgets_of(budget("mine", scope=BudgetScope.TENANT, overrides_nano_dollars={"t7": 7}))
    for _ in range(2):
        claims = [per_tenant.claims(f"t{number}", NOON_MS)[0] for number in range(3000)]
        assert [claim.account for claim in claims] == [f"b|mine|t{number}" for number in range(3000)]
        assert [number for number, claim in enumerate(claims) if claim.limit != 1000] == [7]


def test_the_highest_pressure_counts_and_that_of_a_window_that_ended_does_not() -> None:
    both = budgets_of(
        budget(soft_threshold_percent=50), budget("mine", scope=BudgetScope.TENANT, soft_threshold_percent=50)
    )
    seen = {
        TEAM: Usage(TEAM, 0, 750, 250, DAY_END_MS, 1),
        "b|mine|ann": Usage("b|mine|ann", 0, 900, 0, DAY_END_MS, 1),
    }
    assert both.pressure_percent("ann", seen.get, NOON_MS) == 80
    assert both.pressure_percent("bob", seen.get, NOON_MS) == 50
    assert both.pressure_percent("ann", seen.get, DAY_END_MS) == 0


def test_what_is_left_of_a_rolling_window_presses_after_its_oldest_use_has_left() -> None:
    """Seen at noon, with the oldest use to leave a minute later; the latest leaves after a day and a bucket of 24 minutes."""
    last_day = budgets_of(budget(calendar=None, rolling_seconds=86_400, soft_threshold_percent=50))
    seen = {TEAM: Usage(TEAM, NOON_MS, 900, 0, NOON_MS + 60_000, 1, rolling=True)}
    over = NOON_MS + 86_400_000 + 1_440_000
    assert [last_day.pressure_percent("", seen.get, now) for now in (NOON_MS, NOON_MS + 60_000, over - 1)] == [80] * 3
    assert last_day.pressure_percent("", seen.get, over) == 0


def test_an_observed_budget_never_presses_and_is_not_enforced() -> None:
    observed = budgets_of(budget(mode=BudgetMode.OBSERVE))
    assert not observed.enforced
    assert observed.pressure_percent("", {TEAM: Usage(TEAM, 0, 5000, 0, None, 1)}.get, NOON_MS) == 0
    assert [claim.enforced for claim in observed.claims("", NOON_MS)] == [False]


def test_a_tenant_claims_its_own_account_and_amount() -> None:
    each = budgets_of(
        budget(),
        budget(
            "mine", 10, scope=BudgetScope.TENANT, overrides_nano_dollars={"ann": 20}, calendar=None, rolling_seconds=60
        ),
    )
    assert [(claim.account, claim.limit) for claim in each.claims("ann", NOON_MS)] == [(TEAM, 1000), ("b|mine|ann", 20)]
    assert [(claim.account, claim.limit) for claim in each.claims("bob", NOON_MS)][1] == ("b|mine|bob", 10)
    assert [claim.account for claim in each.shared_claims(NOON_MS)] == [TEAM]


def test_a_policy_says_what_happens_without_its_ledger() -> None:
    declared = {"budgets": (budget(),), "on_ledger_unavailable": OnLedgerUnavailable.FAIL_OPEN}
    assert Budgets.of(snapshot(model("m")).model_copy(update=declared)).fail_open
    assert not Budgets.of(snapshot(model("m")))


def test_money_that_is_spent_is_gone_until_the_window_ends() -> None:
    refusal = budget_refusal(denied(short(0, 950, 0)), budgets_of(budget()), "")
    assert refusal.reason == RefusalReason.EXHAUSTED
    assert (refusal.budget, refusal.ends_ms, refusal.retry_after_seconds) == (
        "team",
        DAY_END_MS,
        (DAY_END_MS - NOON_MS) / 1000,
    )
    assert (refusal.spent, refusal.reserved, refusal.limit, refusal.needed) == (950, 0, 1000, 100)


def test_the_wait_for_a_window_that_ends_soon_is_the_time_that_is_left() -> None:
    refusal = budget_refusal(denied(short(0, 950, 0, ends_ms=NOON_MS + 4_200)), budgets_of(budget()), "")
    assert refusal.retry_after_seconds == 4.2


def test_money_that_is_only_held_may_come_back_soon() -> None:
    refusal = budget_refusal(denied(short(0, 900, 100)), budgets_of(budget()), "")
    assert (refusal.reason, refusal.budget, refusal.retry_after_seconds) == (RefusalReason.RESERVED, "team", 1)


def test_one_candidate_that_may_fit_later_is_enough_to_wait_for() -> None:
    refusal = budget_refusal(denied(short(0, 950, 0), short(1, 950, 50, needed=20)), budgets_of(budget()), "")
    assert (refusal.reason, refusal.needed) == (RefusalReason.RESERVED, 20)


def test_the_budget_that_ends_last_is_named_of_those_that_one_candidate_lacks() -> None:
    month_end = DAY_END_MS + 86_400_000
    of_month = Shortage(0, "b|month|", Measure.MONEY, 9000, 9000, 0, 100, month_end)
    refusal = budget_refusal(denied(short(0, 950, 0), of_month), budgets_of(budget(), budget("month")), "")
    assert (refusal.budget, refusal.ends_ms) == ("month", month_end)
    sooner = budget_refusal(
        denied(short(0, 950, 0), of_month, short(1, 995, 0, needed=10)), budgets_of(budget(), budget("month")), ""
    )
    assert (sooner.budget, sooner.ends_ms, sooner.needed) == ("team", DAY_END_MS, 10)


def test_money_that_may_come_back_does_not_help_a_candidate_that_lacks_spent_money_too() -> None:
    of_month = Shortage(0, "b|month|", Measure.MONEY, 9000, 9000, 0, 100, DAY_END_MS)
    both = denied(short(0, 900, 100), of_month)
    assert not is_worth_waiting(both, 1000)
    refusal = budget_refusal(both, budgets_of(budget(), budget("month")), "")
    assert (refusal.reason, refusal.budget) == (RefusalReason.EXHAUSTED, "month")
    assert is_worth_waiting(denied(short(0, 900, 100), of_month, short(1, 900, 100)), 1000)


@pytest.mark.parametrize(
    ("pressure", "chosen", "basis"), [(0, "dear", Basis.LEARNED), (100, "cheap", Basis.BUDGET_CHEAPEST)]
)
def test_budgets_at_their_end_leave_only_the_cheapest_model(pressure: int, chosen: str, basis: Basis) -> None:
    decision = decide_under(pressure)
    assert decision.chosen is not None
    assert (decision.chosen.model, decision.basis, decision.pressure_percent) == (chosen, basis, pressure)


def test_at_their_end_the_cheapest_answers_also_what_is_not_routed_and_a_named_model_its_own_requests() -> None:
    cheap = model("cheap", price=price("0.1", "0.2"))
    served = snapshot(model("dear"), cheap, strategy=Strategy.DEFAULT, default_model="dear")
    asked = {
        Basis.BUDGET_CHEAPEST: (request(), RequestLimits(routed=False), "cheap"),
        Basis.PASS_THROUGH: (request(model="dear"), RequestLimits(), "dear"),
    }
    for basis, (one, limits, name) in asked.items():
        decision = decision_of(one, served, limits=limits, pressure_percent=100)
        assert decision.chosen is not None
        assert (decision.chosen.model, decision.basis) == (name, basis)


@pytest.mark.parametrize("kind", ["Tradeoff", "CheapestWithinPercentOfBest"])
@pytest.mark.parametrize(("pressure", "percent"), [(0, 30), (1, 30), (10, 37), (50, 65), (99, 99), (100, 100)])
def test_pressure_raises_the_percentage_of_each_objective_linearly(kind: Any, pressure: int, percent: int) -> None:
    assert pressed(SnapshotObjective(kind=kind, percent=30), pressure) == SnapshotObjective(kind=kind, percent=percent)


def test_pressure_in_between_raises_the_weight_of_cost() -> None:
    answers = [decide_under(pressure).order[0] for pressure in range(100)]
    assert answers == sorted(answers, reverse=True), "once the cheaper model is chosen, more pressure never goes back"
    assert set(answers) == {"dear", "cheap"}

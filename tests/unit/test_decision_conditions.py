"""What besides the request rules models out, what a caller may tighten, and which model is next."""

from __future__ import annotations

import pytest
from tests.support.decisions import candidates_of, decision_of, estimate, model, price, request, snapshot

from foresail_api.policy import Strategy
from foresail_api.reasons import Basis, Elimination
from foresail_router.decision.conditions import RequestLimits, Unavailable, effective_cap
from foresail_router.decision.types import RefusalKind

CHEAP = model("cheap", price=price("1", "1"))
MIDDLE = model("middle", price=price("3", "3"))
DEAR = model("dear", price=price("10", "10"))
POOL = (DEAR, CHEAP, MIDDLE)


def test_a_tenant_gets_only_the_models_that_it_may_use() -> None:
    served = snapshot(*POOL)
    out = candidates_of(request(), served, allowed_models=frozenset({"cheap"}))
    assert [one.elimination for one in out] == [Elimination.NOT_ALLOWED, None, Elimination.NOT_ALLOWED]
    assert "tenant" in out[0].detail


def test_a_request_can_only_narrow_what_its_tenant_may_use() -> None:
    limits = RequestLimits(models=frozenset({"dear", "cheap"}))
    out = candidates_of(request(), snapshot(*POOL), allowed_models=frozenset({"cheap", "middle"}), limits=limits)
    assert [one.model for one in out if one.elimination is None] == ["cheap"]
    assert "tenant" in out[0].detail
    assert "list of models" in out[2].detail


def test_a_model_that_is_not_allowed_is_out_by_its_own_name_too() -> None:
    decision = decision_of(request(model="dear"), snapshot(*POOL), allowed_models=frozenset({"cheap"}))
    assert decision.refusal is not None
    assert decision.refusal.kind == RefusalKind.NO_ELIGIBLE_MODEL
    assert "dear: NotAllowed" in decision.refusal.message
    assert "ask for a model that is allowed" in decision.refusal.message


def test_a_model_that_cannot_be_asked_now_is_out_with_the_reason_given() -> None:
    resting = {"cheap": Unavailable(Elimination.UNHEALTHY, "all of its upstreams failed")}
    out = candidates_of(request(), snapshot(*POOL), unavailable=resting)
    assert [one.elimination for one in out] == [None, Elimination.UNHEALTHY, None]
    assert out[1].detail == "all of its upstreams failed"


@pytest.mark.parametrize(
    ("policy", "caller", "effective"),
    [(None, None, None), ("1", None, 10**9), (None, 5, 5), ("1", 5, 5), ("1", 2 * 10**9, 10**9), ("1", 0, 0)],
)
def test_a_caller_can_only_lower_the_cap(policy: str | None, caller: int | None, effective: int | None) -> None:
    assert effective_cap(snapshot(CHEAP, cap=policy), RequestLimits(max_cost=caller)) == effective


def test_a_caller_s_own_cap_clamps_and_is_named_where_nothing_fits() -> None:
    served = snapshot(CHEAP)
    # 1,010 tokens of input at most, then one token for each thousand nano-dollars.
    (candidate,) = candidates_of(request(), served, limits=RequestLimits(max_cost=1_110_000))
    assert (candidate.output_limit, candidate.worst_case) == (100, 1_110_000)
    decision = decision_of(request(), served, limits=RequestLimits(max_cost=1_000_000))
    assert decision.refusal is not None
    assert decision.refusal.kind == RefusalKind.COST_CAP_EXCEEDED
    assert "0.001 USD" in decision.refusal.message


@pytest.mark.parametrize(("default_model", "expected"), [("dear", "dear"), (None, "cheap")])
def test_an_unrouted_request_takes_the_default_model_or_the_cheapest(default_model: str | None, expected: str) -> None:
    served = snapshot(*POOL, default_model=default_model)
    decision = decision_of(request(), served, limits=RequestLimits(routed=False))
    assert decision.chosen is not None
    assert (decision.chosen.model, decision.basis, decision.scoring_error) == (expected, Basis.UNROUTED, None)


def test_an_unrouted_request_still_gets_the_model_that_it_names() -> None:
    decision = decision_of(request(model="middle"), snapshot(*POOL), limits=RequestLimits(routed=False))
    assert decision.chosen is not None
    assert (decision.chosen.model, decision.basis) == ("middle", Basis.PASS_THROUGH)
    assert decision.order == ("middle",)


QUALITIES = [estimate("dear", 0.9), estimate("cheap", 0.5), estimate("middle", 0.88)]


def test_the_next_best_models_follow_the_objective() -> None:
    by_quality = decision_of(request(), snapshot(*POOL, objective=("Tradeoff", 0)), QUALITIES)
    assert by_quality.order == ("dear", "middle", "cheap")
    by_cost = decision_of(request(), snapshot(*POOL, objective=("Tradeoff", 100)), QUALITIES)
    assert by_cost.order == ("cheap", "middle", "dear")
    near = decision_of(request(), snapshot(*POOL, objective=("CheapestWithinPercentOfBest", 5)), QUALITIES)
    assert near.order == ("middle", "dear", "cheap")
    assert near.chosen is not None
    assert near.chosen.model == "middle"


def test_models_that_the_artifact_does_not_know_come_last_and_those_that_are_out_never() -> None:
    served = snapshot(*POOL, model("small", context_window_tokens=10), objective=("Tradeoff", 0))
    decision = decision_of(request(), served, [estimate("middle", 0.1)])
    assert decision.order == ("middle", "cheap", "dear")


def test_without_predictions_the_order_is_the_default_model_then_by_cost() -> None:
    defaulted = decision_of(request(), snapshot(*POOL, strategy=Strategy.DEFAULT, default_model="middle"))
    assert defaulted.order == ("middle", "cheap", "dear")
    cheapest = decision_of(request(), snapshot(*POOL, strategy=Strategy.CHEAPEST))
    assert cheapest.order == ("cheap", "middle", "dear")
    failed = decision_of(request(), snapshot(*POOL, default_model="dear"), scoring_error="DeadlineExceeded")
    assert failed.order == ("dear", "cheap", "middle")


def test_a_refusal_has_no_order() -> None:
    assert decision_of(request(model="unknown"), snapshot(*POOL)).order == ()


def test_a_model_that_exceeds_its_bound_is_out_where_money_is_limited() -> None:
    capped, free = snapshot(*POOL, cap="1"), snapshot(*POOL)
    distrusted = frozenset({"cheap"})
    out = candidates_of(request(), capped, distrusted=distrusted)
    assert [one.elimination for one in out] == [None, Elimination.BOUND_EXCEEDED, None]
    for limited in ({"budgeted": True}, {"limits": RequestLimits(max_cost=10**9)}):
        out = candidates_of(request(), free, distrusted=distrusted, **limited)
        assert [one.elimination for one in out] == [None, Elimination.BOUND_EXCEEDED, None]
    assert {one.elimination for one in candidates_of(request(), free, distrusted=distrusted)} == {None}


def test_the_refusal_of_a_distrusted_model_says_whose_hand_helps() -> None:
    decision = decision_of(request(), snapshot(CHEAP, cap="1"), distrusted=frozenset({"cheap"}))
    assert decision.refusal is not None
    assert decision.refusal.kind == RefusalKind.NO_ELIGIBLE_MODEL
    assert "cheap: BoundExceeded" in decision.refusal.message
    assert "`tokenCount` or `maxOutputTokens` of the model corrected" in decision.refusal.message

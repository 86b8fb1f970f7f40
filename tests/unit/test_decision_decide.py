"""Which model answers, what that rests on, and what a caller is told when none does."""

from __future__ import annotations

import pytest
from tests.support.decisions import ARTIFACT, decision_of, estimate, model, price, request, snapshot

from foresail_api.policy import FailureMode, Strategy
from foresail_api.pool import Capability
from foresail_api.reasons import Basis, Elimination
from foresail_router.decision.objective import cost_weight
from foresail_router.decision.types import Candidate, Decision, RefusalKind

CHEAP = model("cheap", price=price("1", "1"))
DEAR = model("dear", price=price("10", "10"))
FREE = model("unpriced", price=None)


def chosen(decision: Decision) -> tuple[str, Basis | None]:
    assert decision.refusal is None
    assert decision.chosen in decision.candidates
    assert decision.chosen is not None
    return decision.chosen.model, decision.basis


def candidate(decision: Decision, name: str) -> Candidate:
    return next(one for one in decision.candidates if one.model == name)


@pytest.mark.parametrize(("percent", "weight"), [(0, 0.0), (20, 0.01), (60, 1.0), (100, 100.0)])
def test_the_cost_weight_is_exponential_and_off_at_zero(percent: int, weight: float) -> None:
    assert cost_weight(percent) == pytest.approx(weight)


@pytest.mark.parametrize(("percent", "expected"), [(0, "dear"), (20, "dear"), (60, "cheap"), (100, "cheap")])
def test_tradeoff_turns_from_quality_to_cost(percent: int, expected: str) -> None:
    served = snapshot(CHEAP, DEAR, objective=("Tradeoff", percent))
    decision = decision_of(request(), served, [estimate("cheap", 0.5), estimate("dear", 0.7)])
    assert chosen(decision) == (expected, Basis.LEARNED)


def test_utility_is_quality_less_weighted_relative_cost() -> None:
    served = snapshot(CHEAP, DEAR, objective=("Tradeoff", 60))
    decision = decision_of(request(), served, [estimate("cheap", 0.5), estimate("dear", 0.7)], cost_reference=1_000_000)
    # 250 input and 100 output tokens at 1 and at 10 dollars per million.
    assert candidate(decision, "cheap").cost == 350_000
    assert candidate(decision, "cheap").utility == pytest.approx(0.5 - 0.35)
    assert candidate(decision, "dear").utility == pytest.approx(0.7 - 3.5)
    assert candidate(decision, "dear").cost_p05 == 3_000_000
    assert candidate(decision, "dear").cost_p95 == 4_500_000
    assert decision.artifact_digest == ARTIFACT.digest


def test_predicted_cost_ends_at_the_output_limit_and_counts_every_answer() -> None:
    decision = decision_of(request(output_limit=10, choices=3), snapshot(CHEAP), [estimate("cheap", 0.5, 400)])
    assert candidate(decision, "cheap").cost == 250_000 + 3 * 10 * 1000


def test_without_a_cost_reference_the_dearest_candidate_is_the_reference() -> None:
    served = snapshot(CHEAP, DEAR, objective=("Tradeoff", 60))
    decision = decision_of(request(), served, [estimate("cheap", 0.5), estimate("dear", 0.7)], cost_reference=None)
    assert candidate(decision, "dear").utility == pytest.approx(0.7 - 1)
    assert candidate(decision, "cheap").utility == pytest.approx(0.5 - 0.1)


def test_a_free_reference_gives_no_division_by_zero() -> None:
    decision = decision_of(request(), snapshot(CHEAP), [estimate("cheap", 0.5)], cost_reference=0)
    assert chosen(decision) == ("cheap", Basis.LEARNED)


def test_a_model_without_a_price_is_weighed_as_the_dearest() -> None:
    served = snapshot(CHEAP, DEAR, FREE, objective=("Tradeoff", 60))
    estimates = [estimate("cheap", 0.5), estimate("dear", 0.7), estimate("unpriced", 0.7)]
    decision = decision_of(request(), served, estimates)
    assert candidate(decision, "unpriced").cost is None
    assert candidate(decision, "unpriced").utility == candidate(decision, "dear").utility
    assert chosen(decision) == ("cheap", Basis.LEARNED)


def test_models_without_any_price_are_compared_by_quality() -> None:
    served = snapshot(model("a", price=None), model("b", price=None), objective=("Tradeoff", 100))
    assert chosen(decision_of(request(), served, [estimate("a", 0.5), estimate("b", 0.6)]))[0] == "b"


def test_ties_go_to_the_cheaper_one_then_to_the_pool_s_order() -> None:
    dear_first = snapshot(DEAR, CHEAP, objective=("Tradeoff", 0))
    assert chosen(decision_of(request(), dear_first, [estimate("cheap", 0.5), estimate("dear", 0.5)]))[0] == "cheap"
    same = snapshot(model("b"), model("a"), objective=("Tradeoff", 0))
    assert chosen(decision_of(request(), same, [estimate("a", 0.5), estimate("b", 0.5)]))[0] == "b"


@pytest.mark.parametrize(("percent", "expected"), [(0, "dear"), (10, "dear"), (30, "cheap"), (100, "cheap")])
def test_the_cheapest_within_a_percentage_of_the_best(percent: int, expected: str) -> None:
    served = snapshot(CHEAP, DEAR, objective=("CheapestWithinPercentOfBest", percent))
    decision = decision_of(request(), served, [estimate("cheap", 0.5), estimate("dear", 0.7)])
    assert chosen(decision) == (expected, Basis.LEARNED)
    assert candidate(decision, "dear").utility is None


def test_near_the_best_a_model_without_a_price_is_the_last_choice() -> None:
    served = snapshot(FREE, DEAR, objective=("CheapestWithinPercentOfBest", 50))
    assert chosen(decision_of(request(), served, [estimate("unpriced", 0.9), estimate("dear", 0.8)]))[0] == "dear"


def test_a_model_that_the_artifact_does_not_know_takes_no_part_and_says_so() -> None:
    decision = decision_of(request(), snapshot(CHEAP, DEAR), [estimate("dear", 0.1)])
    assert chosen(decision) == ("dear", Basis.LEARNED)
    assert "artifact does not know it" in candidate(decision, "cheap").detail


@pytest.mark.parametrize("estimates", [None, []])
def test_without_estimates_fail_open_takes_the_default_model(estimates: list[object] | None) -> None:
    served = snapshot(CHEAP, DEAR, default_model="dear")
    decision = decision_of(request(), served, None if estimates is None else [], scoring_error="DeadlineExceeded")
    assert chosen(decision) == ("dear", Basis.FAIL_OPEN_DEFAULT)
    assert decision.scoring_error == "DeadlineExceeded"


def test_fail_open_takes_the_cheapest_where_the_default_is_out_or_not_named() -> None:
    asked = request(required=frozenset({Capability.TOOLS}))
    able = frozenset({Capability.TOOLS})
    served = snapshot(
        CHEAP,
        DEAR,
        model("a", price=price("5", "5"), capabilities=able),
        model("b", capabilities=able),
        default_model="cheap",
    )
    assert chosen(decision_of(asked, served)) == ("b", Basis.FAIL_OPEN_CHEAPEST)
    decision = decision_of(request(), snapshot(DEAR, CHEAP))
    assert chosen(decision) == ("cheap", Basis.FAIL_OPEN_CHEAPEST)
    assert decision.scoring_error == "NoEstimates"


def test_fail_close_refuses() -> None:
    served = snapshot(CHEAP, failure_mode=FailureMode.FAIL_CLOSE, default_model="cheap")
    decision = decision_of(request(), served, scoring_error="DeadlineExceeded")
    assert decision.refusal is not None
    assert decision.refusal.kind == RefusalKind.SCORING_FAILED
    assert "DeadlineExceeded" in decision.refusal.message
    assert decision.chosen is None
    assert decision.basis is None


def test_fail_close_does_not_touch_a_request_for_a_model_s_own_name() -> None:
    served = snapshot(CHEAP, DEAR, failure_mode=FailureMode.FAIL_CLOSE)
    decision = decision_of(request(model="dear"), served)
    assert chosen(decision) == ("dear", Basis.PASS_THROUGH)
    assert decision.scoring_error is None


def test_cheapest_takes_the_lowest_predicted_cost() -> None:
    served = snapshot(DEAR, CHEAP, FREE, strategy=Strategy.CHEAPEST)
    decision = decision_of(request(), served)
    assert chosen(decision) == ("cheap", Basis.CHEAPEST)
    assert decision.artifact_digest is None
    assert candidate(decision, "cheap").cost == 250_000 + 500_000


def test_cheapest_without_any_price_takes_the_first_of_the_pool() -> None:
    served = snapshot(model("b", price=None), model("a", price=None), strategy=Strategy.CHEAPEST)
    assert chosen(decision_of(request(), served)) == ("b", Basis.CHEAPEST)


def test_cheapest_counts_tokens_as_each_model_does() -> None:
    served = snapshot(CHEAP, model("other", price=price("1", "1")), strategy=Strategy.CHEAPEST)
    assert chosen(decision_of(request(), served, input_tokens={"cheap": 300, "other": 200}))[0] == "other"


def test_default_takes_its_model_where_it_can_answer_else_the_cheapest() -> None:
    served = snapshot(CHEAP, DEAR, strategy=Strategy.DEFAULT, default_model="dear")
    assert chosen(decision_of(request(), served)) == ("dear", Basis.DEFAULT)
    small = model("small", context_window_tokens=100)
    served = snapshot(DEAR, CHEAP, small, strategy=Strategy.DEFAULT, default_model="small")
    assert chosen(decision_of(request(), served)) == ("cheap", Basis.CHEAPEST)


def test_an_unknown_model_names_aliases_and_models() -> None:
    decision = decision_of(request(model="gpt" + "x" * 200), snapshot(CHEAP, DEAR))
    assert decision.refusal is not None
    assert decision.refusal.kind == RefusalKind.UNKNOWN_MODEL
    for word in ("'gptx", "auto", "cheap, dear"):
        assert word in decision.refusal.message
    assert len(decision.refusal.message) < 300


def test_no_eligible_model_lists_every_reason_and_a_remedy() -> None:
    served = snapshot(model("small", context_window_tokens=100, capabilities=frozenset({Capability.TOOLS})), DEAR)
    decision = decision_of(request(required=frozenset({Capability.TOOLS})), served)
    assert decision.refusal is not None
    assert decision.refusal.kind == RefusalKind.NO_ELIGIBLE_MODEL
    for word in ("small: ContextTooSmall", "dear: MissingCapability", "shorten the conversation", "leave out"):
        assert word in decision.refusal.message


def test_a_request_for_one_model_is_refused_in_that_model_s_words_only() -> None:
    decision = decision_of(request(model="dear", required=frozenset({Capability.TOOLS})), snapshot(CHEAP, DEAR))
    assert decision.refusal is not None
    assert "dear: MissingCapability" in decision.refusal.message
    assert "cheap" not in decision.refusal.message


def test_a_cap_that_nothing_fits_names_the_cap_and_the_smallest_that_would() -> None:
    served = snapshot(CHEAP, DEAR, cap="0.0001")
    decision = decision_of(request(input_bytes=990), served)
    assert decision.refusal is not None
    assert decision.refusal.kind == RefusalKind.COST_CAP_EXCEEDED
    assert "0.0001 USD" in decision.refusal.message
    assert "0.001001 USD (cheap)" in decision.refusal.message
    assert decision_of(request(input_bytes=990), snapshot(CHEAP, DEAR, cap="0.001001")).chosen is not None


def test_a_cap_that_would_cut_off_the_predicted_answer_takes_the_model_out() -> None:
    # The cap leaves 100 output tokens of the cheap model, and nothing of the dear one.
    served = snapshot(CHEAP, DEAR, cap="0.0011")
    asked = request(input_bytes=990)
    assert chosen(decision_of(asked, served, [estimate("cheap", 0.5, 100)]))[0] == "cheap"
    decision = decision_of(asked, served, [estimate("cheap", 0.5, 100.5)])
    assert candidate(decision, "cheap").elimination == Elimination.CLAMP_TOO_SMALL
    assert candidate(decision, "cheap").worst_case == 1_000_000 + 101_000
    assert decision.refusal is not None
    assert decision.refusal.kind == RefusalKind.COST_CAP_EXCEEDED
    assert "0.001101 USD (cheap)" in decision.refusal.message


def test_a_few_long_answers_do_not_take_a_model_out_if_half_of_them_fit() -> None:
    served, asked = snapshot(CHEAP, DEAR, cap="0.0011"), request(input_bytes=990)
    skewed = estimate("cheap", 0.5, 150, output_tokens_p50=100)
    assert chosen(decision_of(asked, served, [skewed]))[0] == "cheap"
    decision = decision_of(asked, served, [estimate("cheap", 0.5, 90, output_tokens_p50=101)])
    assert candidate(decision, "cheap").elimination == Elimination.CLAMP_TOO_SMALL


def test_a_limit_of_the_client_s_own_below_the_predicted_length_is_respected() -> None:
    served = snapshot(CHEAP, cap="1")
    decision = decision_of(request(output_limit=20), served, [estimate("cheap", 0.5, 400)])
    assert chosen(decision)[0] == "cheap"


def test_the_smallest_cap_that_would_help_heeds_the_client_s_limit() -> None:
    served = snapshot(CHEAP, cap="0.0011")
    decision = decision_of(request(input_bytes=990, output_limit=200), served, [estimate("cheap", 0.5, 400)])
    assert candidate(decision, "cheap").worst_case == 1_000_000 + 200_000


def test_equal_inputs_give_equal_decisions() -> None:
    served = snapshot(CHEAP, DEAR, FREE, cap="1")
    estimates = [estimate("cheap", 0.5), estimate("dear", 0.7)]
    assert decision_of(request(), served, estimates) == decision_of(request(), served, list(reversed(estimates)))

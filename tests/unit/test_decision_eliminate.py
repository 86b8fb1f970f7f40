"""Which models may answer, with which limit, and why the others may not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.decisions import candidates_of, model, price, request, snapshot

from foresail_api.pool import AuthScheme, Capability
from foresail_api.reasons import Elimination
from foresail_api.snapshot import SnapshotAuth
from foresail_router.decision.eliminate import eligible_models
from foresail_router.decision.types import Candidate


def only(
    asked: dict[str, Any],
    of_model: dict[str, Any],
    cap: str | None = None,
    input_tokens: int = 250,
    *,
    budgeted: bool = False,
) -> Candidate:
    served = snapshot(model("m", **of_model), cap=cap)
    (candidate,) = candidates_of(request(**asked), served, input_tokens=input_tokens, budgeted=budgeted)
    return candidate


def test_candidates_keep_the_pool_s_order() -> None:
    served = snapshot(model("b"), model("a"), model("c", capabilities=frozenset({Capability.TOOLS})))
    assert eligible_models(candidates_of(request(), served)) == ("b", "a", "c")
    assert eligible_models(candidates_of(request(required=frozenset({Capability.TOOLS})), served)) == ("c",)


def test_a_model_s_own_name_leaves_only_that_model() -> None:
    served = snapshot(model("a"), model("b"))
    asked = request(model="b")
    assert [one.elimination for one in candidates_of(asked, served)] == [Elimination.NOT_REQUESTED, None]


def test_a_missing_credential_names_the_secret_s_key() -> None:
    auth = SnapshotAuth(scheme=AuthScheme.BEARER, header_name="Authorization", secret_name="keys", secret_key="a")
    upstream = model("m").upstreams[0].model_copy(update={"auth": auth})
    served = snapshot(model("m", upstreams=(upstream,)), model("n"))
    first, second = candidates_of(request(), served, missing=["m"])
    assert first.elimination == Elimination.CREDENTIAL_MISSING
    assert "key 'a' of Secret 'keys'" in first.detail
    assert second.elimination is None


def test_missing_capabilities_are_listed() -> None:
    candidate = only(
        {"required": frozenset({Capability.VISION, Capability.TOOLS})}, {"capabilities": frozenset({Capability.TOOLS})}
    )
    assert candidate.elimination == Elimination.MISSING_CAPABILITY
    assert "Vision" in candidate.detail
    assert "Tools" not in candidate.detail


@pytest.mark.parametrize(
    ("asked", "of_model", "expected"),
    [
        ({}, {}, 500),
        ({"output_limit": 20}, {}, 20),
        ({"output_limit": 5000}, {}, 1000),
        ({"output_limit": 3}, {"min_output_tokens": 16}, 3),
        ({}, {"default_max_output_tokens": 1000}, 1000),
    ],
)
def test_the_output_limit_is_the_client_s_or_the_default_within_the_model_s(
    asked: dict[str, Any], of_model: dict[str, Any], expected: int
) -> None:
    assert only(asked, of_model).output_limit == expected


def test_the_context_window_is_judged_by_the_estimate_not_by_the_bound() -> None:
    candidate = only({"input_bytes": 4000}, {"context_window_tokens": 2000}, input_tokens=1000)
    assert candidate.input_tokens_bound == 4010
    assert candidate.elimination is None
    # A quarter of the estimate is kept free for its error.
    assert candidate.output_limit == 500
    assert only({"input_bytes": 4000}, {"context_window_tokens": 1600}, input_tokens=1000).output_limit == 350


def test_a_bound_below_the_cautious_estimate_leaves_more_room() -> None:
    candidate = only({"input_bytes": 1000}, {"context_window_tokens": 1400, "overhead_tokens": 0}, input_tokens=990)
    assert candidate.output_limit == 400


@pytest.mark.parametrize(("window", "out"), [(1015, True), (1016, False), (1100, False)])
def test_a_context_window_that_leaves_less_than_the_least_answer_is_too_small(window: int, out: bool) -> None:
    candidate = only(
        {"input_bytes": 9000}, {"context_window_tokens": window, "min_output_tokens": 16}, input_tokens=1000
    )
    assert (candidate.elimination == Elimination.CONTEXT_TOO_SMALL) == out
    assert out or candidate.output_limit == 16


def test_without_a_cap_the_worst_case_is_told_where_it_can_be() -> None:
    assert only({"input_bytes": 990, "choices": 2}, {}).worst_case == 1000 * 1000 + 2 * 500 * 2000
    assert only({}, {"price": None}).worst_case is None
    assert only({}, {"overhead_tokens": None}).worst_case is None
    assert only({"unpriceable": "`audio`: no price"}, {}).worst_case is None
    assert only({"unpriceable": "`audio`: no price"}, {}).elimination is None


@pytest.mark.parametrize(
    ("asked", "of_model", "words"),
    [
        ({}, {"price": None}, "`price`"),
        ({}, {"overhead_tokens": None}, "`tokenCount.overheadTokens`"),
        ({"unpriceable": "`audio`: audio output has no price"}, {}, "`audio`"),
    ],
)
@pytest.mark.parametrize("limited", [{"cap": "1"}, {"budgeted": True}], ids=str)
def test_where_money_is_limited_what_has_no_price_is_out(
    asked: dict[str, Any], of_model: dict[str, Any], words: str, limited: dict[str, Any]
) -> None:
    candidate = only(asked, of_model, **limited)
    assert candidate.elimination == Elimination.UNPRICEABLE
    assert words in candidate.detail


def test_what_no_budget_can_reserve_is_out_where_one_is_enforced() -> None:
    """A million tokens at 999,999,999 dollars each million are more than 2^50 nano-dollars."""
    asked, dear = {"input_bytes": 10**6}, {"price": price("999999999", "0")}
    candidate = only(asked, dear, budgeted=True)
    assert candidate.elimination == Elimination.UNPRICEABLE
    assert "more than 1125899.906842624 USD, which no budget can reserve" in candidate.detail
    assert only(asked, dear).elimination is None


# 990 bytes and 10 tokens of overhead at 1 dollar per million: 0.001 dollars for the input, 0.000002 for an output token.
COSTED = {"input_bytes": 990}


@pytest.mark.parametrize(
    ("cap", "limit", "uncapped"),
    [("0.002", 500, None), ("0.001999", 499, 500), ("0.001010", 5, 500), ("0.001002", 1, 500)],
)
def test_a_cap_lowers_the_limit_just_as_far_as_needed(cap: str, limit: int, uncapped: int | None) -> None:
    candidate = only(COSTED, {}, cap=cap)
    assert (candidate.output_limit, candidate.uncapped_output_limit) == (limit, uncapped)
    assert candidate.elimination is None


def test_a_cap_below_the_input_s_worst_case_takes_the_model_out_and_names_what_it_takes() -> None:
    candidate = only(COSTED, {"min_output_tokens": 16}, cap="0.000999")
    assert candidate.elimination == Elimination.OVER_PER_REQUEST_CAP
    assert candidate.worst_case == 1_000_000 + 16 * 2000
    assert "cap 0.000999 USD" in candidate.detail
    assert "0.001032 USD needed" in candidate.detail


@pytest.mark.parametrize("cap", ["0.001", "0.001001", "0.001031"])
def test_a_clamp_below_the_least_useful_answer_takes_the_model_out(cap: str) -> None:
    candidate = only(COSTED, {"min_output_tokens": 16}, cap=cap)
    assert candidate.elimination == Elimination.CLAMP_TOO_SMALL
    assert candidate.worst_case == 1_000_000 + 16 * 2000


def test_a_short_answer_that_the_client_asked_for_is_not_called_clamped() -> None:
    candidate = only({**COSTED, "output_limit": 5}, {"min_output_tokens": 16}, cap="0.00101")
    assert candidate.elimination is None
    assert candidate.output_limit == 5
    shorter = only({**COSTED, "output_limit": 5}, {"min_output_tokens": 16}, cap="0.001008")
    assert (shorter.elimination, shorter.worst_case) == (Elimination.CLAMP_TOO_SMALL, 1_000_000 + 5 * 2000)


def test_a_price_of_zero_is_a_price() -> None:
    candidate = only(COSTED, {"price": price("0", "0")}, cap="0")
    assert candidate.elimination is None
    assert candidate.worst_case == 0
    assert candidate.output_limit == 500


def test_several_answers_share_the_cap() -> None:
    assert only({**COSTED, "choices": 3}, {}, cap="0.0013").output_limit == 50

"""Costs in whole nano-dollars, exact, and rounded up once."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.decisions import model, price, request, snapshot

from foresail_api.snapshot import SnapshotPrice, SnapshotTokenizer
from foresail_router.decision.counts import CountedTexts, InputBound
from foresail_router.decision.price import (
    CostReference,
    bound_input,
    clamp_output_limit,
    cost_nano,
    dollars,
    worst_case,
)

TOKENS = st.integers(0, 10**9)
MICRO_DOLLARS = st.integers(0, 10**9)
PRICES = st.builds(
    lambda input_, output, request: SnapshotPrice(
        input_micro_dollars=input_, output_micro_dollars=output, request_micro_dollars=request
    ),
    MICRO_DOLLARS,
    MICRO_DOLLARS,
    st.integers(0, 10**6),
)


def test_cost_of_a_known_request() -> None:
    # 1,000 tokens at 0.25 and 200 at 2 dollars per million, and half a cent: 0.00025 + 0.0004 + 0.005 dollars.
    assert cost_nano(price("0.25", "2", "0.005"), 1000, 200) == 250_000 + 400_000 + 5_000_000


def test_cost_is_rounded_up_once() -> None:
    assert cost_nano(price("0.000001", "0.000001"), 1, 0) == 1
    assert cost_nano(price("0.0006", "0.0004"), 1, 1) == 1
    assert cost_nano(price("0.0006", "0.0005"), 1, 1) == 2


@given(PRICES, TOKENS, TOKENS)
def test_cost_is_the_exact_amount_rounded_up(one: SnapshotPrice, input_tokens: int, output_tokens: int) -> None:
    micro_dollars_per_million = input_tokens * one.input_micro_dollars + output_tokens * one.output_micro_dollars
    exact = Fraction(micro_dollars_per_million, 10**6) * 1000 + one.request_micro_dollars * 1000
    assert cost_nano(one, input_tokens, output_tokens) == min(ceil(exact), 2**53 - 1)


@given(PRICES, st.integers(0, 10**6), st.integers(1, 128), st.integers(1, 10**6), st.integers(0, 10**12))
def test_the_clamp_is_the_largest_limit_that_fits(
    one: SnapshotPrice, tokens: int, choices: int, limit: int, cap: int
) -> None:
    bound = InputBound(tokens)
    clamped = clamp_output_limit(one, bound, choices, limit, cap)
    if clamped is None:
        assert worst_case(one, bound, choices, 0) > cap
        return
    assert worst_case(one, bound, choices, clamped) <= cap
    assert clamped == limit or worst_case(one, bound, choices, clamped + 1) > cap


def test_the_bound_needs_a_declared_overhead() -> None:
    asked = request(input_bytes=100)
    assert bound_input(model("m", max_tokens_per_byte=2, overhead_tokens=7), asked) == InputBound(207)
    assert bound_input(model("m", overhead_tokens=None), asked) is None


def test_a_tokenizer_bounds_the_texts_and_bytes_the_rest() -> None:
    tokenizer = SnapshotTokenizer(claim=None, path="/t.json", digest="sha256:t")
    counted = CountedTexts(80, {"sha256:t": 21})
    declared = model("m", max_tokens_per_byte=2, overhead_tokens=7, tokenizer=tokenizer)
    assert bound_input(declared, request(input_bytes=100, counted=counted)) == InputBound(21 + 20 * 2 + 7)
    # Its own tokenizer only, and not more of the texts than the prompt has.
    assert bound_input(declared, request(input_bytes=100)) == InputBound(207)
    assert bound_input(declared, request(input_bytes=100, counted=CountedTexts(80, {}))) == InputBound(207)
    assert bound_input(declared, request(input_bytes=70, counted=counted)) == InputBound(21 + 7)
    other = model("m", max_tokens_per_byte=2, overhead_tokens=7)
    assert bound_input(other, request(input_bytes=100, counted=counted)) == InputBound(207)


@pytest.mark.parametrize(
    ("nano_dollars", "text"),
    [(0, "0"), (1, "0.000000001"), (1_500_000_000, "1.5"), (10_000_000_000, "10"), (123_000, "0.000123")],
)
def test_dollars(nano_dollars: int, text: str) -> None:
    assert dollars(nano_dollars) == text


def test_the_cost_reference_follows_present_prices() -> None:
    reference = CostReference("best", 100.2, 50.0)
    assert reference.nano_dollars(snapshot(model("best", price=price("1", "2")))) == 101_000 + 100_000
    assert reference.nano_dollars(snapshot(model("best", price=price("10", "20")))) == 1_010_000 + 1_000_000
    assert reference.nano_dollars(snapshot(model("best", price=None))) is None
    assert reference.nano_dollars(snapshot(model("other"))) is None

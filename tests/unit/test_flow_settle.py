"""What an attempt is settled at: the upstream's report, what came of the answer, or the worst case, and never nothing for want of a report."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.sidecar import model_of, upstream_of

from foresail_api.pool import Capability
from foresail_api.reasons import SettlementBasis
from foresail_api.snapshot import SnapshotModel, SnapshotPrice, SnapshotTier, SnapshotTokenPrices
from foresail_router.decision.counts import InputBound, TokenCounts
from foresail_router.decision.price import cost_nano, worst_case
from foresail_router.decision.types import Candidate
from foresail_sidecar.flow.attempts import AttemptLog, EndedAttempt, Used
from foresail_sidecar.flow.outcomes import NOTHING_GENERATED, AttemptOutcome
from foresail_sidecar.flow.settle import Settlement, settle, total_cost

MODEL = model_of("small", upstream_of("http://upstream/v1"), dollars_in=3, dollars_out=7)
UNPRICED = model_of("small", upstream_of("http://upstream/v1"), price=None)
UNKNOWN_END = sorted(set(AttemptOutcome) - NOTHING_GENERATED - {AttemptOutcome.ANSWERED})


def candidate(bound: int | None = 40, limit: int = 100, choices: int = 1, model: SnapshotModel = MODEL) -> Candidate:
    most = None if bound is None else InputBound(bound)
    worst = None if most is None or model.price is None else worst_case(model.price, most, choices, limit)
    return Candidate("small", None, "", limit, 10, most, worst)


def billed(input_tokens: int, output_tokens: int) -> TokenCounts:
    return TokenCounts(plain=input_tokens, output_tokens=output_tokens)


def ended(outcome: AttemptOutcome, used: Used | None = None) -> EndedAttempt:
    log = AttemptLog("request")
    return log.attempt_ended(log.attempt_started("small", "first"), outcome, used)


@pytest.mark.parametrize("outcome", list(AttemptOutcome))
def test_a_report_is_settled_as_it_is_however_the_attempt_ended(outcome: AttemptOutcome) -> None:
    settled = settle(ended(outcome, Used(billed(30, 20), 999, True)), MODEL, candidate(), 1)
    assert settled == Settlement(SettlementBasis.REPORTED, billed(30, 20), 30 * 3000 + 20 * 7000)


@pytest.mark.parametrize("outcome", sorted(NOTHING_GENERATED))
def test_an_attempt_that_generated_nothing_costs_nothing(outcome: AttemptOutcome) -> None:
    assert settle(ended(outcome), MODEL, candidate(), 1) is None


@pytest.mark.parametrize("outcome", UNKNOWN_END)
def test_an_end_that_nobody_knows_is_settled_at_the_worst_case(outcome: AttemptOutcome) -> None:
    settled = settle(ended(outcome), MODEL, candidate(choices=2), 2)
    assert settled == Settlement(SettlementBasis.ASSUMED, billed(40, 200), candidate(choices=2).worst_case)


@pytest.mark.parametrize("outcome", [*UNKNOWN_END, AttemptOutcome.ANSWERED])
def test_a_stream_without_a_report_is_counted_from_what_came(outcome: AttemptOutcome) -> None:
    settled = settle(ended(outcome, Used(generated_bytes=25, streamed=True)), MODEL, candidate(), 1)
    assert settled == Settlement(SettlementBasis.COUNTED, billed(40, 25), 40 * 3000 + 25 * 7000)


def test_an_answer_without_a_report_is_counted_and_never_free() -> None:
    settled = settle(ended(AttemptOutcome.ANSWERED), MODEL, candidate(), 1)
    assert settled is not None
    assert settled.basis == SettlementBasis.COUNTED
    assert settled.cost == 40 * 3000 + 7000


def test_a_model_that_may_think_in_silence_is_settled_at_the_worst_case() -> None:
    thinker = MODEL.model_copy(update={"capabilities": frozenset({Capability.REASONING})})
    settled = settle(ended(AttemptOutcome.BROKE, Used(generated_bytes=25, streamed=True)), thinker, candidate(), 1)
    assert settled == Settlement(SettlementBasis.ASSUMED, billed(40, 100), candidate().worst_case)


def test_without_a_bound_the_estimate_stands_for_the_input() -> None:
    settled = settle(ended(AttemptOutcome.TIMED_OUT), MODEL, candidate(bound=None), 1)
    assert settled == Settlement(SettlementBasis.ASSUMED, billed(10, 100), 10 * 3000 + 100 * 7000)


def test_tokens_that_are_smaller_than_a_byte_are_counted_as_the_pool_says() -> None:
    model = MODEL.model_copy(update={"max_tokens_per_byte": 3})
    settled = settle(ended(AttemptOutcome.BROKE, Used(generated_bytes=5, streamed=True)), model, candidate(), 1)
    assert settled is not None
    assert settled.output_tokens == 15


@pytest.mark.parametrize(
    ("input_tokens", "output_tokens", "exceeds"), [(40, 100, False), (41, 1, True), (1, 101, True)]
)
def test_a_report_above_the_bound_is_settled_as_reported_and_said(
    input_tokens: int, output_tokens: int, exceeds: bool
) -> None:
    settled = settle(ended(AttemptOutcome.ANSWERED, Used(billed(input_tokens, output_tokens))), MODEL, candidate(), 1)
    assert settled is not None
    assert settled.exceeds_bound is exceeds
    assert settled.cost == input_tokens * 3000 + output_tokens * 7000


def test_a_model_without_a_price_has_tokens_but_no_cost() -> None:
    settled = settle(ended(AttemptOutcome.ANSWERED, Used(billed(30, 20))), UNPRICED, candidate(model=UNPRICED), 1)
    assert settled == Settlement(SettlementBasis.REPORTED, billed(30, 20), None)
    assert total_cost([settled]) is None
    assert total_cost([]) is None


TIERED = SnapshotPrice(
    input_micro_dollars=2_500_000,
    output_micro_dollars=10_000_000,
    request_micro_dollars=0,
    cached_input_micro_dollars=1_250_000,
    cache_write_short_micro_dollars=3_125_000,
    tiers=(
        SnapshotTier(
            above_input_tokens=1000,
            prices=SnapshotTokenPrices(
                input=5_000_000,
                output=15_000_000,
                cached_input=5_000_000,
                cache_write_short=6_250_000,
                cache_write_long=6_250_000,
                image=5_000_000,
                audio=5_000_000,
            ),
        ),
    ),
)


@pytest.mark.parametrize(
    ("used", "basis", "cost"),
    [
        (
            Used(TokenCounts(plain=300, cached=400, written_short=200, output_tokens=150)),
            SettlementBasis.REPORTED,
            3_375_000,
        ),
        (Used(TokenCounts()), SettlementBasis.REPORTED, 0),
        (Used(generated_bytes=90, streamed=True), SettlementBasis.COUNTED, 7_625_000),
        (Used(), SettlementBasis.ASSUMED, 9_275_000),
    ],
)
def test_the_documented_example_of_settlements(used: Used, basis: SettlementBasis, cost: int) -> None:
    model = MODEL.model_copy(update={"price": TIERED})
    attempt = ended(AttemptOutcome.ANSWERED if used.usage else AttemptOutcome.BROKE, used)
    settled = settle(attempt, model, candidate(1004, 100, 2, model), 2)
    assert settled is not None
    assert (settled.basis, settled.cost, settled.exceeds_bound) == (basis, cost, False)


def test_a_bill_above_the_worst_case_is_said_even_if_its_tokens_are_not_more() -> None:
    """Images that nobody sent, at a price above that of text."""
    price = SnapshotPrice(
        input_micro_dollars=10**6,
        output_micro_dollars=10**6,
        request_micro_dollars=0,
        image_micro_dollars=9_000_000,
    )
    model = MODEL.model_copy(update={"price": price})
    report = Used(TokenCounts(image=40, output_tokens=100))
    settled = settle(ended(AttemptOutcome.ANSWERED, report), model, candidate(model=model), 1)
    assert settled is not None
    assert settled.exceeds_bound


def test_media_count_in_what_is_assumed() -> None:
    price = SnapshotPrice(
        input_micro_dollars=10**6, output_micro_dollars=0, request_micro_dollars=0, image_micro_dollars=2 * 10**6
    )
    model = MODEL.model_copy(update={"price": price})
    most = InputBound(40, image=1000)
    chosen = Candidate("small", None, "", 100, 10, most, worst_case(price, most, 1, 100))
    settled = settle(ended(AttemptOutcome.TIMED_OUT), model, chosen, 1)
    assert settled is not None
    assert (settled.input_tokens, settled.cost) == (1040, 40 * 1000 + 1000 * 2000)


def test_an_attempt_ends_once() -> None:
    log = AttemptLog("request")
    attempt = log.attempt_started("small", "first")
    first = log.attempt_ended(attempt, AttemptOutcome.ANSWERED, Used(billed(1, 1)))
    assert log.attempt_ended(attempt, AttemptOutcome.BROKE) == first
    assert log.ended == [first]
    assert (attempt.id, log.attempt_started("small", "first").id) == ("request-1", "request-2")


@settings(deadline=None)
@given(
    outcome=st.sampled_from(list(AttemptOutcome)),
    generated=st.integers(0, 10**6),
    streamed=st.booleans(),
    bound=st.integers(0, 10**6),
    limit=st.integers(1, 10**5),
    choices=st.integers(1, 8),
)
def test_what_is_not_reported_never_exceeds_the_worst_case(
    outcome: AttemptOutcome, generated: int, streamed: bool, bound: int, limit: int, choices: int
) -> None:
    chosen = candidate(bound, limit, choices)
    settled = settle(ended(outcome, Used(None, generated, streamed)), MODEL, chosen, choices)
    if settled is not None:
        assert settled.cost is not None
        assert chosen.worst_case is not None
        assert 0 < settled.cost <= chosen.worst_case
        assert MODEL.price is not None
        assert settled.cost == cost_nano(MODEL.price, settled.input_tokens, settled.output_tokens)

"""Caches, media and tiers: no bill within the bounds exceeds the worst case, and a clamp takes away no token that fits."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.support.decisions import candidates_of, decision_of, model, request, snapshot

from foresail_api.common import micro_dollars
from foresail_api.policy import Strategy
from foresail_api.reasons import Elimination
from foresail_api.snapshot import SnapshotPrice, SnapshotTier, SnapshotTokenPrices
from foresail_router.decision.counts import InputBound, TokenCounts
from foresail_router.decision.price import MOST_NANO, bound_input, clamp_output_limit, cost_of, worst_case
from foresail_router.decision.types import RefusalKind

MICRO_DOLLARS = st.integers(0, 10**8)
OPTIONAL = st.none() | MICRO_DOLLARS
TABLES = st.builds(SnapshotTokenPrices, **dict.fromkeys(SnapshotTokenPrices.model_fields, MICRO_DOLLARS))
TIERS = st.dictionaries(st.integers(1, 3000), TABLES, max_size=4).map(
    lambda tables: tuple(SnapshotTier(above_input_tokens=above, prices=tables[above]) for above in sorted(tables))
)
PRICES = st.builds(
    SnapshotPrice,
    input_micro_dollars=MICRO_DOLLARS,
    output_micro_dollars=MICRO_DOLLARS,
    request_micro_dollars=st.integers(0, 10**6),
    cached_input_micro_dollars=OPTIONAL,
    cache_write_short_micro_dollars=OPTIONAL,
    cache_write_long_micro_dollars=OPTIONAL,
    image_micro_dollars=OPTIONAL,
    audio_micro_dollars=OPTIONAL,
    tiers=TIERS,
)
BOUNDS = st.builds(InputBound, text=st.integers(0, 3000), image=st.integers(0, 2000), audio=st.integers(0, 2000))
CHOICES = st.integers(1, 8)


@st.composite
def counts_within(draw: st.DrawFn, bound: InputBound, most_output: int) -> TokenCounts:
    """What an honest upstream can bill: media at most as bounded, all together at most the sum, of any kind of text."""
    image = draw(st.integers(0, bound.image))
    audio = draw(st.integers(0, bound.audio))
    left = draw(st.integers(0, bound.total - image - audio))
    cuts = sorted(draw(st.lists(st.integers(0, left), min_size=4, max_size=4)))
    plain, cached, written, short, long = (b - a for a, b in zip([0, *cuts], [*cuts, left], strict=True))
    return TokenCounts(plain, cached, written, short, long, image, audio, draw(st.integers(0, most_output)))


@settings(deadline=None)
@given(PRICES, BOUNDS, CHOICES, st.integers(0, 3000), st.data())
def test_no_bill_within_the_bounds_exceeds_the_worst_case(
    price: SnapshotPrice, bound: InputBound, choices: int, limit: int, data: st.DataObject
) -> None:
    counts = data.draw(counts_within(bound, choices * limit))
    assert cost_of(price, counts) <= worst_case(price, bound, choices, limit)


@settings(deadline=None)
@given(PRICES, BOUNDS, CHOICES, st.integers(0, 3000), st.integers(0, 10**9))
def test_the_clamp_is_the_largest_limit_that_fits_in_every_tier(
    price: SnapshotPrice, bound: InputBound, choices: int, limit: int, cap: int
) -> None:
    clamped = clamp_output_limit(price, bound, choices, limit, cap)
    if clamped is None:
        assert worst_case(price, bound, choices, 0) > cap
        return
    assert worst_case(price, bound, choices, clamped) <= cap
    assert clamped == limit or worst_case(price, bound, choices, clamped + 1) > cap


@settings(deadline=None)
@given(PRICES, BOUNDS, CHOICES, st.integers(0, 3000), st.integers(1, 3000))
def test_a_limit_just_at_its_worst_case_is_not_clamped(
    price: SnapshotPrice, bound: InputBound, choices: int, limit: int, more: int
) -> None:
    cap = worst_case(price, bound, choices, limit)
    clamped = clamp_output_limit(price, bound, choices, limit + more, cap)
    assert clamped is not None
    assert clamped >= limit


@settings(deadline=None)
@given(PRICES, BOUNDS, CHOICES, st.integers(0, 3000))
def test_the_worst_case_can_happen(price: SnapshotPrice, bound: InputBound, choices: int, limit: int) -> None:
    """The bound is not looser than it must be: in some tier, some division of the input into kinds costs just that."""
    dearest = 0
    for index, (_, prices) in enumerate(price.tables):
        above = price.tables[index + 1][0] if index + 1 < len(price.tables) else bound.total
        tokens = min(above, bound.total)
        if index and price.tables[index][0] >= bound.total:
            break
        text = {
            "plain": prices.input,
            "cached": prices.cached_input,
            "written_short": prices.cache_write_short,
            "written_long": prices.cache_write_long,
        }
        best_text = max(text, key=lambda kind: text[kind])
        counts = {"image": 0, "audio": 0, best_text: 0}
        media = [("image", prices.image, bound.image), ("audio", prices.audio, bound.audio)]
        for kind, rate, most in sorted(media, key=lambda one: -one[1]):
            taken = min(tokens, most) if rate > text[best_text] else 0
            counts[kind] += taken
            tokens -= taken
        counts[best_text] += tokens
        dearest = max(dearest, cost_of(price, TokenCounts(**counts, output_tokens=choices * limit)))
    assume(dearest < MOST_NANO)
    assert dearest == worst_case(price, bound, choices, limit)


@settings(deadline=None)
@given(PRICES, st.builds(TokenCounts, *[st.integers(0, 2000)] * 8))
def test_a_cost_is_exact_and_rounded_up_once(price: SnapshotPrice, counts: TokenCounts) -> None:
    prices = next(table for above, table in reversed(price.tables) if counts.input_tokens > above or above == 0)
    micro_dollars_per_million = (
        counts.plain * prices.input
        + counts.cached * prices.cached_input
        + counts.written * max(prices.cache_write_short, prices.cache_write_long)
        + counts.written_short * prices.cache_write_short
        + counts.written_long * prices.cache_write_long
        + counts.image * prices.image
        + counts.audio * prices.audio
        + counts.output_tokens * prices.output
    )
    exact = Fraction(micro_dollars_per_million, 1000) + price.request_micro_dollars * 1000
    assert cost_of(price, counts) == ceil(exact)


def test_a_settlement_ends_where_whole_numbers_of_53_bits_do() -> None:
    dear = SnapshotPrice(input_micro_dollars=10**15, output_micro_dollars=0, request_micro_dollars=0)
    assert cost_of(dear, TokenCounts(plain=10**9)) == MOST_NANO == 2**53 - 1


EXAMPLE = SnapshotPrice(
    input_micro_dollars=micro_dollars("2.50"),
    output_micro_dollars=micro_dollars("10"),
    request_micro_dollars=0,
    cached_input_micro_dollars=micro_dollars("1.25"),
    cache_write_short_micro_dollars=micro_dollars("3.125"),
    tiers=(
        SnapshotTier(
            above_input_tokens=1000,
            prices=SnapshotTokenPrices(
                input=micro_dollars("5"),
                output=micro_dollars("15"),
                cached_input=micro_dollars("5"),
                cache_write_short=micro_dollars("6.25"),
                cache_write_long=micro_dollars("6.25"),
                image=micro_dollars("5"),
                audio=micro_dollars("5"),
            ),
        ),
    ),
)


def test_a_known_request_with_a_cache_and_a_tier() -> None:
    assert worst_case(EXAMPLE, InputBound(1000), 2, 100) == 1000 * 3125 + 200 * 10_000
    assert worst_case(EXAMPLE, InputBound(1004), 2, 100) == 1004 * 6250 + 200 * 15_000 == 9_275_000
    reported = TokenCounts(plain=300, cached=400, written_short=200, output_tokens=150)
    assert cost_of(EXAMPLE, reported) == 3_375_000


def test_a_cheaper_tier_does_not_hide_the_dearer_one_below_it() -> None:
    cheaper = EXAMPLE.tables[1][1].model_copy(update=dict.fromkeys(SnapshotTokenPrices.model_fields, 1))
    price = SnapshotPrice(
        input_micro_dollars=10**6,
        output_micro_dollars=10**6,
        request_micro_dollars=0,
        tiers=(SnapshotTier(above_input_tokens=100, prices=cheaper),),
    )
    assert worst_case(price, InputBound(10_000), 1, 50) == 100 * 1000 + 50 * 1000


MEDIA = {"max_tokens_per_image": 1000, "max_tokens_per_audio": 5000}


def test_media_are_bounded_by_what_the_pool_declares() -> None:
    asked = request(input_bytes=100, images=2, audio_parts=1)
    assert bound_input(model("m", overhead_tokens=7, **MEDIA), asked) == InputBound(107, 2000, 5000)
    assert bound_input(model("m", max_tokens_per_image=1000), asked) is None
    assert bound_input(model("m", max_tokens_per_audio=5000), asked) is None
    assert bound_input(model("m"), request(input_bytes=100)) == InputBound(110)


@pytest.mark.parametrize(
    ("asked", "name"), [({"images": 1}, "maxTokensPerImage"), ({"audio_parts": 1}, "maxTokensPerAudio")]
)
def test_media_without_a_declared_maximum_are_out_under_a_cap(asked: dict[str, int], name: str) -> None:
    with_media = request(**asked)
    (candidate,) = candidates_of(with_media, snapshot(model("m"), cap="1"))
    assert candidate.elimination == Elimination.UNPRICEABLE
    assert f"`tokenCount.{name}` is not set" in candidate.detail
    (candidate,) = candidates_of(with_media, snapshot(model("m", **MEDIA), cap="1"))
    assert candidate.elimination is None
    (candidate,) = candidates_of(with_media, snapshot(model("m")))
    assert candidate.elimination is None


def test_media_count_in_cost_and_context_at_their_maximum() -> None:
    price = SnapshotPrice(
        input_micro_dollars=10**6, output_micro_dollars=0, request_micro_dollars=0, image_micro_dollars=3 * 10**6
    )
    served = snapshot(model("m", price=price, context_window_tokens=2000, **MEDIA), strategy=Strategy.CHEAPEST)
    asked = request(input_bytes=400, images=1)
    decision = decision_of(asked, served, input_tokens=100)
    assert decision.chosen is not None
    assert (decision.chosen.input_tokens, decision.chosen.input_tokens_bound) == (1100, 1410)
    assert decision.chosen.cost == 100 * 1000 + 1000 * 3000
    assert decision.chosen.worst_case == 410 * 1000 + 1000 * 3000
    (candidate,) = candidates_of(request(images=2), served)
    assert candidate.elimination == Elimination.CONTEXT_TOO_SMALL


@pytest.mark.parametrize(
    ("thinking", "wanted", "cap", "elimination"),
    [
        # 0.001 dollars for the input, 0.000002 for an output token.
        (50, 500, "0.001102", None),
        (51, 500, "0.001102", Elimination.CLAMP_TOO_SMALL),
        (None, 500, "0.001102", None),
        # What the client itself cut short is not called clamped.
        (600, 500, "0.002", None),
    ],
)
def test_a_clamp_that_leaves_nothing_beside_thinking_is_too_small(
    thinking: int | None, wanted: int, cap: str, elimination: Elimination | None
) -> None:
    asked = request(input_bytes=990, output_limit=wanted, thinking_tokens=thinking)
    (candidate,) = candidates_of(asked, snapshot(model("m"), cap=cap))
    assert candidate.elimination == elimination
    if elimination is not None:
        assert candidate.detail.startswith(f"the cap leaves 51 output tokens, fewer than {(thinking or 0) + 1}")


@pytest.mark.parametrize("cap", [None, "1"])
@pytest.mark.parametrize(
    ("thinking", "named", "words"),
    [
        (499, None, None),
        (500, None, "its `defaultMaxOutputTokens` leaves 500 output tokens, fewer than 501"),
        (1000, 5000, "its `maxOutputTokens` leaves 1000 output tokens, fewer than 1001"),
        (999, 5000, None),
        # Foresail lowers nothing here, so the upstream says what it makes of it.
        (600, 500, None),
    ],
)
def test_the_pool_s_own_limit_must_leave_something_beside_thinking(
    thinking: int, named: int | None, words: str | None, cap: str | None
) -> None:
    asked = request(output_limit=named, thinking_tokens=thinking)
    served = snapshot(model("m"), strategy=Strategy.CHEAPEST, cap=cap)
    (candidate,) = candidates_of(asked, served)
    assert candidate.elimination == (None if words is None else Elimination.CLAMP_TOO_SMALL)
    if words is not None:
        refusal = decision_of(asked, served).refusal
        assert refusal is not None
        assert refusal.kind == RefusalKind.NO_ELIGIBLE_MODEL
        assert words in refusal.message
        assert refusal.message.endswith("name another `max_tokens` or a smaller budget for reasoning.")

"""What the documentation says about decisions and cost limits is what happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.decisions import candidates_of, model, price, request, snapshot

from foresail_api.budgets import CalendarUnit
from foresail_api.reasons import Basis, Elimination
from foresail_api.snapshot import SnapshotObjective, SnapshotPrice, SnapshotTier, SnapshotTokenPrices
from foresail_api.snapshot_budgets import SnapshotBudget
from foresail_router.decision.counts import InputBound, TokenCounts
from foresail_router.decision.eliminate import capped
from foresail_router.decision.objective import cost_weight, pressed
from foresail_router.decision.price import bound_input, cost_of, dollars, worst_case
from foresail_sidecar.flow.budgets import PolicyBudget
from foresail_sidecar.protocols.openai import parse_request

CONCEPTS = Path(__file__).resolve().parents[2] / "docs" / "concepts"
HEAT_PUMP = b'{"model":"auto","messages":[{"role":"user","content":"Explain how a heat pump works."}]}'
EXAMPLE = model(
    "example",
    price=price("0.25", "2"),
    overhead_tokens=64,
    max_output_tokens=4096,
    default_max_output_tokens=4096,
    min_output_tokens=16,
)


@pytest.mark.parametrize("word", [*Elimination, *Basis])
def test_every_word_has_its_row(word: str) -> None:
    assert f"| `{word}` |" in (CONCEPTS / "decisions.md").read_text()


def test_the_example_of_a_clamp_is_right() -> None:
    asked = parse_request(HEAT_PUMP).neutral
    (candidate,) = candidates_of(asked, snapshot(EXAMPLE, cap="0.001"))
    assert candidate.worst_case is not None
    told = (CONCEPTS / "cost-limits.md").read_text()
    for figure in (
        f": {asked.input_bytes} |",
        f"= {candidate.input_tokens_bound} tokens",
        f"= {candidate.output_limit} tokens",
        f"= {dollars(candidate.worst_case)} USD",
    ):
        assert figure in told


@pytest.mark.parametrize(
    ("cap", "reason"), [("0.00003", Elimination.OVER_PER_REQUEST_CAP), ("0.00006", Elimination.CLAMP_TOO_SMALL)]
)
def test_the_examples_of_an_elimination_are_right(cap: str, reason: Elimination) -> None:
    (candidate,) = candidates_of(parse_request(HEAT_PUMP).neutral, snapshot(EXAMPLE, cap=cap))
    assert candidate.elimination == reason


def tiered_price() -> SnapshotPrice:
    """The price of the second example."""
    upper = dict.fromkeys(SnapshotTokenPrices.model_fields, 5_000_000)
    upper |= {"output": 15_000_000, "cache_write_short": 6_250_000, "cache_write_long": 6_250_000}
    tier = SnapshotTier(above_input_tokens=1000, prices=SnapshotTokenPrices(**upper))
    cached = {"cached_input_micro_dollars": 1_250_000, "cache_write_short_micro_dollars": 3_125_000}
    return SnapshotPrice(**{**price("2.50", "10").model_dump(), **cached, "tiers": (tier,)})


def test_the_example_of_a_cache_and_a_tier_is_right() -> None:
    tiered = tiered_price()
    bound = bound_input(model("m", overhead_tokens=64), request(input_bytes=940))
    assert bound is not None
    reported = TokenCounts(plain=300, cached=400, written_short=200, output_tokens=150)
    told = (CONCEPTS / "cost-limits.md").read_text()
    for figure in (
        f"{bound.total:,} tokens",
        f"| {worst_case(tiered, InputBound(1000), 2, 100):,} |",
        f"| **{worst_case(tiered, bound, 2, 100):,}** |",
        f"| {cost_of(tiered, reported):,} |",
        f"| {worst_case(tiered, bound, 1, 90):,} |",
        f"| {worst_case(tiered, bound, 2, 100):,} |",
    ):
        assert figure in told


def test_the_example_of_several_attempts_is_right() -> None:
    told = (CONCEPTS / "cost-limits.md").read_text()
    example = model(
        "m",
        overhead_tokens=64,
        max_output_tokens=100,
        default_max_output_tokens=100,
        min_output_tokens=1,
    ).model_copy(update={"price": tiered_price()})
    cap = 15_000_000
    asked = request(input_bytes=940, choices=2)
    (first,) = candidates_of(asked, snapshot(example, cap="0.015"))
    assert first.worst_case is not None
    left = cap - first.worst_case
    assert f"| `Assumed`: {first.worst_case:,} | {left:,} |" in told
    again = capped(asked, example, first, left)
    assert again.elimination == Elimination.OVER_PER_REQUEST_CAP
    assert first.input_bound is not None
    assert f"its input alone can cost {worst_case(tiered_price(), first.input_bound, 2, 0):,} |" in told
    tenth = first.worst_case // 10
    assert f"| at most {tenth:,} | at least {left - tenth:,} |" in told


def test_the_example_of_a_soft_threshold_is_right() -> None:
    told = (CONCEPTS / "budgets.md").read_text()
    month = SnapshotBudget(
        name="month",
        amount_nano_dollars=100,
        calendar=CalendarUnit.MONTH,
        rolling_seconds=None,
        soft_threshold_percent=80,
    )
    pressure = PolicyBudget.of(month).pressure_percent("", 90)
    objective = SnapshotObjective(kind="Tradeoff", percent=30)
    assert f"With a threshold of 80 and 90 spent of 100, the pressure is {pressure} %" in told
    weight = pressed(objective, pressure).percent
    assert f"`costWeightPercent: 30` decides as at {weight}" in told
    near = pressed(SnapshotObjective(kind="CheapestWithinPercentOfBest", percent=10), pressure).percent
    assert f"a `cheapestWithinPercentOfBest` of 10 as at {near}" in told


def test_the_example_of_a_limit_is_right() -> None:
    told = " ".join((CONCEPTS / "limits.md").read_text().split())
    limit, billed = 400_000, 2_300
    bound = bound_input(EXAMPLE, request(input_bytes=8_000))
    assert bound is not None
    most = bound.total + 2_000
    fit, left = divmod(limit, most)
    assert f"is bounded by {bound.total:,} tokens" in told
    assert f"it counts {most:,}, so {fit} such requests fit at once, which leaves {left:,}," in told
    assert f"was billed {billed:,}: {most - billed:,} tokens are free again" in told
    assert left < most <= left + most - billed


def test_the_cost_weights_that_the_documentation_names_are_right() -> None:
    assert [cost_weight(percent) for percent in (0, 20, 60, 100)] == pytest.approx([0, 0.01, 1, 100])

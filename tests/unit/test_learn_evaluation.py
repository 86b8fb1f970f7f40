"""Prices that costs imply, the trade-off, and a table whose figures can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.data.records import Prompt
from foresail_router.evaluation.costs import CostModel
from foresail_router.evaluation.prices import ImpliedPrice, implied_price
from foresail_router.evaluation.render import render_table, report_data
from foresail_router.evaluation.report import Report, evaluate, router_line
from foresail_router.evaluation.tradeoff import cost_weight, pick
from foresail_router.strategies.base import Predictions

SCORE = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
COST = np.array([[10.0, 1.0], [20.0, 2.0], [10.0, 1.0], [20.0, 2.0]])


def outcomes(score: np.ndarray = SCORE, cost: np.ndarray = COST) -> OutcomeMatrix:
    prompts = tuple(Prompt(str(number), f"prompt {number}") for number in range(len(score)))
    tokens = np.full_like(score, 50.0)
    return OutcomeMatrix(prompts, ("large", "small"), score, tokens, tokens, cost)


def predictions(quality: np.ndarray = SCORE) -> Predictions:
    same = np.full_like(quality, 50.0)
    return Predictions(quality, same, same, same - 10.5, same, same + 8, same + 10.5)


def report(**changes: object) -> Report:
    arguments = {
        "outcomes": outcomes(),
        "predictions": predictions(),
        "costs": CostModel(COST, 15.0),
        "reference": "large",
    }
    return evaluate(**(arguments | changes))  # type: ignore[arg-type]


def test_the_baselines_are_what_they_say() -> None:
    table = report()
    random, cheapest, best, oracle = (table.line(name) for name in ("random", "cheapest", "best single", "oracle"))
    assert random
    assert cheapest
    assert best
    assert oracle
    assert (random.quality, random.cost_usd) == (0.625, 8.25)
    assert (cheapest.detail, cheapest.quality, cheapest.cost_usd, cheapest.cost_ratio) == ("small", 0.5, 1.5, 0.1)
    assert (best.detail, best.quality, best.cost_usd, best.cost_ratio) == ("large", 0.75, 15.0, 1.0)
    # Among equally good answers the oracle takes the cheaper one.
    assert (oracle.quality, oracle.cost_usd, oracle.points, oracle.gap_closed) == (
        1.0,
        (10 + 20 + 1 + 2) / 4,
        25.0,
        1.0,
    )


def test_the_router_goes_from_the_best_to_the_cheapest_as_the_weight_rises() -> None:
    table = report(weights=(0, 60, 100))
    free, balanced, thrifty = (table.line(router_line(weight)) for weight in (0, 60, 100))
    assert free
    assert balanced
    assert thrifty
    # Equal estimates at weight 0 go to the first model, whatever it costs.
    assert (free.quality, free.cost_usd, free.points, free.gap_closed) == (1.0, 10.5, 25.0, 1.0)
    # lambda is 1 and the reference 15: the second prompt's better answer is dearer by 18 / 15 of its worth.
    assert (balanced.quality, balanced.cost_usd) == (0.75, (10 + 2 + 1 + 2) / 4)
    assert (thrifty.quality, thrifty.cost_usd) == (0.5, 1.5)


def test_without_costs_only_quality_is_compared() -> None:
    table = report(outcomes=outcomes(cost=np.full_like(COST, np.nan)), costs=None)
    assert [line.name for line in table.lines] == ["random", "best single", "router, cost weight 0", "oracle"]
    assert all(line.cost_usd is None and line.cost_ratio is None for line in table.lines)
    assert "Costs are left out" in render_table(table)


def test_costs_are_means_over_prompts_that_have_them_all() -> None:
    cost = COST.copy()
    cost[1, 0] = np.nan
    table = report(outcomes=outcomes(cost=cost))
    best = table.line("best single")
    assert best
    assert table.priced_prompts == 3
    assert best.cost_usd == pytest.approx(40 / 3)
    assert best.quality == 0.75
    assert "Costs are means over the 3 prompts" in render_table(table)


def test_the_best_single_model_of_training_is_shown_where_another_is_best() -> None:
    assert report().line("best single in training") is None
    line = report(reference="small").line("best single in training")
    assert line
    assert (line.detail, line.quality, line.points) == ("small", 0.5, -25.0)


def test_among_equally_good_models_the_cheaper_one_is_the_best_single() -> None:
    table = report(outcomes=outcomes(score=np.ones_like(SCORE)))
    best = table.line("best single")
    assert best
    assert best.detail == "small"


def test_errors_and_coverage_are_of_the_estimates() -> None:
    table = report(predictions=predictions(np.full_like(SCORE, 0.5)))
    assert table.quality_error == 0.25
    assert table.prior_error == pytest.approx((3 / 16 + 1 / 4) / 2)
    assert table.length_coverage == 1.0
    off = predictions()
    assert (
        report(
            predictions=Predictions(*([off.quality] * 3), off.output_tokens + 1, *([off.output_tokens + 2] * 3))
        ).length_coverage
        == 0.0
    )


def test_no_prompt_is_no_report() -> None:
    with pytest.raises(ValueError, match="no prompt"):
        evaluate(outcomes().rows(np.zeros(4, dtype=bool)), predictions(), None, reference="large")


def test_the_table_has_a_line_for_each_and_fits_a_terminal() -> None:
    text = render_table(report())
    for name in ("random", "cheapest", "best single", "router, cost weight 50", "oracle"):
        assert f"\n{name} " in text
    assert "1.0000" in text
    assert max(len(line) for line in text.splitlines()) <= 140
    assert "is not below the best single model: 0.700x (router, cost weight 0)" in render_table(
        report(weights=(0, 100))
    )
    assert "is not below" not in render_table(report(weights=(0,)))
    data = report_data(report())
    assert data["prompts"] == 4
    assert data["lines"][0]["name"] == "random"


@pytest.mark.parametrize(("percent", "expected"), [(0, 0.0), (20, 0.01), (40, 0.1), (60, 1.0), (100, 100.0)])
def test_the_cost_weight_is_the_data_planes(percent: int, expected: float) -> None:
    assert cost_weight(percent) == pytest.approx(expected)


def test_picking_breaks_ties_by_order_and_ignores_costs_at_weight_zero() -> None:
    quality = np.array([[0.5, 0.5 + 1e-13]])
    assert pick(quality, np.array([[np.nan, np.nan]]), percent=0, reference_usd=1.0).tolist() == [0]


def test_prices_are_found_in_costs() -> None:
    generator = np.random.default_rng(0)
    read, written = generator.integers(10, 500, 50).astype(float), generator.integers(1, 900, 50).astype(float)
    cost = ((read * 0.15 + written * 0.6) / 1e6).astype(np.float32).astype(float)
    assert implied_price(read, written, cost) == ImpliedPrice(0.15, 0.6)
    cost[:5] = np.nan
    assert implied_price(read, written, cost) == ImpliedPrice(0.15, 0.6)
    assert implied_price(read, written, written * 2e-6) == ImpliedPrice(0.0, 2.0)
    assert implied_price(read, written, read * 0.0) == ImpliedPrice(0.0, 0.0)


def test_costs_that_tokens_do_not_explain_imply_no_price() -> None:
    generator = np.random.default_rng(0)
    read, written = generator.random(50) * 100, generator.random(50) * 100
    assert implied_price(read, written, generator.random(50)) is None
    assert implied_price(read * np.nan, written, written) is None
    assert implied_price(read[:3], written[:3], written[:3]) is None

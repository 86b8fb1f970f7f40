"""Every definition of the benchmark on cases that can be worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foresail_router.data.splits import fold_of, normalised, split_of
from foresail_router.evaluation.metrics.calibration import brier, chosen_error, regret_when_abstaining, reliability
from foresail_router.evaluation.metrics.frontier import (
    mean_height,
    mixture_at_cost,
    mixture_at_quality,
    non_decreasing_hull,
    routerbench_aiq,
)
from foresail_router.evaluation.metrics.lengths import covered, marginal_quantile, pinball
from foresail_router.evaluation.metrics.resampling import Resamples, estimate, holm, mean_estimate, two_sided_p
from foresail_router.evaluation.metrics.scores import arena_score, strong_calls
from foresail_router.evaluation.metrics.singles import (
    best_single,
    gap_closed,
    known_label_choice,
    oracle,
    uniform_random,
)
from foresail_router.evaluation.metrics.utility import LAMBDAS, choose, realised

SCORE = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


def test_the_grid_is_zero_and_forty_steps_from_a_thousandth_to_a_hundred() -> None:
    assert len(LAMBDAS) == 41
    assert LAMBDAS[0] == 0
    assert LAMBDAS[[1, 40]] == pytest.approx([0.001, 100])
    assert np.diff(np.log(LAMBDAS[1:])) == pytest.approx(np.log(1e5) / 39)


def test_utility_weighs_cost_relative_to_the_reference() -> None:
    quality, cost = np.array([[0.9, 0.5]]), np.array([[2.0, 1.0]])
    # With c_ref = 4 the dearer model costs 0.25 more: it is worth that up to lambda = 0.4 / 0.25 = 1.6.
    chosen = choose(quality, cost, 4.0)[:, 0]
    np.testing.assert_array_equal(chosen, (LAMBDAS > 1.6).astype(int))
    assert choose(quality, None, 1.0).tolist() == [[0]]
    np.testing.assert_array_equal(realised(cost, chosen[:, None])[:, 0], np.where(LAMBDAS > 1.6, 1.0, 2.0))


def test_the_hull_is_concave_and_ends_at_the_highest_point() -> None:
    cost, quality = np.array([1.0, 2.0, 2.0, 3.0, 4.0, 5.0]), np.array([0.1, 0.2, 0.5, 0.6, 0.7, 0.4])
    # (2, 0.2) lies below (2, 0.5); (3, 0.6) lies on the line from (2, 0.5) to (4, 0.7); (5, 0.4) lies beyond the best.
    assert non_decreasing_hull(cost, quality).tolist() == [0, 2, 4]


def test_the_mean_height_is_an_area_over_a_range() -> None:
    cost, quality = np.array([3.0, 1.0]), np.array([0.8, 0.4])
    # Flat at 0.4 from 0 to 1, rising to 0.8 at 3, flat to 4.
    assert mean_height(cost, quality, 0.0, 4.0) == pytest.approx((0.4 + 1.2 + 0.8) / 4)
    assert mean_height(cost, quality, 2.0, 3.0) == pytest.approx(0.7)


def test_routerbench_divides_by_the_largest_cost_of_all_hulls_and_counts_nothing_below_the_first_point() -> None:
    long = (np.array([1.0, 2.0, 4.0]), np.array([0.2, 0.6, 0.8]))
    short = (np.array([1.0, 1.5, 2.0]), np.array([0.5, 0.3, 0.9]))
    # Areas: 0.4 + 1.4 of 4; and, without the point below the line, 0.7 + 2 x 0.9 of 4.
    assert routerbench_aiq([long, short]) == pytest.approx([1.8 / 4, 2.5 / 4])


def test_a_hull_of_routerbench_reaches_to_the_dearest_point_of_the_best_quality() -> None:
    # By hand: the line from (1, 0) to (3, 0.8) passes over (2, 0.3); (5, 0.8) belongs to the hull, (8, 0.7) does not.
    plateau = (np.array([5.0, 1.0, 8.0, 3.0, 2.0]), np.array([0.8, 0.0, 0.7, 0.8, 0.3]))
    # A curve that only falls is its cheapest point, drawn out to the largest cost, 5.
    falling = (np.array([2.0, 4.0]), np.array([0.6, 0.5]))
    assert routerbench_aiq([plateau, falling]) == pytest.approx([(0.8 + 2 * 0.8) / 5, 3 * 0.6 / 5])


def _routerbench_by_definition(curves: list[tuple[list[float], list[float]]]) -> list[float]:
    """The published definition word by word: at each point's cost the highest line between any two points, while that does not fall."""

    def hull(cost: list[float], quality: list[float]) -> list[tuple[float, float]]:
        points = sorted(zip(cost, quality, strict=True))
        heights = []
        for x, y in points:
            lines = [
                y1 + (y2 - y1) * (x - x1) / (x2 - x1)
                for (x1, y1), (x2, y2) in itertools.combinations(points, 2)
                if x1 < x < x2
            ]
            heights.append((x, max([y, *lines])))
        kept = heights[:1]
        for x, y in heights[1:]:
            if y < kept[-1][1] - 1e-12:
                break
            kept.append((x, y))
        return kept

    hulls = [hull(*curve) for curve in curves]
    largest = max(x for points in hulls for x, _ in points)
    areas = []
    for points in hulls:
        extended = [*points, (largest, points[-1][1])]
        areas.append(sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in itertools.pairwise(extended)))
    return [area / largest for area in areas]


@pytest.mark.parametrize("seed", range(20))
def test_aiq_of_routerbench_agrees_with_its_definition_on_any_curves(seed: int) -> None:
    random = np.random.default_rng(seed)
    # Few different qualities, so that several points are the best one.
    qualities, costs = np.linspace(0.0, 1.0, 5), np.arange(1.0, 41.0)
    curves = [(random.permutation(costs)[:count], random.choice(qualities, count)) for count in (3, 7, 12)]
    expected = _routerbench_by_definition([(cost.tolist(), quality.tolist()) for cost, quality in curves])
    assert routerbench_aiq(curves) == pytest.approx(expected)


def test_points_between_two_operating_points_are_mixtures() -> None:
    cost, quality = np.array([1.0, 3.0, 2.0]), np.array([0.2, 0.6, 0.3])
    half = mixture_at_cost(cost, quality, 2.0)
    assert (half.lower, half.upper, half.share) == (0, 1, 0.5)
    assert mixture_at_cost(cost, quality, 9.0).lower == 1
    assert mixture_at_cost(cost, quality, 0.5).lower == 0
    quarter = mixture_at_quality(cost, quality, 0.3)
    assert quarter
    assert (quarter.lower, quarter.upper, quarter.share) == (0, 1, pytest.approx(0.25))
    assert mixture_at_quality(cost, quality, 0.7) is None


def test_the_best_single_is_the_best_on_average_then_the_cheapest() -> None:
    assert best_single(SCORE) == 0
    assert best_single(np.array([[1.0, 1.0]]), np.array([[2.0, 1.0]])) == 1
    assert best_single(np.array([[0.5, np.nan], [0.5, 0.9]])) == 1


def test_gap_closed_is_zero_for_chance_and_one_for_the_oracle() -> None:
    random, ideal = uniform_random(SCORE).mean(), oracle(SCORE).mean()
    assert (random, ideal) == (0.625, 1.0)
    assert gap_closed(0.625, random, ideal) == 0
    assert gap_closed(0.75, random, ideal) == pytest.approx(1 / 3)
    assert gap_closed(1.0, random, ideal) == 1
    assert np.isnan(gap_closed(1.0, 1.0, 1.0))


def test_known_labels_are_learned_on_the_training_side() -> None:
    labels, training = ["x", "x", "y", "y"], np.array([True, False, False, True])
    assert known_label_choice(SCORE, labels, training).tolist() == [0, 0, 1, 1]
    # A label that training has not seen gets the best single model.
    assert known_label_choice(SCORE, ["x", "x", "x", "new"], np.array([True, True, True, False])).tolist() == [0] * 4


def test_the_arena_score_is_a_harmonic_mean_with_the_clipped_log_cost() -> None:
    assert arena_score(0.7, 0.001) == pytest.approx(1.1 * 0.7 / (0.07 + 1))
    assert arena_score(0.7, 500.0) == 0
    middle = np.sqrt(0.0044 * 200)
    assert arena_score(0.7, middle) == pytest.approx(1.1 * 0.7 * 0.5 / (0.07 + 0.5))


def test_apgr_integrates_the_gap_recovered_over_the_share_of_strong_calls() -> None:
    strong, weak = np.array([1.0, 1.0, 0.0, 1.0]), np.array([0.0, 0.0, 0.0, 1.0])
    ideal = strong_calls(np.array([4.0, 3.0, 2.0, 1.0]), strong, weak)
    assert ideal
    # The gap recovered is 0, 1/2, 1, 1, 1 at 0, 1, 2, 3, 4 of 4 calls.
    assert ideal.apgr == pytest.approx((0.25 + 0.75 + 1 + 1) / 4)
    assert (ideal.cpt50, ideal.cpt80) == (0.25, 0.5)
    worst = strong_calls(np.array([1.0, 2.0, 3.0, 4.0]), strong, weak)
    assert worst
    assert worst.apgr == pytest.approx(1 - ideal.apgr)
    assert strong_calls(np.zeros(4), weak, strong) is None


def test_calibration_error_is_the_distance_in_bins_of_equal_mass() -> None:
    quality = np.repeat([[0.2, 0.8]], 30, axis=0)
    score = np.column_stack([np.repeat([0.0, 1.0], [21, 9]), np.repeat([1.0, 0.0], [24, 6])])
    bins = reliability(quality, score)
    assert bins.rows.tolist() == [4] * 15
    assert np.average(bins.realised, weights=bins.rows) == pytest.approx(33 / 60)
    # Fewer rows than bins: one row each.
    few = reliability(np.array([[0.2], [0.6]]), np.array([[0.0], [1.0]]))
    assert few.error == pytest.approx((0.2 + 0.4) / 2)
    np.testing.assert_allclose(few.excess, [[0.2, 0.0], [0.0, -0.4]])


def test_brier_and_the_chosen_models_error() -> None:
    quality = np.array([[0.8, 0.4], [0.5, 0.5]])
    score = np.array([[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(brier(quality, score), [(0.04 + 0.16) / 2, 0.25])
    np.testing.assert_allclose(chosen_error(quality, score, np.array([0, 1])), [-0.2, -0.5])


def test_abstaining_leaves_the_most_uncertain_to_the_fallback() -> None:
    regret, fallback = np.array([1.0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), np.full(10, 0.5)
    uncertainty = np.arange(10, 0, -1.0)
    (ten, kept), *_ = regret_when_abstaining(regret, fallback, uncertainty)
    assert (ten, kept) == (pytest.approx(0.15), pytest.approx(1 / 9))


def test_lengths_are_covered_up_to_the_quantile_and_pinball_weighs_excess_nine_to_one() -> None:
    tokens = np.array([[10.0], [11.0], [np.nan]])
    quantile = np.array([[10.0], [10.0], [10.0]])
    np.testing.assert_array_equal(covered(tokens, quantile), [[1.0], [0.0], [np.nan]])
    np.testing.assert_allclose(pinball(np.array([[20.0], [0.0]]), np.array([[10.0], [10.0]])), [[9.0], [1.0]])
    np.testing.assert_allclose(marginal_quantile(np.array([[0.0, np.nan], [10.0, np.nan]])), [9.0, np.nan])


def test_holm_corrects_the_smallest_by_the_number_of_comparisons() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0}


def test_the_interval_is_that_of_the_mean_and_always_the_same() -> None:
    difference = np.random.default_rng(0).normal(0.1, 1.0, 1000)
    resamples = Resamples([f"text {number}" for number in range(1000)])
    found = mean_estimate(difference, resamples)
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * difference.std() / np.sqrt(1000), rel=0.1)
    assert (found.low + found.high) / 2 == pytest.approx(difference.mean(), abs=0.01)
    assert mean_estimate(difference, Resamples([f"text {number}" for number in range(1000)])) == found


def test_prompts_of_one_text_are_drawn_together() -> None:
    values = np.random.default_rng(0).normal(0, 1, 400)
    twice = np.repeat(values, 2)
    alone = Resamples([f"text {number}" for number in range(400)])
    together = Resamples([f"TEXT: {number // 2}" if number % 2 else f"text {number // 2}" for number in range(800)])
    assert len(set(together.groups.tolist())) == 400
    np.testing.assert_allclose(together.means(twice), alone.means(values))


def test_resampled_means_are_of_the_rows_asked_for() -> None:
    resamples = Resamples(["a", "b", "c"])
    values = np.array([[1.0, 10.0], [2.0, 20.0], [np.nan, np.nan]])
    means = resamples.means(values, rows=np.array([True, True, False]))
    assert means.min() >= 1
    np.testing.assert_allclose(means[:, 1], 10 * means[:, 0])


def test_p_values_count_the_resamples_beyond_zero() -> None:
    assert two_sided_p(np.full(999, 1.0)) == pytest.approx(2 / 1000)
    assert two_sided_p(np.array([-1.0, 1.0])) == 1
    assert estimate(1.0, np.linspace(0, 1, 101)).low == pytest.approx(0.025)


_WORDS = st.lists(st.text("abcxyzäé019", min_size=1, max_size=6), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(_WORDS, st.sampled_from([" ", ", ", "\n\n", " - "]), st.integers(2, 10))
def test_a_text_is_on_one_side_in_every_source(words: list[str], separator: str, folds: int) -> None:
    # Sources differ in case, layout and punctuation; all that decides is what is left of a text without them.
    here, there = " ".join(words), separator.join(words).upper()
    assert normalised(here) == normalised(there)
    assert fold_of(here, folds) == fold_of(there, folds)
    assert split_of(here) == split_of(there)

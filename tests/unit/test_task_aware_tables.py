"""Shrunken task scores, candidate sets, alphas: pure functions with known right answers."""

from __future__ import annotations

import numpy as np
import pytest

from foresail_router.strategies.task_aware.mixing import cautious_share, fit_alphas, fit_scale
from foresail_router.strategies.task_aware.tables import candidate_sets, shrunken_table
from foresail_router.strategies.task_aware.targets import is_flat, split_score


def members(task: list[int], tasks: int) -> np.ndarray:
    return np.eye(tasks)[task]


def test_tasks_that_differ_by_chance_alone_are_drawn_together_and_true_differences_stay() -> None:
    generator = np.random.default_rng(0)
    task = generator.integers(20, size=2000)
    truth = generator.normal(0, 0.3, 20)
    same, different = generator.normal(0, 0.5, 2000), truth[task] + generator.normal(0, 0.5, 2000)
    table = shrunken_table(np.eye(20)[task], np.stack([same, different], axis=1))
    raw = np.array([same[task == number].mean() for number in range(20)])
    assert np.abs(table.mean[:, 0]).mean() < 0.5 * np.abs(raw).mean()
    assert table.mean[:, 1] == pytest.approx(truth, abs=0.15)
    assert np.sqrt(np.square(table.mean[:, 1] - truth).mean()) == pytest.approx(table.std[:, 1].mean(), rel=0.4)


def test_a_task_with_few_prompts_is_shrunk_more_and_known_less() -> None:
    generator = np.random.default_rng(1)
    task = np.concatenate([np.repeat(np.arange(9), 100), np.repeat(9, 4)])
    values = np.where(task % 2 == 0, 0.3, -0.3) + generator.normal(0, 0.5, len(task))
    values[-4:] = 0.4
    table = shrunken_table(np.eye(10)[task], values[:, None])
    assert 0 < table.mean[9, 0] < 0.4
    assert table.std[9, 0] > 1.5 * table.std[:9, 0].max()


def test_unknown_values_are_left_out_and_an_empty_task_takes_the_prior() -> None:
    values = np.array([[1.0, np.nan], [1.0, np.nan], [-1.0, 0.5], [-1.0, np.nan]])
    table = shrunken_table(members([0, 0, 1, 1], 3), values)
    assert np.isfinite(table.mean).all()
    assert np.isfinite(table.std).all()
    assert table.mean[0, 0] > 0.5 > -0.5 > table.mean[1, 0]
    assert table.mean[2].tolist() == [0.0, 0.0]
    prior = np.full((3, 2), 0.25)
    assert shrunken_table(members([0, 0, 1, 1], 3), values, prior).mean[2].tolist() == [0.25, 0.25]


def test_candidates_are_the_fewest_models_that_hold_a_best_answer_to_enough_prompts() -> None:
    score = np.array([[1.0, 0.0, 0.0]] * 6 + [[0.0, 1.0, 0.0]] * 3 + [[0.0, 0.0, 1.0]] + [[1.0, 1.0, 1.0]] * 5)
    whole = members([0] * 15, 1)
    assert candidate_sets(whole, score, 0.6).tolist() == [[True, False, False]]
    assert candidate_sets(whole, score, 0.9).tolist() == [[True, True, False]]
    assert candidate_sets(whole, score, 1.0).tolist() == [[True, True, True]]


def test_candidates_differ_between_tasks_and_a_task_that_prefers_none_has_all() -> None:
    score = np.array([[1.0, 0.0], [1.0, np.nan], [0.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    sets = candidate_sets(members([0, 0, 1, 1, 2], 3), score, 0.9)
    assert sets.tolist() == [[True, False], [False, True], [True, True]]


def test_alpha_goes_to_whichever_estimate_is_right_and_differs_between_tasks() -> None:
    generator = np.random.default_rng(0)
    task = np.repeat([0, 1], 3000)
    truth = generator.normal(0, 0.3, (6000, 2))
    actual = truth + generator.normal(0, 0.3, truth.shape)
    noise = generator.normal(0, 0.3, truth.shape)
    own, of_task = truth + noise * (task == 1)[:, None], truth + noise * (task == 0)[:, None]
    overall, alphas = fit_alphas(actual, own, of_task, np.eye(2)[task])
    assert overall == pytest.approx(0.5, abs=0.1)
    assert alphas[0] > 0.85
    assert alphas[1] < 0.15


def test_alpha_stays_in_the_middle_where_nothing_tells_the_estimates_apart() -> None:
    same = np.zeros((5, 2))
    overall, alphas = fit_alphas(np.full((5, 2), np.nan), same, same, np.ones((5, 1)))
    assert 0 <= overall <= 1
    assert 0 <= alphas[0] <= 1
    overall, _ = fit_alphas(np.ones((5, 2)), same, same, np.ones((5, 1)))
    assert overall == pytest.approx(0.5)


def test_scale_corrects_the_slope() -> None:
    foreseen = np.linspace(-1, 1, 50)[:, None]
    assert fit_scale(0.5 * foreseen, foreseen) == pytest.approx(0.5)
    assert fit_scale(-foreseen, foreseen) == 0.0
    assert fit_scale(foreseen, np.zeros((50, 1))) == 1.0


def test_score_is_the_sum_of_mean_ease_and_advantage() -> None:
    score = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.5]])
    targets = split_score(score, lambda ease: ease)
    assert targets.mean + targets.ease + targets.advantage == pytest.approx(score)
    assert targets.advantage.sum(axis=1) == pytest.approx(0.0, abs=1e-12)


def test_the_foreseen_ease_stands_in_where_not_all_models_answered() -> None:
    score = np.array([[1.0, 0.0], [1.0, np.nan], [np.nan, np.nan]])
    targets = split_score(score, lambda ease: np.full_like(ease, 0.125))
    assert targets.advantage[1, 0] == pytest.approx(1.0 - targets.mean[0] - 0.125)
    assert np.isnan(targets.advantage[1, 1])
    assert np.isnan(targets.ease[2, 0])
    assert is_flat(score).tolist() == [False, True, True]


def test_many_equal_models_are_routed_with_caution_and_different_ones_boldly() -> None:
    generator = np.random.default_rng(0)
    mean = np.linspace(0.5, 0.8, 20)
    equal = (generator.random((2000, 20)) < mean).astype(float)
    assert cautious_share(equal, mean, generator.normal(0, 0.2, (2000, 20))) < 0.5
    advantage = np.where(generator.random((2000, 20)) < 0.5, 0.2, -0.2)
    different = (generator.random((2000, 20)) < mean + advantage).astype(float)
    assert cautious_share(different, mean, advantage) == 1.0
    assert cautious_share(np.full((3, 2), np.nan), np.array([0.5, 0.4]), np.zeros((3, 2))) == 1.0

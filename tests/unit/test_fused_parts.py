"""What the fused strategy is made of: weights, smoother, labels, levels, and what is kept of a training side. Small arrays, no encoder."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest
from tests.support.routing_pools import QUALITY, routing_pool

from foresail_router.strategies.base import Features, TrainingSet
from foresail_router.strategies.fused import problem as kept_problems
from foresail_router.strategies.fused.components import fit_components
from foresail_router.strategies.fused.labels import NO_LABEL, LabelClassifier, fit_margins, label_groups
from foresail_router.strategies.fused.memberships import fit_level, fit_table
from foresail_router.strategies.fused.parts import deviations
from foresail_router.strategies.fused.problem import shared_problem
from foresail_router.strategies.fused.settings import FusedSettings
from foresail_router.strategies.fused.smoother import fit_smoother
from foresail_router.strategies.fused.stacked import stack_groups
from foresail_router.strategies.fused.weights import competitive_weights, kept_share
from foresail_router.strategies.task_aware.doubt import fit_doubt
from foresail_router.strategies.task_aware.ridge import FoldedRidge


def advantages(seed: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    truth = np.random.default_rng(seed).normal(0, 0.2, (400, 3))
    return truth - truth.mean(axis=1, keepdims=True)


def noisy(truth: np.ndarray, spread: float, seed: int) -> np.ndarray:  # type: ignore[type-arg]
    return truth + np.random.default_rng(seed).normal(0, spread, truth.shape)


MEAN = np.array([0.6, 0.61, 0.6])


def test_identical_components_weigh_the_same_and_as_much_as_one_would() -> None:
    truth = advantages()
    one = competitive_weights(truth, np.stack([truth / 2]), MEAN)
    three = competitive_weights(truth, np.stack([truth / 2] * 3), MEAN)
    assert one == pytest.approx([2.0], abs=1e-6)
    assert three == pytest.approx([2 / 3] * 3, abs=1e-6)


def test_a_component_counts_as_far_as_it_is_right_and_never_less_than_nothing() -> None:
    truth = advantages()
    useless = np.random.default_rng(9).normal(0, 0.2, truth.shape)
    weights = competitive_weights(truth, np.stack([noisy(truth, 0.05, 1), useless, -truth]), MEAN)
    assert (weights >= 0).all()
    assert weights[2] == 0
    assert weights[1] < 0.15 * weights[0]
    assert (competitive_weights(truth, np.stack([-truth, -noisy(truth, 0.1, 2)]), MEAN) == 0).all()


def test_two_that_err_apart_share_the_weight_by_how_often_they_err() -> None:
    truth = advantages()
    weights = competitive_weights(truth, np.stack([noisy(truth, 0.1, 1), noisy(truth, 0.3, 2)]), MEAN)
    assert weights[0] > 2 * weights[1] > 0
    assert 0.5 < weights.sum() < 1.1


def test_what_a_model_that_never_competes_makes_of_a_prompt_hardly_counts() -> None:
    truth = advantages()
    wrong = truth.copy()
    wrong[:, 2] = -truth[:, 2]
    far = np.array([0.6, 0.61, 0.2])
    assert competitive_weights(truth, np.stack([wrong]), far) == pytest.approx([1.0], abs=0.01)
    assert competitive_weights(truth, np.stack([wrong]), MEAN)[0] < 0.9


def test_unknown_outcomes_are_ignored_whatever_was_foreseen_of_them() -> None:
    truth = advantages()
    foreseen = np.stack([noisy(truth, 0.05, 1), noisy(truth, 0.2, 2)])
    unknown = truth.copy()
    unknown[200:, 0] = np.nan
    unknown[300:] = np.nan
    garbled = foreseen.copy()
    garbled[:, 200:, 0] = 1e6
    garbled[:, 300:] = -1e6
    expected = competitive_weights(unknown, foreseen, MEAN)
    assert competitive_weights(unknown, garbled, MEAN) == pytest.approx(expected)
    np.testing.assert_array_equal(competitive_weights(truth, np.zeros((4, 400, 3)), MEAN), np.full(4, 0.25))


def test_a_model_of_few_outcomes_is_not_what_all_are_compared_with() -> None:
    truth = advantages()
    foreseen = np.stack([noisy(truth, 0.05, 1), noisy(truth, 0.3, 2)])
    partly = truth.copy()
    partly[3:, 2] = np.nan
    # By luck of three outcomes the third seems best by far: on these alone, or on its errors alone, no weight can be told.
    expected = competitive_weights(partly, foreseen, MEAN)
    lucky = np.array([0.6, 0.61, 0.95])
    assert competitive_weights(partly, foreseen, lucky) == pytest.approx(expected, abs=0.01)


def test_less_is_believed_of_advantages_that_do_not_keep_what_they_promise() -> None:
    truth = advantages()
    score = MEAN + truth
    assert kept_share(score, MEAN, truth) == 1.0
    # Half of what is said is noise: the highest of three is often highest by its noise.
    overdone = kept_share(score, MEAN, noisy(truth, 0.2, 1))
    assert 0.5 <= overdone < 1.0
    assert kept_share(score, MEAN, np.random.default_rng(4).normal(0, 0.2, truth.shape)) == 0.5


def test_what_is_kept_of_a_promise_is_told_by_known_outcomes_alone() -> None:
    truth = advantages()
    score = MEAN + truth
    score[200:, 1] = np.nan
    score[:100, 0] = np.nan
    garbled = np.where(np.isnan(score), 1e6, truth)
    assert kept_share(score, MEAN, garbled) == 1.0
    assert kept_share(np.full((10, 3), np.nan), MEAN, truth[:10]) == 1.0


def test_a_smoother_never_sees_a_prompts_own_fold() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(0, 1, (80, 5)).astype(np.float32)
    targets, folds = generator.normal(0, 1, (80, 3)), np.arange(80) % 4
    _, before = fit_smoother(features, targets, folds, 10)
    changed = targets.copy()
    changed[folds == 2] += 100.0
    _, after = fit_smoother(features, changed, folds, 10)
    # The temperature is chosen on all prompts: it must be the same for the comparison to mean anything.
    assert [np.allclose(after[folds == fold], before[folds == fold], atol=1e-3) for fold in range(4)] == [
        False,
        False,
        True,
        False,
    ]


def test_a_smoother_says_what_its_neighbours_were_and_nothing_of_unknown_columns() -> None:
    features = np.repeat(np.eye(4, dtype=np.float32), 10, axis=0) - 0.25
    targets = np.repeat(np.arange(4.0)[:, None], 10, axis=0) * np.array([[1.0, -1.0, np.nan]])
    smoother, foreseen = fit_smoother(features, targets, np.arange(40) % 2, 5)
    assert foreseen[:, 0] == pytest.approx(np.repeat(np.arange(4.0), 10), rel=0.05)
    assert (foreseen[:, 2] == 0).all()
    for number in range(4):
        said = smoother.foresee(features[10 * number] @ smoother.directions)
        assert said == pytest.approx([number, -number, 0.0], rel=0.05)
    wide, _ = fit_smoother(features, targets, np.arange(40) % 2, 1000)
    assert wide.neighbours == 40
    assert np.isfinite(wide.foresee(np.zeros(wide.points.shape[1], dtype=np.float32))).all()


def test_labels_of_few_prompts_are_no_labels() -> None:
    labels = ["common"] * 12 + ["usual"] * 10 + ["rare"] * 9 + [None] * 3
    assert label_groups(labels).tolist() == [0] * 12 + [1] * 10 + [NO_LABEL] * 12
    assert label_groups([None] * 20).tolist() == [NO_LABEL] * 20
    assert label_groups([]).tolist() == []


def test_one_label_tells_nothing_and_two_are_told_apart_in_other_folds() -> None:
    training, topics = routing_pool(90)
    assert fit_margins(training.features, np.zeros(90, dtype=np.int64), training.folds) is None
    assert fit_margins(training.features, np.full(90, NO_LABEL), training.folds) is None
    two = fit_margins(training.features, np.minimum(topics, 1), training.folds)
    assert two is not None
    assert two.cross_fitted.shape == (90, 2)
    assert (two.cross_fitted.argmax(axis=1) == np.minimum(topics, 1)).mean() > 0.9
    hidden = np.where(np.arange(90) % 2 == 0, topics, NO_LABEL)
    three = fit_margins(training.features, hidden, training.folds)
    assert three is not None
    assert (three.cross_fitted.argmax(axis=1) == topics)[hidden == NO_LABEL].mean() > 0.9


def test_margins_of_a_fold_do_not_follow_its_own_labels() -> None:
    training, topics = routing_pool(90)
    before = fit_margins(training.features, topics, training.folds)
    turned = np.where(training.folds == 3, (topics + 1) % 3, topics)
    after = fit_margins(training.features, turned, training.folds)
    assert before is not None
    assert after is not None
    own = training.folds == 3
    np.testing.assert_array_equal(after.cross_fitted[own], before.cross_fitted[own])
    assert (after.cross_fitted[~own] != before.cross_fitted[~own]).any()


def test_a_label_that_all_but_one_fold_lack_is_foreseen_of_none() -> None:
    training, _ = routing_pool(90)
    group = np.where(training.folds == 0, 1, 0)
    margins = fit_margins(training.features, group, training.folds)
    assert margins is not None
    assert (margins.cross_fitted[training.folds == 0] == margins.cross_fitted[0, 0]).all()


def test_a_label_classifier_gives_each_prompt_its_labels_row() -> None:
    training, topics = routing_pool(90)
    margins = fit_margins(training.features, topics, training.folds)
    assert margins is not None
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    classifier = LabelClassifier(margins.rarity, margins.words, margins.embedding, margins.bias, table, 64.0)
    groups = stack_groups(classifier, [])
    assert groups is not None
    for row in range(90):
        margins = training.features.embeddings[row] @ classifier.embedding + classifier.bias
        margins += classifier.margins_of_words(training.features.lexical, row)
        for added in groups.foresee(margins):
            assert added == pytest.approx(table[topics[row]], abs=0.1)


def test_a_table_is_as_sharp_as_pays_and_a_level_adds_what_its_group_does() -> None:
    generator = np.random.default_rng(1)
    group, folds = np.arange(200) % 2, np.arange(200) // 2 % 4
    values = np.where(group[:, None] == 0, [[0.0, 0.3, -0.3]], [[0.0, -0.3, 0.3]]) + generator.normal(0, 0.05, (200, 3))
    table = fit_table(np.eye(2)[group], values, folds, (0.5, 8.0))
    assert table.sharpness == 8.0
    assert table.mean == pytest.approx(np.array([[0.0, 0.3, -0.3], [0.0, -0.3, 0.3]]), abs=0.03)
    features = np.where(group[:, None] == 0, 1.0, -1.0).astype(np.float32)
    level, foreseen = fit_level(group, np.eye(2)[group], 32.0, values, FoldedRidge(features, folds), folds)
    for row in (0, 1):
        assert level.assign(features[row]).sum() == pytest.approx(1.0)
        assert level.assign(features[row]) @ level.table == pytest.approx(table.mean[row], abs=0.05)
    assert foreseen[:2] == pytest.approx(table.mean, abs=0.05)


def test_ease_and_advantages_add_up() -> None:
    quality, mean = np.array([[0.9, 0.5], [0.2, 0.0]]), np.array([0.6, 0.4])
    found = deviations(quality, mean)
    assert mean + found[:, :1] + found[:, 1:] == pytest.approx(quality)
    assert found[:, 1:].sum(axis=1) == pytest.approx(0.0)
    assert found[:, 0] == pytest.approx([0.2, -0.4])


def test_doubt_grows_with_distance_and_with_few_outcomes() -> None:
    features = np.random.default_rng(0).normal(0, 1, (100, 3)).astype(np.float32)
    known = np.ones((100, 2), dtype=np.bool_)
    known[10:, 1] = False
    doubt = fit_doubt(features, np.array([0.2, 0.2]), known, 1.0)
    near, far = doubt.variance(features[0]), doubt.variance(10 * features[0])
    assert near[1] > 5 * near[0] > 0
    assert (far > near).all()


def side(training: TrainingSet, fold: int) -> TrainingSet:
    return training.rows(training.folds != fold)


def same_side(first: TrainingSet, second: TrainingSet) -> bool:
    return shared_problem(first).kept is shared_problem(second).kept


def test_what_is_kept_of_a_training_side_is_never_another_sides() -> None:
    training, _ = routing_pool(60, answered=True)
    first = side(training, 0)
    assert same_side(first, first)
    assert same_side(first, replace(first))
    assert not same_side(side(training, 1), first)
    # Of the same prompts again: other objects may hold anything.
    assert not same_side(side(training, 0), first)
    outcomes = first.outcomes
    for other in (
        replace(first, outcomes=replace(outcomes, score=1.0 - outcomes.score)),
        replace(first, outcomes=replace(outcomes, prompts=tuple(replace(p, task=None) for p in outcomes.prompts))),
        replace(first, folds=(first.folds + 1) % 2),
        replace(first, answers=None),
        replace(first, features=Features(first.features.texts, first.features.embeddings[::-1])),
    ):
        assert not same_side(other, first)
        assert shared_problem(other).training is other


def test_components_of_one_side_are_fitted_once_and_of_another_anew() -> None:
    training, topics = routing_pool(120)
    settings = FusedSettings(components=("neighbours", "labels", "tasks"))

    def fitted(data: TrainingSet, settings: FusedSettings, seed: int = 0):  # type: ignore[no-untyped-def]
        return fit_components(shared_problem(data), settings, seed=seed, progress=lambda _: None)

    first = side(training, 0)
    before = fitted(first, settings)
    assert fitted(first, replace(settings, penalty=30.0)).smoother is before.smoother
    fewer = fitted(first, replace(settings, neighbours=20))
    assert fewer.smoother is not before.smoother
    assert (fewer.labels, fewer.tasks) == (before.labels, before.tasks)
    assert fitted(first, settings, seed=1).levels is not before.levels
    unlabelled = fitted(first, replace(settings, labels=False))
    assert unlabelled.labels is None
    assert "labels" not in unlabelled.foreseen
    assert (unlabelled.foreseen["tasks"] != before.foreseen["tasks"]).any()
    # The same features with outcomes turned round are fitted anew: no earlier side's outcomes shine through.
    score = np.random.default_rng(3).random((120, 4)) < (1 - QUALITY)[topics]
    turned = replace(training, outcomes=replace(training.outcomes, score=score.astype(float)))
    other = fitted(replace(first, outcomes=side(turned, 0).outcomes), settings)
    agreement = np.corrcoef(other.foreseen["neighbours"][:, 1:].ravel(), before.foreseen["neighbours"][:, 1:].ravel())
    assert agreement[0, 1] < -0.5


def test_what_is_kept_goes_with_the_features() -> None:
    training, _ = routing_pool(60)
    sides = [side(training, fold) for fold in range(3)]
    gc.collect()
    before = len(kept_problems._kept)
    for one in sides:
        problem = shared_problem(one)
        fit_components(
            problem, FusedSettings(components=("neighbours", "labels", "tasks")), seed=0, progress=lambda _: None
        )
    assert len(kept_problems._kept) == before + 3
    del one, problem, sides
    gc.collect()
    assert len(kept_problems._kept) == before

"""The nearest-neighbour strategy on embeddings whose right answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from foresail_router.data.matrix import OutcomeMatrix, build_matrix
from foresail_router.data.records import Outcome, Prompt
from foresail_router.strategies.base import Features, Predictions, State, TrainingSet, find_strategy, strategy_names
from foresail_router.strategies.kernels import Kernel, kernel_weights, weigh
from foresail_router.strategies.knn import KnnStrategy

WIDTH = 16
QUALITY = np.array([[0.9, 0.2, 0.5], [0.1, 0.8, 0.5]])
LENGTH = np.array([[50.0, 400.0, 100.0], [200.0, 20.0, 100.0]])


def cluster_vectors(generator: np.random.Generator, topics: NDArray[np.int64]) -> NDArray[np.float32]:
    """Unit vectors around one of two orthogonal directions."""
    vectors = generator.normal(0, 0.15, (len(topics), WIDTH))
    vectors[np.arange(len(topics)), topics] += 1.0
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def training_set(count: int = 400, seed: int = 0, missing: float = 0.0) -> tuple[TrainingSet, NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    topics = generator.integers(2, size=count)
    vectors = cluster_vectors(generator, topics)
    score = (generator.random((count, 3)) < QUALITY[topics]).astype(float)
    tokens = np.round(LENGTH[topics] * generator.lognormal(0, 0.4, (count, 3)))
    score[generator.random((count, 3)) < missing] = np.nan
    tokens[np.isnan(score)] = np.nan
    prompts = tuple(Prompt(f"p{number}", f"prompt {number}") for number in range(count))
    outcomes = OutcomeMatrix(
        prompts, ("a", "b", "c"), score, np.full_like(score, 10.0), tokens, np.full_like(score, np.nan)
    )
    folds = np.arange(count) % 5
    return TrainingSet(Features(outcomes.texts, vectors), outcomes, folds), topics


def fit(training: TrainingSet) -> KnnStrategy:
    return KnnStrategy.fit(training, seed=0, progress=lambda _: None)


def ask(strategy: KnnStrategy, vectors: NDArray[np.float32]) -> Predictions:
    return strategy.predict(Features([""] * len(vectors), vectors))


@pytest.fixture(scope="module")
def fitted() -> KnnStrategy:
    return fit(training_set()[0])


@pytest.fixture(scope="module")
def queries() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    generator = np.random.default_rng(99)
    topics = np.arange(200) % 2
    return cluster_vectors(generator, topics), topics


def test_quality_follows_the_neighbours(
    fitted: KnnStrategy, queries: tuple[NDArray[np.float32], NDArray[np.int64]]
) -> None:
    vectors, topics = queries
    predictions = ask(fitted, vectors)
    assert predictions.quality.shape == (200, 3)
    assert np.abs(predictions.quality - QUALITY[topics]).mean() < 0.07
    assert (predictions.quality.argmax(axis=1) == topics).all()


def test_the_standard_deviation_is_honest(
    fitted: KnnStrategy, queries: tuple[NDArray[np.float32], NDArray[np.int64]]
) -> None:
    vectors, topics = queries
    covered = []
    for seed in range(8):
        predictions = ask(fit(training_set(seed=seed)[0]), vectors)
        covered.append(np.abs(predictions.quality - QUALITY[topics]) <= 2 * predictions.quality_std)
    assert np.mean(covered) > 0.9
    assert predictions.quality_std.mean() < 0.15


def test_unlike_prompts_get_the_models_means_and_a_wider_deviation(fitted: KnnStrategy) -> None:
    near = ask(fitted, np.eye(WIDTH, dtype=np.float32)[:1])
    far = ask(fitted, -np.eye(WIDTH, dtype=np.float32)[:1])
    # The third model fares alike everywhere: about it there is nothing to be unsure of.
    assert (far.quality_std > 1.5 * near.quality_std)[:, :2].all()
    mean = training_set()[0].outcomes.score.mean(axis=0)
    assert np.abs(far.quality[0] - mean).max() < 0.1


def test_little_data_means_a_wider_deviation(
    fitted: KnnStrategy, queries: tuple[NDArray[np.float32], NDArray[np.int64]]
) -> None:
    small = ask(fit(training_set(count=30)[0]), queries[0])
    assert small.quality_std.mean() > 1.2 * ask(fitted, queries[0]).quality_std.mean()


def test_lengths_are_foreseen_with_honest_quantiles(fitted: KnnStrategy) -> None:
    held_out, topics = training_set(seed=7)
    predictions = ask(fitted, np.asarray(held_out.features.embeddings, dtype=np.float32))
    tokens = held_out.outcomes.output_tokens
    assert (predictions.output_tokens_p05 < predictions.output_tokens).all()
    assert (predictions.output_tokens < predictions.output_tokens_p95).all()
    inside = (tokens >= predictions.output_tokens_p05) & (tokens <= predictions.output_tokens_p95)
    assert 0.85 < inside.mean() < 0.95
    expected = np.array([predictions.output_tokens[topics == topic].mean(axis=0) for topic in (0, 1)])
    actual = np.array([tokens[topics == topic].mean(axis=0) for topic in (0, 1)])
    assert np.abs(expected / actual - 1).max() < 0.15


def test_missing_outcomes_are_left_out_not_counted_as_failures(
    queries: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> None:
    vectors, topics = queries
    predictions = ask(fit(training_set(count=800, missing=0.5)[0]), vectors)
    assert np.isfinite(predictions.quality).all()
    assert np.abs(predictions.quality - QUALITY[topics]).mean() < 0.1


def test_a_model_with_few_outcomes_is_less_sure(queries: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    training, _ = training_set()
    training.outcomes.score[6:, 2] = np.nan
    training.outcomes.output_tokens[6:, 2] = np.nan
    predictions = ask(fit(training), queries[0])
    assert predictions.quality_std[:, 2].mean() > 1.5 * predictions.quality_std[:, 0].mean()
    assert np.isfinite(predictions.output_tokens).all()


def test_without_any_length_a_wide_assumption_stands_in() -> None:
    training, _ = training_set(count=60)
    nothing = np.full_like(training.outcomes.score, np.nan)
    predictions = ask(
        fit(replace(training, outcomes=replace(training.outcomes, output_tokens=nothing))),
        np.eye(WIDTH, dtype=np.float32)[:1],
    )
    assert (predictions.output_tokens > 100).all()
    assert (predictions.output_tokens_p95 > 10 * predictions.output_tokens_p05).all()


def test_an_estimate_does_not_depend_on_what_else_is_asked(
    fitted: KnnStrategy, queries: tuple[NDArray[np.float32], NDArray[np.int64]]
) -> None:
    together = ask(fitted, queries[0])
    for number in (0, 77, 199):
        alone = ask(fitted, queries[0][number : number + 1])
        for field in Predictions.__slots__:
            np.testing.assert_array_equal(getattr(alone, field)[0], getattr(together, field)[number])


def test_no_prompt_gives_no_estimate(fitted: KnnStrategy) -> None:
    assert ask(fitted, np.empty((0, WIDTH), dtype=np.float32)).quality.shape == (0, 3)


def test_fitting_twice_gives_the_same_state(fitted: KnnStrategy) -> None:
    again, first = fit(training_set()[0]).state(), fitted.state()
    assert again.config == first.config
    assert {name: array.tobytes() for name, array in again.arrays.items()} == {
        name: array.tobytes() for name, array in first.arrays.items()
    }


def test_a_strategy_survives_its_state(
    fitted: KnnStrategy, queries: tuple[NDArray[np.float32], NDArray[np.int64]]
) -> None:
    assert "knn" in strategy_names()
    rebuilt = find_strategy("knn").from_state(fitted.state(), models=3, width=WIDTH)
    np.testing.assert_allclose(
        rebuilt.predict(Features([], queries[0])).quality, ask(fitted, queries[0]).quality, atol=1e-6
    )


def without(state: State, name: str) -> State:
    return State({key: value for key, value in state.arrays.items() if key != name}, state.config)


@pytest.mark.parametrize("name", ["embeddings", "outcomes", "prior.length_errors"])
def test_a_state_that_lacks_an_array_is_refused(fitted: KnnStrategy, name: str) -> None:
    with pytest.raises(ValueError, match=f"lacks '{name}'"):
        KnnStrategy.from_state(without(fitted.state(), name), models=3, width=WIDTH)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("embeddings", lambda array: array[:, 1:], "do not fit the encoder"),
        ("outcomes", lambda array: array[1:], "do not fit the encoder"),
        ("prior.quality", lambda array: array[1:], "priors do not fit"),
        ("prior.quality", lambda array: array * np.nan, "not finite"),
    ],
)
def test_a_state_of_another_shape_is_refused(fitted: KnnStrategy, name: str, change, message: str) -> None:  # type: ignore[no-untyped-def]
    arrays = dict(fitted.state().arrays)
    arrays[name] = change(arrays[name])
    with pytest.raises(ValueError, match=message):
        KnnStrategy.from_state(State(arrays, fitted.state().config), models=3, width=WIDTH)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neighbours": 10_000}, "more neighbours"),
        ({"neighbours": 0}, "more neighbours"),
        ({"temperature": 0}, "out of range"),
        ({"temperature": "hot"}, "not numbers"),
        ({"surprise": 1}, "lacks"),
    ],
)
def test_settings_that_cannot_be_are_refused(fitted: KnnStrategy, change: dict[str, object], message: str) -> None:
    config = dict(fitted.state().config)
    config["advantage"] = {**config["advantage"], **change}
    with pytest.raises(ValueError, match=message):
        KnnStrategy.from_state(State(fitted.state().arrays, config), models=3, width=WIDTH)


def test_prompts_of_one_fold_cannot_be_cross_fitted() -> None:
    training, _ = training_set(count=40)
    with pytest.raises(ValueError, match="all prompts of the training side lie in one fold"):
        fit(replace(training, folds=np.zeros(40, dtype=np.int64)))


def test_copies_do_not_judge_each_other() -> None:
    """Random scores of prompts that come ten times each: who sees a copy would think that he can foresee them."""
    generator = np.random.default_rng(3)
    vectors = np.repeat(cluster_vectors(generator, np.arange(30) % 2), 10, axis=0)
    lucky = np.repeat(generator.integers(2, size=(30, 2)), 10, axis=0).astype(float)
    prompts = [Prompt(f"p{number:03d}", f"text {number // 10}") for number in range(300)]
    outcomes = [
        Outcome(prompt.id, model, lucky[row, column])
        for row, prompt in enumerate(prompts)
        for column, model in enumerate("ab")
    ]
    matrix = build_matrix(prompts, outcomes, name="x")
    training = TrainingSet(Features(matrix.texts, vectors), matrix, np.arange(300) // 10 % 5)
    fresh = ask(fit(training), cluster_vectors(generator, np.arange(20) % 2))
    assert np.abs(fresh.quality - matrix.score.mean(axis=0)).max() < 0.3


def test_weights_fall_with_distance_and_end_at_zero() -> None:
    weights = kernel_weights(np.array([[0.9, 0.8, 0.5, 0.1]]), 0.2)[0]
    assert weights.sum() == pytest.approx(1)
    assert (np.diff(weights) < 0).all()
    assert weights[-1] == 0
    np.testing.assert_allclose(kernel_weights(np.full((1, 4), 0.3), 0.2)[0], 0.25)


def test_evidence_counts_equal_neighbours() -> None:
    kernel = Kernel(neighbours=4, temperature=0.2, shrinkage=1.0)
    values = np.array([1.0, 0.0, 1.0, 1.0])[None, :, None]
    evidence = weigh(kernel, np.full((1, 4), 0.3), np.ones(1), values, np.ones((1, 4, 1)))
    assert evidence.mean[0, 0] == pytest.approx(0.75)
    assert evidence.count[0, 0] == pytest.approx(4)
    assert evidence.share[0, 0] == pytest.approx(0.8)
    nothing = weigh(kernel, np.full((1, 4), 0.3), np.ones(1), values * 0, np.zeros((1, 4, 1)))
    assert (nothing.mean[0, 0], nothing.count[0, 0], nothing.share[0, 0]) == (0, 0, 0)

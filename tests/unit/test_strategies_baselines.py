"""Every baseline on prompts whose right model is known: it learns, says the same at all times, and refuses what is not its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
from tests.support.routing_pools import COST, LENGTH, MODELS, QUALITY, WIDTH, routing_pool

from foresail_router.strategies.base import (
    Features,
    Predictions,
    State,
    Strategy,
    TrainingSet,
    find_strategy,
    strategy_names,
)
from foresail_router.strategies.titles import strategy_title

CONSTANT = ("random", "cheapest", "best-single")
LEARNED = (
    "kmeans",
    "uniroute",
    "ridge",
    "logistic",
    "mlp",
    "matrix-factorisation",
    "mirt",
    "ipr",
    "routerdc",
    "zooter",
    "multilabel",
    "carrot-knn",
    "carrot-linear",
    "smoothie",
)
EVERY = (*CONSTANT, *LEARNED)
FORESEEING_LENGTHS = ("kmeans", "carrot-knn", "carrot-linear")
# As many clusters, neighbours and steps as suit some hundred prompts.
SMALL: Mapping[str, Mapping[str, object]] = {
    "kmeans": {"clusters": 6, "nearest": 2},
    "uniroute": {"clusters": 6},
    "carrot-knn": {"neighbours": 20},
    "smoothie": {"neighbours": 20},
    **{
        name: {"epochs": 16, "decay": 1.0}
        for name in ("mlp", "matrix-factorisation", "mirt", "ipr", "routerdc", "zooter", "multilabel")
    },
}


@cache
def pool(count: int = 360, missing: float = 0.0) -> TrainingSet:
    """The same object for all: what was worked out of its texts is kept."""
    return routing_pool(count, missing=missing, answered=True)[0]


def changed(training: TrainingSet, name: str, rows: slice, columns: int | slice, value: float) -> TrainingSet:
    """A copy whose outcomes differ, with the same features."""
    matrix = getattr(training.outcomes, name).copy()
    matrix[rows, columns] = value
    return replace(training, outcomes=replace(training.outcomes, **{name: matrix}))


def fit(name: str, training: TrainingSet, seed: int = 0) -> Strategy:
    strategy = find_strategy(name)
    settings = {**strategy.configurations[0], **SMALL.get(name, {})}
    return strategy.fit(training, seed=seed, progress=lambda _: None, settings=settings)


@cache
def fitted(name: str) -> Strategy:
    return fit(name, pool())


@cache
def held_out() -> TrainingSet:
    return routing_pool(150, seed=5)[0]


def chosen_quality(predictions: Predictions, topics: np.ndarray) -> float:  # type: ignore[type-arg]
    return float(QUALITY[topics, predictions.quality.argmax(axis=1)].mean())


def parts(predictions: Predictions) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return {field.name: getattr(predictions, field.name) for field in fields(predictions)}


@pytest.mark.parametrize("name", LEARNED)
def test_it_finds_the_right_model_for_most_prompts(name: str) -> None:
    predictions = fitted(name).predict(held_out().features)
    topics = routing_pool(150, seed=5)[1]
    best_single = QUALITY[topics].mean(axis=0).max()
    assert chosen_quality(predictions, topics) > best_single + 0.1
    quality = predictions.quality
    assert ((quality >= 0) & (quality <= 1)).all()
    # The quality of the chosen model is no mere rank: it is about what comes of it.
    assert abs(quality.max(axis=1).mean() - chosen_quality(predictions, topics)) < 0.2


@pytest.mark.parametrize("name", ["uniroute", "ridge", "logistic", "mlp", "mirt", "carrot-knn", "carrot-linear"])
def test_more_is_not_known_where_less_was_seen(name: str) -> None:
    some = fit(name, pool(60)).predict(held_out().features)
    many = fitted(name).predict(held_out().features)
    assert (many.quality_std > 0).all()
    assert some.quality_std.mean() > many.quality_std.mean()


@pytest.mark.parametrize("name", EVERY)
def test_its_state_is_all_there_is(name: str) -> None:
    state = fitted(name).state()
    rebuilt = find_strategy(name).from_state(state, models=len(MODELS), width=WIDTH)
    expected = parts(fitted(name).predict(held_out().features))
    for part, array in parts(rebuilt.predict(held_out().features)).items():
        np.testing.assert_array_equal(array, expected[part])


@pytest.mark.parametrize("name", EVERY)
def test_an_estimate_does_not_depend_on_what_else_is_asked(name: str) -> None:
    features = held_out().features
    together = parts(fitted(name).predict(features))
    for number in (0, 71, 149):
        alone = parts(fitted(name).predict(Features([features.texts[number]], features.embeddings[number][None])))
        for part, array in alone.items():
            np.testing.assert_array_equal(array[0], together[part][number])
    nothing = fitted(name).predict(Features([], np.empty((0, WIDTH), dtype=np.float32)))
    assert {part: array.shape for part, array in parts(nothing).items()} == dict.fromkeys(together, (0, len(MODELS)))


@pytest.mark.parametrize("name", EVERY)
def test_fitting_twice_gives_the_same(name: str) -> None:
    again, first = fit(name, pool()).state(), fitted(name).state()
    assert again.config == first.config
    assert {key: array.tobytes() for key, array in again.arrays.items()} == {
        key: array.tobytes() for key, array in first.arrays.items()
    }


@pytest.mark.parametrize("name", LEARNED)
def test_missing_outcomes_are_left_out_not_counted_as_failures(name: str) -> None:
    predictions = fit(name, pool(480, missing=0.3)).predict(held_out().features)
    topics = routing_pool(150, seed=5)[1]
    assert all(np.isfinite(array).all() for array in parts(predictions).values())
    if name != "smoothie":
        assert chosen_quality(predictions, topics) > QUALITY[topics].mean(axis=0).max() + 0.1
        assert abs(predictions.quality.mean() - QUALITY[topics].mean()) < 0.06


@pytest.mark.parametrize("name", EVERY)
def test_a_model_without_outcomes_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match="model 'b' has no outcome on the training side"):
        fit(name, changed(pool(60), "score", slice(None), 1, np.nan))


@pytest.mark.parametrize("name", LEARNED)
def test_a_model_with_two_outcomes_is_no_obstacle(name: str) -> None:
    few = changed(pool(), "score", slice(2, None), 1, np.nan)
    predictions = fit(name, changed(few, "output_tokens", slice(2, None), 1, np.nan)).predict(held_out().features)
    assert all(np.isfinite(array).all() for array in parts(predictions).values())
    assert (predictions.quality_std[:, 1] > predictions.quality_std[:, 0]).all()


@pytest.mark.parametrize("name", LEARNED)
def test_prompts_of_a_single_fold_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="one fold"):
        fit(name, replace(pool(60), folds=np.zeros(60, dtype=np.int64)))


@pytest.mark.parametrize("name", EVERY)
def test_a_setting_that_it_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="unknown setting 'colour'"):
        find_strategy(name).fit(pool(60), seed=0, progress=lambda _: None, settings={"colour": 3})


@pytest.mark.parametrize("name", EVERY)
def test_a_state_that_is_not_its_own_is_refused(name: str) -> None:
    state, strategy = fitted(name).state(), find_strategy(name)
    # The view's arrays are refused by the view, whose tests say so.
    for key, array in state.arrays.items():
        if key.startswith("view."):
            continue
        without = {other: value for other, value in state.arrays.items() if other != key}
        with pytest.raises(ValueError, match=f"lacks '{key}'"):
            strategy.from_state(State(without, state.config), models=len(MODELS), width=WIDTH)
        with pytest.raises(ValueError, match=r"not fit|not finite"):
            strategy.from_state(State({**without, key: array[None]}, state.config), models=len(MODELS), width=WIDTH)
        with pytest.raises(ValueError, match=r"not fit|not finite"):
            strategy.from_state(
                State({**without, key: np.full_like(array, np.nan)}, state.config), models=len(MODELS), width=WIDTH
            )
    with pytest.raises(ValueError, match="not fit"):
        strategy.from_state(state, models=len(MODELS) + 1, width=WIDTH)


@pytest.mark.parametrize("name", LEARNED)
def test_a_state_of_another_encoder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not fit"):
        find_strategy(name).from_state(fitted(name).state(), models=len(MODELS), width=WIDTH + 1)


@pytest.mark.parametrize("name", EVERY)
def test_without_any_length_a_wide_assumption_stands_in(name: str) -> None:
    nothing = changed(pool(60), "output_tokens", slice(None), slice(None), np.nan)
    predictions = fit(name, nothing).predict(held_out().features)
    assert (predictions.output_tokens > 100).all()
    assert (predictions.output_tokens_p95 > 10 * predictions.output_tokens_p05).all()


@pytest.mark.parametrize("name", FORESEEING_LENGTHS)
def test_lengths_are_foreseen_with_honest_quantiles(name: str) -> None:
    predictions, topics = fitted(name).predict(held_out().features), routing_pool(150, seed=5)[1]
    tokens = held_out().outcomes.output_tokens
    inside = (tokens >= predictions.output_tokens_p05) & (tokens <= predictions.output_tokens_p95)
    assert 0.82 < inside.mean() < 0.97
    expected = np.array([predictions.output_tokens[topics == topic].mean(axis=0) for topic in range(3)])
    assert np.corrcoef(np.log(expected).ravel(), np.log(LENGTH).ravel())[0, 1] > 0.9


@pytest.mark.parametrize("name", EVERY)
def test_it_has_a_title_and_at_most_three_configurations(name: str) -> None:
    assert name in strategy_names()
    assert strategy_title(name) != name or name == "random"
    assert 1 <= len(find_strategy(name).configurations) <= 3


def test_the_best_single_model_the_cheapest_and_chance() -> None:
    training, _ = routing_pool()
    features = held_out().features
    best = fitted("best-single").predict(features).quality.argmax(axis=1)
    assert (best == np.nanmean(training.outcomes.score, axis=0).argmax()).all()
    assert (fitted("cheapest").predict(features).quality.argmax(axis=1) == COST.argmin()).all()
    picked = fitted("random").predict(features).quality.argmax(axis=1)
    assert np.bincount(picked, minlength=4).min() > 20
    other = fit("random", training, seed=1).predict(features).quality.argmax(axis=1)
    assert (picked != other).any()


def test_without_costs_no_model_is_the_cheapest() -> None:
    with pytest.raises(ValueError, match="no outcome has a cost"):
        fit("cheapest", changed(pool(60), "cost_usd", slice(None), slice(None), np.nan))


def test_smoothie_needs_the_answers_of_three_models() -> None:
    with pytest.raises(ValueError, match="no answer is recorded"):
        fit("smoothie", routing_pool(60)[0])
    training, _ = routing_pool(60, answered=True)
    assert training.answers is not None
    training.answers.known[:, :2] = False
    with pytest.raises(ValueError, match="fewer than three models"):
        fit("smoothie", training)


def test_smoothie_chooses_without_looking_at_scores() -> None:
    training, _ = routing_pool(answered=True)
    turned = replace(training, outcomes=replace(training.outcomes, score=1 - training.outcomes.score))
    features = held_out().features
    np.testing.assert_array_equal(
        fit("smoothie", turned).predict(features).quality.argmax(axis=1),
        fitted("smoothie").predict(features).quality.argmax(axis=1),
    )


def test_ipr_takes_the_cheapest_model_within_its_tolerance() -> None:
    from foresail_router.strategies.baselines.absolute import tolerated

    quality = np.array([[0.90, 0.88, 0.40], [0.90, 0.60, 0.40]])
    dearness = np.array([2, 1, 0], dtype=np.float32)
    assert tolerated(quality, dearness, 0.1).argmax(axis=1).tolist() == [1, 0]
    assert tolerated(quality, dearness, 0.1).max(axis=1).tolist() == [0.88, 0.90]
    assert tolerated(quality, dearness, 1.0).argmax(axis=1).tolist() == [2, 2]
    assert tolerated(quality, dearness, 0.0).argmax(axis=1).tolist() == [0, 0]


def test_all_predict_without_the_libraries_that_fit_them(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from safetensors.numpy import save_file

    for name in (*CONSTANT, *LEARNED):
        state = fitted(name).state()
        arrays = {key: np.ascontiguousarray(array) for key, array in state.arrays.items()}
        save_file(arrays, tmp_path / f"{name}.safetensors")
        (tmp_path / f"{name}.json").write_text(json.dumps(dict(state.config)))
    program = f"""
import json, sys
from pathlib import Path
import numpy as np
from safetensors.numpy import load_file
from foresail_router.strategies.base import Features, State, find_strategy
for name in {(*CONSTANT, *LEARNED)!r}:
    path = Path({str(tmp_path)!r}) / name
    state = State(load_file(f"{{path}}.safetensors"), json.loads(Path(f"{{path}}.json").read_text()))
    strategy = find_strategy(name).from_state(state, models={len(MODELS)}, width={WIDTH})
    strategy.predict(Features(["some text"], np.ones(({1}, {WIDTH}), dtype=np.float32)))
print(sorted({{"torch", "sklearn", "scipy", "faiss"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr

"""The fused strategy on prompts whose right model is known: what it says, how sure it is, and that its state is all there is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load, save
from tests.support.routing_pools import LENGTH, MODELS, QUALITY, WIDTH, routing_pool

from foresail_router.strategies.base import (
    Features,
    Predictions,
    State,
    TrainingSet,
    find_strategy,
    strategy_names,
    uses_answers,
)
from foresail_router.strategies.fused.settings import COMPONENTS, read_settings
from foresail_router.strategies.fused.strategy import FusedStrategy
from foresail_router.strategies.titles import strategy_title


@cache
def pool(count: int = 300, missing: float = 0.0) -> TrainingSet:
    return routing_pool(count, missing=missing, answered=True)[0]


@cache
def held_out() -> tuple[TrainingSet, NDArray[np.int64]]:
    return routing_pool(150, seed=5)


def labelled(training: TrainingSet, labels: list[str | None]) -> TrainingSet:
    prompts = tuple(
        replace(prompt, task=label) for prompt, label in zip(training.outcomes.prompts, labels, strict=True)
    )
    return replace(training, outcomes=replace(training.outcomes, prompts=prompts))


def scored(training: TrainingSet, score: NDArray[np.float64]) -> TrainingSet:
    return replace(training, outcomes=replace(training.outcomes, score=score))


def of_few(outcomes: int, score: float | None = None) -> TrainingSet:
    """Return the pool with so few outcomes of the second model, all of that score."""
    changed = pool().outcomes.score.copy()
    changed[outcomes:, 1] = np.nan
    if score is not None:
        changed[:outcomes, 1] = score
    return scored(pool(), changed)


def fit(training: TrainingSet, seed: int = 0, **settings: object) -> FusedStrategy:
    return FusedStrategy.fit(training, seed=seed, progress=lambda _: None, settings=settings)


@cache
def fitted() -> FusedStrategy:
    return fit(pool())


def predict(strategy: FusedStrategy) -> Predictions:
    return strategy.predict(held_out()[0].features)


def parts(predictions: Predictions) -> dict[str, NDArray[np.float64]]:
    return {field.name: getattr(predictions, field.name) for field in fields(predictions)}


def gain(strategy: FusedStrategy) -> float:
    """Return what the chosen models are better than the best single one, by the quality that outcomes were drawn from."""
    truth = QUALITY[held_out()[1]]
    chosen = predict(strategy).quality.argmax(axis=1)
    return float(truth[np.arange(len(truth)), chosen].mean() - truth.mean(axis=0).max())


def rebuilt(state: State, *, models: int = len(MODELS), width: int = WIDTH) -> FusedStrategy:
    arrays = load(save({name: np.ascontiguousarray(array) for name, array in state.arrays.items()}))
    return FusedStrategy.from_state(State(arrays, json.loads(json.dumps(state.config))), models=models, width=width)


def test_it_beats_the_best_single_model_with_labels_and_without() -> None:
    assert gain(fitted()) > 0.25
    assert gain(fit(labelled(pool(), [None] * 300))) > 0.25
    assert gain(fit(pool(), labels=False)) > 0.25


@pytest.mark.parametrize("component", COMPONENTS)
def test_each_component_routes_alone_and_is_kept_alone(component: str) -> None:
    # Few prompts leave a strongly drawn linear smoother or a short training of networks little to say.
    strategy = fit(pool(), components=[component], penalty=5.0, epochs=40)
    assert gain(strategy) > 0.15
    again = rebuilt(strategy.state())
    assert (predict(again).quality == predict(strategy).quality).all()
    assert strategy.state().config["components"] == [component]


@pytest.mark.parametrize("settings", [{"weights": "equal"}, {"caution": False}, {"answers": True}], ids=str)
def test_every_ablation_routes(settings: dict[str, object]) -> None:
    assert gain(fit(pool(), **settings)) > 0.2


def test_quality_is_calibrated_and_lengths_follow_the_prompt() -> None:
    found, topics = predict(fitted()), held_out()[1]
    truth = QUALITY[topics]
    assert ((found.quality >= 0) & (found.quality <= 1)).all()
    chosen = found.quality.argmax(axis=1)
    rows = np.arange(len(truth))
    assert abs(found.quality[rows, chosen].mean() - truth[rows, chosen].mean()) < 0.1
    assert found.quality == pytest.approx(truth, abs=0.35)
    assert np.median(found.output_tokens_p50 / LENGTH[topics]) == pytest.approx(1.0, abs=0.3)
    for lower, upper in (("p05", "p50"), ("p50", "p90"), ("p90", "p95")):
        assert (getattr(found, f"output_tokens_{lower}") <= getattr(found, f"output_tokens_{upper}")).all()


def test_a_state_is_read_back_bit_for_bit() -> None:
    again = rebuilt(fitted().state())
    expected = parts(predict(fitted()))
    for name, array in parts(predict(again)).items():
        np.testing.assert_array_equal(array, expected[name])
    assert again.tasks == fitted().tasks
    assert again.state().config == fitted().state().config


def test_an_estimate_does_not_depend_on_what_else_is_asked() -> None:
    features = held_out()[0].features
    together = parts(predict(fitted()))
    for number in (0, 71, 149):
        alone = Features([features.texts[number]], features.embeddings[number][None])
        for name, array in parts(fitted().predict(alone)).items():
            np.testing.assert_array_equal(array[0], together[name][number])
    nothing = Features([], np.empty((0, WIDTH), dtype=np.float32))
    assert {array.shape for array in parts(fitted().predict(nothing)).values()} == {(0, len(MODELS))}
    assert fitted().memberships(nothing).shape == (0, len(fitted().tasks))


def test_the_same_seed_gives_the_same_and_another_seed_something_else() -> None:
    # Of the same prompts, but nothing that was kept of them.
    first, again = fitted().state(), fit(routing_pool(300, answered=True)[0]).state()
    assert again.config == first.config
    assert {name: array.tobytes() for name, array in again.arrays.items()} == {
        name: array.tobytes() for name, array in first.arrays.items()
    }
    assert (predict(fit(pool(), seed=1)).quality != predict(fitted()).quality).any()


def test_scores_may_be_missing_and_few_outcomes_widen_the_spread() -> None:
    partly = pool(300, 0.3)
    strategy = fit(partly)
    assert all(np.isfinite(array).all() for array in parts(predict(strategy)).values())
    assert gain(strategy) > 0.2
    spread = [predict(fitted()).quality_std[:, 1].mean()]
    for outcomes in (12, 3, 0):
        found = predict(fit(of_few(outcomes)))
        assert all(np.isfinite(array).all() for array in parts(found).values())
        assert found.quality_std[:, 1].mean() > found.quality_std[:, [0, 2, 3]].max(axis=1).mean()
        spread.append(found.quality_std[:, 1].mean())
    assert spread == sorted(spread)
    assert spread[-1] > 2 * spread[0]


def test_a_run_of_luck_is_no_certainty() -> None:
    found = predict(fit(of_few(12, score=1.0)))
    assert found.quality_std[:, 1].mean() > 0.1
    assert (found.quality_std[:, 1] > found.quality_std[:, 2]).mean() > 0.95


def test_abstaining_where_it_is_least_sure_lowers_regret() -> None:
    """A third of the pool's prompts is unlike the rest and rare: nobody can know the right model for them."""
    training, topics = routing_pool(360, seed=2)
    rare = topics == 2
    keep = ~rare | (np.cumsum(rare) <= 5)
    strategy = fit(training.rows(keep))
    found, truth = predict(strategy), QUALITY[held_out()[1]]
    chosen = found.quality.argmax(axis=1)
    regret = truth.max(axis=1) - truth[np.arange(len(truth)), chosen]
    doubt = found.quality_std[np.arange(len(truth)), chosen]
    order = np.argsort(-doubt)
    for share in (0.1, 0.2, 0.3):
        assert regret[order[int(share * len(order)) :]].mean() < regret.mean() - 0.03 * share


def test_its_tasks_have_names_candidates_and_what_models_score() -> None:
    strategy, (data, topics) = fitted(), held_out()
    assert len(strategy.tasks) >= 3
    assert strategy.task_scores.shape == (len(strategy.tasks), len(MODELS))
    assert ((strategy.task_scores >= 0) & (strategy.task_scores <= 1)).all()
    for task, scores in zip(strategy.tasks, strategy.task_scores, strict=True):
        topic = int(task.labels[0][0].removeprefix("topic "))
        assert scores == pytest.approx(QUALITY[topic], abs=0.2)
        assert int(scores.argmax()) in task.candidates
        assert (task.purity or 0) > 0.9
        assert task.alpha is None
    members = strategy.memberships(data.features)
    assert members.sum(axis=1) == pytest.approx(1.0)
    assigned = np.array([int(strategy.tasks[task].labels[0][0][-1]) for task in members.argmax(axis=1)])
    assert (assigned == topics).mean() > 0.95


def test_without_tasks_there_is_nothing_to_show() -> None:
    strategy = fit(pool(), components=["linear", "neighbours"])
    assert strategy.tasks == ()
    assert strategy.task_scores.shape == (0, len(MODELS))
    assert strategy.memberships(held_out()[0].features).shape == (150, 0)


def two_models(training: TrainingSet) -> TrainingSet:
    outcomes = training.outcomes
    return replace(training, outcomes=outcomes.columns(outcomes.models[:2]), answers=None)


def pools() -> Mapping[str, TrainingSet]:
    small, _ = routing_pool(60)
    tiny, _ = routing_pool(5)
    return {
        "one label": labelled(small, ["sums"] * 60),
        "two labels": labelled(small, ["sums", "poems"] * 30),
        "rare labels": labelled(small, [f"label {number // 3}" for number in range(60)]),
        "labels that lie in one fold each": labelled(small, [f"label {number % 5}" for number in range(60)]),
        "half of them labelled": labelled(
            small, [None if number % 2 else f"label {number % 4}" for number in range(60)]
        ),
        "two models": two_models(small),
        "one prompt per fold": tiny,
        "two prompts": replace(routing_pool(2)[0], folds=np.array([0, 1])),
        "folds of unequal size": replace(small, folds=np.array([0] + [1] * 59)),
        "models that are all equal": scored(small, np.ones((60, 4))),
        "the same text again and again": replace(
            small, features=Features(["same"] * 60, np.tile(small.features.embeddings[:1], (60, 1)))
        ),
        "no lengths": replace(small, outcomes=replace(small.outcomes, output_tokens=np.full((60, 4), np.nan))),
        "a single outcome": scored(small, np.where(np.arange(240).reshape(60, 4) == 7, 1.0, np.nan)),
    }


@pytest.mark.parametrize("case", pools())
def test_unusual_pools_are_learned_from(case: str) -> None:
    training = pools()[case]
    strategy = fit(training)
    again = rebuilt(strategy.state(), models=len(training.outcomes.models))
    for name, array in parts(again.predict(training.features)).items():
        assert np.isfinite(array).all(), name
        np.testing.assert_array_equal(array, getattr(strategy.predict(training.features), name))


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (replace(routing_pool(30)[0], folds=np.zeros(30, dtype=np.int64)), "lie in one fold"),
        (scored(routing_pool(30)[0], np.full((30, 4), np.nan)), "no prompt of the training side has a score"),
        (routing_pool(1)[0], "fewer than two prompts"),
    ],
    ids=["one fold", "no score", "one prompt"],
)
def test_what_cannot_be_learned_from_is_refused(training: TrainingSet, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(training)


def test_a_component_that_cannot_be_fitted_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="neither labels nor tasks"):
        fit(labelled(pool(60), [None] * 60), components=["labels"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neighbors": 5}, "fused has no setting 'neighbors'; it has: answers, caution"),
        ({"neighbours": 0}, "neighbours is 0; it must be at least 1"),
        ({"neighbours": 2.5}, r"neighbours is 2\.5; expected a int"),
        ({"neighbours": True}, "neighbours is True"),
        ({"penalty": 0}, r"penalty is 0; it must be at least 0\.01"),
        ({"penalty": float("nan")}, "penalty is nan"),
        ({"penalty": float("inf")}, "penalty is inf"),
        ({"hidden": 0}, "hidden is 0"),
        ({"epochs": -1}, "epochs is -1"),
        ({"weights": "best"}, "weights is 'best'; it is one of: competitive, equal"),
        ({"weights": ["equal"]}, "weights is"),
        ({"labels": "yes"}, "labels is 'yes'; expected a bool"),
        ({"components": []}, "components is"),
        ({"components": "linear"}, "components is 'linear'; it is a list of some of: neighbours"),
        ({"components": ["linear", "magic"]}, "components is"),
        ({"components": 3}, "components is 3"),
        ({"components": [["linear"]]}, "components is"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_named(settings: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_settings(settings)


def test_a_state_that_is_not_its_own_is_refused() -> None:
    state = fitted().state()
    for name, array in state.arrays.items():
        without = {other: value for other, value in state.arrays.items() if other != name}
        damaged = [without, {**without, name: array[None]}]
        if array.dtype.kind == "f":
            damaged.append({**without, name: np.full_like(array, np.nan)})
        for arrays in damaged:
            with pytest.raises(ValueError, match=r"lack|fit|finite|axes|are not all there|array"):
                FusedStrategy.from_state(State(arrays, state.config), models=len(MODELS), width=WIDTH)
    for models, width in ((len(MODELS) + 1, WIDTH), (len(MODELS), WIDTH + 1)):
        with pytest.raises(ValueError, match=r"fit|lack"):
            FusedStrategy.from_state(state, models=models, width=width)


@pytest.mark.parametrize(
    "change",
    [
        {"size": "wide"},
        {"penalty": 0.0},
        {"prompts": float("nan")},
        {"tasks": [{"name": "x"}]},
        {"tasks_level": "level9"},
        {"components": ["linear", "magic"]},
        {"components": []},
        {"components": 3},
        {"sharpness": {"level9": 8.0}},
        {"sharpness": 8.0},
        {"figures": None},
        {"neighbours": 10_000},
        {"temperature": 0.0},
    ],
    ids=str,
)
def test_a_damaged_configuration_is_refused(change: dict[str, Any]) -> None:
    state = fitted().state()
    with pytest.raises(ValueError, match=r"its |lacks"):
        FusedStrategy.from_state(State(state.arrays, {**state.config, **change}), models=len(MODELS), width=WIDTH)
    for name in change:
        config = {key: value for key, value in state.config.items() if key != name}
        with pytest.raises(ValueError, match=r"its |lacks"):
            FusedStrategy.from_state(State(state.arrays, config), models=len(MODELS), width=WIDTH)


def test_predicting_needs_numpy_alone(tmp_path: Path) -> None:
    state = fitted().state()
    (tmp_path / "arrays").write_bytes(save({name: np.ascontiguousarray(array) for name, array in state.arrays.items()}))
    (tmp_path / "config").write_text(json.dumps(state.config))
    code = f"""
import json, sys
from pathlib import Path
import numpy as np
from safetensors.numpy import load_file
from foresail_router.strategies.base import Features, State, find_strategy
state = State(load_file(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))
strategy = find_strategy("fused").from_state(state, models={len(MODELS)}, width={WIDTH})
strategy.predict(Features(["some text"], np.ones((1, {WIDTH}), dtype=np.float32)))
print(sorted({{"torch", "scipy", "sklearn", "faiss", "graspologic_native"}} & set(sys.modules)))
"""
    call = [sys.executable, "-c", code, str(tmp_path / "arrays"), str(tmp_path / "config")]
    done = subprocess.run(call, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_it_is_registered_with_configurations_that_exist_and_asks_for_no_answers() -> None:
    assert find_strategy("fused") is FusedStrategy
    assert FusedStrategy.configurations[0] == {}
    assert len(FusedStrategy.configurations) <= 3
    for settings in FusedStrategy.configurations:
        read_settings(settings)
    assert not uses_answers(FusedStrategy)
    assert uses_answers(FusedStrategy, {"answers": True})


@pytest.mark.parametrize("name", strategy_names())
def test_every_strategy_has_a_title(name: str) -> None:
    assert strategy_title(name) != name or name == "random"

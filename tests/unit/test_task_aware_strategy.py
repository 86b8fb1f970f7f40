"""The task-aware strategy on prompts whose tasks and right models are known: estimates, ablations, state, and what serving needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load, save

from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.data.records import Prompt
from foresail_router.strategies.base import (
    DescriptionEmbeddings,
    Features,
    Predictions,
    State,
    TrainingSet,
    find_strategy,
)
from foresail_router.strategies.task_aware.settings import read_settings
from foresail_router.strategies.task_aware.strategy import TaskAwareStrategy

WIDTH = 12
KINDS = ("sum", "travel", "poem")
_TEXTS = (
    "Work out the sum of {a} and {b}.",
    "Which sights of city {a} shall I visit on day {b}?",
    "Write a poem with {a} verses about season {b}.",
)
QUALITY = np.array([[0.95, 0.15, 0.5], [0.1, 0.9, 0.5], [0.45, 0.4, 0.9]])
LENGTH = np.array([[10.0, 40.0, 30.0], [200.0, 300.0, 100.0], [100.0, 90.0, 400.0]])


def make(count: int = 300, seed: int = 0, missing: float = 0.0) -> tuple[TrainingSet, NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    kinds = np.arange(count) % 3
    vectors = generator.normal(0, 0.12, (count, WIDTH))
    vectors[np.arange(count), kinds] += 1.0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    score = (generator.random((count, 3)) < QUALITY[kinds]).astype(float)
    tokens = np.round(LENGTH[kinds] * generator.lognormal(0, 0.3, (count, 3)))
    unknown = generator.random((count, 3)) < missing
    score[unknown], tokens[unknown] = np.nan, np.nan
    prompts = tuple(
        Prompt(f"p{n}", _TEXTS[kind].format(a=n, b=generator.integers(90)), task=KINDS[kind])
        for n, kind in enumerate(kinds)
    )
    outcomes = OutcomeMatrix(
        prompts, ("a", "b", "c"), score, np.full_like(score, 10.0), tokens, np.full_like(score, np.nan)
    )
    features = Features(outcomes.texts, vectors.astype(np.float32))
    return TrainingSet(features, outcomes, np.arange(count) // 3 % 5), kinds


def fit(training: TrainingSet, seed: int = 0, **settings: object) -> TaskAwareStrategy:
    return TaskAwareStrategy.fit(training, seed=seed, progress=lambda _: None, settings=settings)


def same(first: Predictions, second: Predictions) -> bool:
    return all((getattr(first, name) == getattr(second, name)).all() for name in Predictions.__slots__)


@pytest.fixture(scope="module")
def fitted() -> TaskAwareStrategy:
    return fit(make()[0])


@pytest.fixture(scope="module")
def queries() -> tuple[Features, NDArray[np.int64]]:
    training, kinds = make(90, seed=7)
    return training.features, kinds


def test_it_is_registered_and_learns_from_descriptions() -> None:
    assert find_strategy("task-aware") is TaskAwareStrategy
    assert TaskAwareStrategy.uses_descriptions
    assert 1 <= len(TaskAwareStrategy.configurations) <= 3
    for settings in TaskAwareStrategy.configurations:
        read_settings(settings)


def test_prompts_go_to_the_model_of_their_task_and_quality_is_calibrated(
    fitted: TaskAwareStrategy, queries: tuple[Features, NDArray[np.int64]]
) -> None:
    features, kinds = queries
    found = fitted.predict(features)
    assert (found.quality.argmax(axis=1) == QUALITY.argmax(axis=1)[kinds]).mean() > 0.95
    assert found.quality == pytest.approx(QUALITY[kinds], abs=0.25)
    assert ((found.quality >= 0) & (found.quality <= 1)).all()
    assert ((found.quality_std > 0) & (found.quality_std < 0.5)).all()


def test_lengths_follow_the_prompt_and_quantiles_are_in_order(
    fitted: TaskAwareStrategy, queries: tuple[Features, NDArray[np.int64]]
) -> None:
    features, kinds = queries
    found = fitted.predict(features)
    assert found.output_tokens_p50 == pytest.approx(LENGTH[kinds], rel=0.6)
    assert (found.output_tokens_p05 <= found.output_tokens_p50).all()
    assert (found.output_tokens_p50 <= found.output_tokens_p90).all()
    assert (found.output_tokens_p90 <= found.output_tokens_p95).all()


def test_the_discovered_tasks_are_the_known_ones_with_names_and_candidates(fitted: TaskAwareStrategy) -> None:
    assert len(fitted.tasks) >= 3
    total = sum(task.prompts for task in fitted.tasks)
    assert sum((task.purity or 0) * task.prompts for task in fitted.tasks) / total > 0.95
    words = {"sum": ("sum", "work"), "travel": ("city", "sights", "visit"), "poem": ("poem", "verses", "season")}
    for number, task in enumerate(fitted.tasks):
        kind = task.labels[0][0]
        assert any(word in task.name for word in words[kind]), (task.name, kind)
        best = int(QUALITY[KINDS.index(kind)].argmax())
        assert best in task.candidates
        assert fitted.task_scores[number].argmax() == best
        assert len(task.examples) == 3
        assert all(example.startswith("p") for example in task.examples)


def test_each_prompt_is_estimated_alone(fitted: TaskAwareStrategy, queries: tuple[Features, NDArray[np.int64]]) -> None:
    features, _ = queries
    together = fitted.predict(features)
    rows = np.array([41, 3])
    assert same(
        fitted.predict(features.rows(rows)), Predictions(*(getattr(together, n)[rows] for n in Predictions.__slots__))
    )
    assert fitted.predict(features.rows(np.zeros(90, dtype=np.bool_))).quality.shape == (0, 3)


def test_state_is_rebuilt_to_the_bit(fitted: TaskAwareStrategy, queries: tuple[Features, NDArray[np.int64]]) -> None:
    state = fitted.state()
    arrays = load(save({name: np.ascontiguousarray(array) for name, array in state.arrays.items()}))
    again = TaskAwareStrategy.from_state(State(arrays, state.config), models=3, width=WIDTH)
    assert same(again.predict(queries[0]), fitted.predict(queries[0]))
    assert again.tasks == fitted.tasks
    assert again.state().config == state.config


def test_the_same_seed_gives_the_same_router() -> None:
    training = make(90)[0]
    first, second = (fit(training).state() for _ in range(2))
    assert first.config == second.config
    assert all((first.arrays[name] == second.arrays[name]).all() for name in first.arrays)


@pytest.mark.parametrize(
    "settings",
    [
        {"stages": "tasks"},
        {"stages": "experts"},
        {"beta": 1.0},
        {"beta": 0.0},
        {"communities": "kmeans", "resolutions": [0.1]},
        {"communities": "labels"},
        {"resolutions": [0.5]},
        {"texts": "prompts"},
    ],
    ids=str,
)
def test_every_ablation_routes(settings: dict[str, object], queries: tuple[Features, NDArray[np.int64]]) -> None:
    features, kinds = queries
    strategy = fit(make(150)[0], **settings)
    found = strategy.predict(features)
    assert (found.quality.argmax(axis=1) == QUALITY.argmax(axis=1)[kinds]).mean() > 0.8
    if settings.get("stages") == "experts":
        assert strategy.tasks == ()
        assert not strategy.memberships(features).size
    if settings.get("stages") == "tasks":
        assert {task.alpha for task in strategy.tasks} == {0.0}
    if settings.get("communities") == "labels":
        assert [task.purity for task in strategy.tasks] == [1.0, 1.0, 1.0]


def test_descriptions_are_what_discovery_compares() -> None:
    training, kinds = make(150)
    # What is described goes across the kinds of prompt: two tasks, told apart by nothing else.
    described = np.arange(150) // 3 % 2
    vectors = np.eye(WIDTH)[described] + np.random.default_rng(0).normal(0, 0.02, (150, WIDTH))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    descriptions = DescriptionEmbeddings(vectors.astype(np.float16), np.ones(150, dtype=np.bool_))
    with_them = TrainingSet(training.features, training.outcomes, training.folds, None, descriptions)
    settings = {"beta": 1.0, "resolutions": [0.1]}
    assert max(task.purity or 0 for task in fit(with_them, **settings).tasks) < 0.5
    assert min(task.purity or 0 for task in fit(with_them, texts="prompts", **settings).tasks) > 0.9
    with pytest.raises(ValueError, match="foresail describe"):
        fit(training, texts="descriptions")
    assert with_them.rows(kinds == 0).descriptions is not None


def test_missing_outcomes_are_coped_with_and_widen_the_spread(queries: tuple[Features, NDArray[np.int64]]) -> None:
    features, kinds = queries
    training = make(300, missing=0.2)[0]
    score = training.outcomes.score
    score[40:, 2] = np.nan
    found = fit(training).predict(features)
    assert np.isfinite(found.quality).all()
    assert np.isfinite(found.output_tokens_p90).all()
    assert found.quality[:, :2] == pytest.approx(QUALITY[kinds][:, :2], abs=0.3)
    assert found.quality_std[:, 2].mean() > 1.2 * found.quality_std[:, 0].mean()


def test_a_prompt_unlike_all_others_is_of_no_task_and_less_is_known_of_it(
    fitted: TaskAwareStrategy, queries: tuple[Features, NDArray[np.int64]]
) -> None:
    strange = np.zeros((1, WIDTH), dtype=np.float32)
    strange[0, -1] = -1.0
    features = Features(["@#%&"], strange)
    assert not fitted.memberships(features).any()
    usual = fitted.memberships(queries[0])
    assert (usual.sum(axis=1) > 0.99).mean() > 0.9
    assert fitted.predict(features).quality_std.mean() > fitted.predict(queries[0]).quality_std.mean()


def test_scores_that_tell_nothing_give_every_prompt_about_the_models_means() -> None:
    training = make(300)[0]
    generator = np.random.default_rng(5)
    training.outcomes.score[:] = generator.random((300, 3)) < 0.6
    found = fit(training).predict(make(60, seed=3)[0].features)
    assert found.quality == pytest.approx(np.full((60, 3), 0.6), abs=0.15)


def test_too_few_prompts_for_any_task_leave_the_general_head() -> None:
    strategy = fit(make(9)[0])
    assert strategy.predict(make(3)[0].features).quality.shape == (3, 3)
    flat = make(30)[0]
    flat.outcomes.score[:] = 1.0
    assert fit(flat).predict(flat.features).quality == pytest.approx(np.ones((30, 3)), abs=0.05)


def test_what_cannot_be_learned_from_is_refused() -> None:
    training = make(30)[0]
    one_fold = TrainingSet(training.features, training.outcomes, np.zeros(30, dtype=np.int64))
    with pytest.raises(ValueError, match="one fold"):
        fit(one_fold)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"betta": 1}, "unknown setting 'betta'"),
        ({"beta": 2}, "between 0.0 and 1.0"),
        ({"beta": True}, "between"),
        ({"communities": "louvain"}, "leiden, kmeans, labels"),
        ({"resolutions": []}, "numbers above 0"),
        ({"resolutions": [0]}, "numbers above 0"),
        ({"resolutions": "many"}, "numbers above 0"),
        ({"rank": 0}, "between 1 and 64"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_settings(settings)


@pytest.mark.parametrize("name", ["experts.up", "mixture.scores", "classifier.bias", "features.centre"])
def test_damaged_state_is_refused(fitted: TaskAwareStrategy, name: str) -> None:
    state = fitted.state()
    lacking = {key: array for key, array in state.arrays.items() if key != name}
    with pytest.raises(ValueError, match="lacks"):
        TaskAwareStrategy.from_state(State(lacking, state.config), models=3, width=WIDTH)
    with pytest.raises(ValueError, match=r"fit|lacks"):
        TaskAwareStrategy.from_state(
            State({**state.arrays, name: state.arrays[name][..., :-1]}, state.config), models=3, width=WIDTH
        )
    broken = {**state.arrays, name: np.full_like(state.arrays[name], np.nan)}
    with pytest.raises(ValueError, match="not finite"):
        TaskAwareStrategy.from_state(State(broken, state.config), models=3, width=WIDTH)


def test_damaged_configuration_is_refused(fitted: TaskAwareStrategy) -> None:
    state = fitted.state()
    for change in ({"size": "wide"}, {"tasks": [{"name": "x"}]}, {"sharpness": [float("nan")]}):
        with pytest.raises(ValueError, match=r"not a number|damaged|sharpness"):
            TaskAwareStrategy.from_state(State(state.arrays, {**state.config, **change}), models=3, width=WIDTH)


def test_serving_loads_numpy_alone(fitted: TaskAwareStrategy, tmp_path: Path) -> None:
    code = """
import sys
import foresail_router.strategies.task_aware.strategy
loaded = {"torch", "scipy", "sklearn", "faiss", "graspologic_native"} & set(sys.modules)
sys.exit(f"loaded: {loaded}" if loaded else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr

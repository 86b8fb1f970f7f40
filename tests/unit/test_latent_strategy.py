"""Latent lookahead: it learns which model answers what well, with and without answers, and is plain arrays afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save
from tests.support.learning import make_matrix

from foresail_router.data.splits import fold_of
from foresail_router.strategies.base import AnswerEmbeddings, Features, State, TrainingSet, find_strategy, uses_answers
from foresail_router.strategies.lookahead.latent import LatentStrategy, calibrate, read_settings

KINDS = ("Work", "I spe", "Write")
WIDTH = 8
FAST: Mapping[str, Any] = {"epochs": 30, "hidden": 16, "learning_rates": [0.01], "response_weight": 0.5}


def embed(texts: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    vectors = np.full((len(texts), WIDTH), 0.1, dtype=np.float32)
    for row, text in enumerate(texts):
        vectors[row, next(number for number, kind in enumerate(KINDS) if text.startswith(kind))] = 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@cache
def training(count: int = 240) -> TrainingSet:
    """Models answer with a direction of their own, turned round for sums: something that a prompt foretells."""
    outcomes = make_matrix(count)
    own = np.random.default_rng(0).normal(size=(len(outcomes.models), 6))
    turned = np.array([-1.0 if text.startswith("Work") else 1.0 for text in outcomes.texts])
    noise = np.random.default_rng(1).normal(size=(count, len(outcomes.models), 6)) * 0.1
    vectors = (own[None] * turned[:, None, None] + noise).astype(np.float16)
    folds = np.array([fold_of(text) for text in outcomes.texts])
    known = np.ones(vectors.shape[:2], dtype=np.bool_)
    return TrainingSet(
        Features(outcomes.texts, embed(outcomes.texts)), outcomes, folds, AnswerEmbeddings(vectors, known)
    )


def fit(data: TrainingSet, seed: int = 0, **settings: Any) -> LatentStrategy:
    return LatentStrategy.fit(data, seed=seed, progress=lambda _: None, settings={**FAST, **settings})


@cache
def fitted() -> LatentStrategy:
    return fit(training())


def new_prompts() -> Features:
    texts = make_matrix(60, seed=9).texts
    return Features(texts, embed(texts))


def quality(strategy: LatentStrategy) -> Any:
    return strategy.predict(new_prompts()).quality


def test_it_learns_which_model_is_good_at_what() -> None:
    predictions = fitted().predict(new_prompts())
    kinds = np.array([next(kind for kind in KINDS if text.startswith(kind)) for text in new_prompts().texts])
    models = training().outcomes.models
    assert (predictions.quality[kinds == "Work"].argmax(axis=1) == models.index("specialist")).all()
    assert (predictions.quality[kinds == "I spe"].argmax(axis=1) == models.index("generalist")).all()
    assert abs(predictions.quality[kinds == "Work"][:, models.index("specialist")].mean() - 0.95) < 0.1
    assert (predictions.quality >= 0).all()
    assert (predictions.quality <= 1).all()
    assert (predictions.quality_std > 0).all()
    assert (predictions.output_tokens_p05 < predictions.output_tokens_p95).all()


def test_it_foresees_answers() -> None:
    data = training()
    answers = data.answers
    assert answers is not None
    from foresail_router.strategies.lookahead.targets import answer_targets

    actual = answer_targets(answers, "difference", 32).figures[:, :, 0]
    foreseen = fitted().foresee(data.features)[:, :, 0]
    assert np.corrcoef(actual.ravel(), foreseen.ravel())[0, 1] > 0.8
    without = fit(data, response=False).foresee(data.features)[:, :, 0]
    assert abs(np.corrcoef(actual.ravel(), without.ravel())[0, 1]) < 0.8


def test_a_state_is_read_back_bit_for_bit() -> None:
    state = fitted().state()
    stored = State(
        load(save({name: np.ascontiguousarray(array) for name, array in state.arrays.items()})),
        json.loads(json.dumps(state.config)),
    )
    again = find_strategy("latent-lookahead").from_state(stored, models=3, width=WIDTH)
    before, after = fitted().predict(new_prompts()), again.predict(new_prompts())
    for name in before.__slots__:
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


def test_predictions_do_not_depend_on_the_batch() -> None:
    prompts = new_prompts()
    together = fitted().predict(prompts)
    for row in (0, 17, 59):
        alone = fitted().predict(Features([prompts.texts[row]], prompts.embeddings[row : row + 1]))
        np.testing.assert_array_equal(alone.quality[0], together.quality[row])
        np.testing.assert_array_equal(alone.quality_std[0], together.quality_std[row])


def test_the_same_seed_gives_the_same_and_another_seed_something_else() -> None:
    np.testing.assert_array_equal(quality(fit(training())), quality(fitted()))
    assert (quality(fit(training(), seed=1)) != quality(fitted())).any()


def test_answers_that_are_not_known_do_not_influence_the_loss() -> None:
    data = training()
    assert data.answers is not None
    known = data.answers.known.copy()
    known[:, 0] = False
    known[::3] = False
    hidden = AnswerEmbeddings((data.answers.vectors * known[:, :, None]).astype(np.float16), known)
    garbled = AnswerEmbeddings(
        np.where(known[:, :, None], data.answers.vectors, np.float16(7)).astype(np.float16), known
    )
    masked = fit(replace(data, answers=hidden), epochs=2)
    np.testing.assert_array_equal(quality(masked), quality(fit(replace(data, answers=garbled), epochs=2)))
    assert masked.state().config["models_with_answers"] == 2


def test_without_answers_it_is_the_same_as_with_the_loss_on_them_switched_off() -> None:
    alone = fit(replace(training(), answers=None), epochs=2)
    np.testing.assert_array_equal(quality(alone), quality(fit(training(), epochs=2, response=False)))
    assert alone.state().config["models_with_answers"] == 0
    assert (quality(fit(training(), epochs=2)) != quality(alone)).any()


def test_both_arms_start_alike() -> None:
    """With a weight of 0 the loss on answers changes nothing: same start, steps and draws."""
    without = fit(training(), epochs=2, response=False)
    np.testing.assert_allclose(quality(fit(training(), epochs=2, response_weight=0.0)), quality(without), atol=1e-6)


def test_scores_may_be_missing_and_few_outcomes_widen_the_spread() -> None:
    data = training()
    score = data.outcomes.score.copy()
    score[10:, 1] = np.nan
    score[::4, 0] = np.nan
    strategy = fit(replace(data, outcomes=replace(data.outcomes, score=score)))
    predictions = strategy.predict(new_prompts())
    assert np.isfinite(predictions.quality).all()
    assert predictions.quality_std[:, 1].mean() > fitted().predict(new_prompts()).quality_std[:, 1].mean()


def test_separate_trunks_a_share_of_the_data_and_whole_answers_work_too() -> None:
    for settings in ({"joint": False}, {"share": 0.5}, {"target": "answer"}, {"learning_rates": [0.001, 0.01]}):
        strategy = fit(training(), **settings)
        again = LatentStrategy.from_state(strategy.state(), models=3, width=WIDTH)
        np.testing.assert_array_equal(quality(again), quality(strategy))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"responses": True}, "unknown setting 'responses'; latent-lookahead knows: epochs, hidden"),
        ({"share": 0}, "share 0 is not above 0"),
        ({"target": "all"}, "target 'all' is neither"),
        ({"epochs": 0}, "must be positive"),
    ],
)
def test_a_wrong_setting_is_named(settings: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(training(), **settings)


def test_one_fold_alone_cannot_be_learned_from() -> None:
    data = training()
    with pytest.raises(ValueError, match="lie in one fold"):
        fit(replace(data, folds=np.zeros(len(data.folds), dtype=np.int64)))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("networks.judge", lambda array: array[:, :2]),
        ("networks.trunk", lambda array: array[:, :-1]),
        ("networks.decode", lambda array: np.full_like(array, np.nan)),
        ("calibration.slopes", lambda array: array[:1]),
        ("lengths", lambda array: array[:, :1]),
    ],
)
def test_a_state_of_something_else_is_refused(name: str, change: Any) -> None:
    state = fitted().state()
    arrays = {**state.arrays, name: change(state.arrays[name])}
    with pytest.raises(ValueError, match=r"fit|lack|finite"):
        LatentStrategy.from_state(State(arrays, state.config), models=3, width=WIDTH)
    del arrays[name]
    with pytest.raises(ValueError, match="lacks"):
        LatentStrategy.from_state(State(arrays, state.config), models=3, width=WIDTH)


def test_calibration_scales_what_held_out_prompts_do_not_bear_out() -> None:
    random = np.random.default_rng(0)
    truth = random.uniform(0.2, 0.8, size=(4000, 3))
    score = (random.random(truth.shape) < truth).astype(np.float64)
    calibration = calibrate(truth.mean() + 2 * (truth - truth.mean()), score)
    np.testing.assert_allclose(calibration.slopes, 0.5, atol=0.07)
    applied = calibration.apply(truth.mean() + 2 * (truth - truth.mean()))
    assert float(np.square(applied - truth).mean()) < 0.002
    useless = calibrate(random.random(truth.shape), score)
    assert useless.slopes.max() < 0.1


def test_predicting_needs_no_torch(tmp_path: Path) -> None:
    state = fitted().state()
    (tmp_path / "state").write_bytes(save({name: np.ascontiguousarray(array) for name, array in state.arrays.items()}))
    code = (
        "import sys, numpy as np; from safetensors.numpy import load_file\n"
        "from foresail_router.strategies.base import Features, State, find_strategy\n"
        f"state = State(load_file(sys.argv[1]), {{}})\n"
        f"strategy = find_strategy('latent-lookahead').from_state(state, models=3, width={WIDTH})\n"
        f"strategy.predict(Features(['Work'], np.ones((1, {WIDTH}), dtype=np.float32)))\n"
        "print(sorted({'torch', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "state")], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_it_is_one_of_those_that_answers_are_embedded_for() -> None:
    assert uses_answers(find_strategy("latent-lookahead"))
    assert not uses_answers(find_strategy("knn"))
    assert len(LatentStrategy.configurations) <= 3


@pytest.mark.parametrize("file", ["latent.json", "latent_ablations.json"])
def test_every_variant_of_the_ablation_has_settings_that_exist(file: str) -> None:
    variants = json.loads((Path(__file__).parents[2] / "benchmarks" / file).read_bytes())
    for variant in variants.values():
        assert variant["strategy"] == "latent-lookahead"
        read_settings(variant["settings"])

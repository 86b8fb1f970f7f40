"""The parts of lookahead training without networks: labels, curriculum, sides, recipes, calibration, figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foresail_api.errors import UserError
from foresail_router.data.splits import fold_of
from foresail_router.lookahead.curriculum import masked_count, masked_share, masked_tokens
from foresail_router.lookahead.examples import choose_sides
from foresail_router.lookahead.experiment import load_plan
from foresail_router.lookahead.figures import choice_figures, grouped_interval
from foresail_router.lookahead.labels import labels_per_dataset, labels_per_prompt, routed
from foresail_router.lookahead.networks import grouped
from foresail_router.lookahead.optimizer import learning_rate
from foresail_router.lookahead.quality import Quality
from foresail_router.lookahead.recipe import Curriculum, Recipe, load_recipe

RECIPES = Path(__file__).parents[2] / "benchmarks" / "lookahead"


def test_labels_are_of_the_data_set_or_of_the_prompt() -> None:
    score = np.array([[1.0, 0.0, 0.5], [0.2, 0.1, 0.2], [0.3, np.nan, 0.25]])
    per_prompt = labels_per_prompt(score, 0.8)
    np.testing.assert_array_equal(per_prompt, [[1, 0, 0], [1, 0, 1], [1, np.nan, 1]])
    per_dataset = labels_per_dataset(score, ["a", "a", "b"], 0.8)
    np.testing.assert_array_equal(per_dataset, [[1, 0, 0], [0, 0, 0], [1, np.nan, 0]])


def test_prompts_on_which_all_models_are_equal_are_not_routed() -> None:
    score = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 1.0], [np.nan, 1.0], [np.nan, np.nan]])
    assert routed(score).tolist() == [False, False, True, False, False]


def test_the_curriculum_masks_more_and_more_from_its_end() -> None:
    end = Curriculum(kind="end", start=0.3, full_at=0.2)
    assert [masked_share(end, progress) for progress in (0.0, 0.1, 0.2, 0.9)] == pytest.approx([0.3, 0.65, 1.0, 1.0])
    draw = np.random.default_rng(0)
    assert masked_tokens(end, 0.0, 10, draw).tolist() == [False] * 7 + [True] * 3
    assert masked_tokens(Curriculum(kind="start"), 0.0, 10, draw).tolist() == [True] * 3 + [False] * 7
    chance = [masked_tokens(Curriculum(kind="random"), 0.0, 10, draw) for _ in range(5)]
    assert {int(mask.sum()) for mask in chance} == {3}
    assert len({mask.tobytes() for mask in chance}) > 1
    assert masked_tokens(Curriculum(kind="none"), 0.0, 10, draw).all()
    assert masked_count(end, 0.0, 1) == 1
    assert masked_count(end, 0.0, 0) == 0


def test_equal_texts_lie_on_one_side_and_the_test_fold_is_left_out() -> None:
    texts = [f"question {number // 2}" for number in range(200)]
    recipe = Recipe(variant="causal", validation_prompts=20, calibration_prompts=20, training_prompts=60)
    sides = choose_sides(texts, recipe, test_fold=0)
    parts = [sides.training, sides.validation, sides.calibration, sides.test]
    assert [len(part) for part in parts[:3]] == [60, 20, 20]
    assert all(fold_of(texts[row]) == 0 for row in sides.test)
    seen = [{texts[row] for row in part} for part in parts]
    assert sum(map(len, seen)) == len(set.union(*seen))
    half = choose_sides(texts, recipe.model_copy(update={"data_share": 0.5}), test_fold=0)
    assert half.training.tolist() == sides.training[:30].tolist()


def test_too_few_prompts_are_said_to_be() -> None:
    with pytest.raises(ValueError, match="lower validation_prompts"):
        choose_sides(["one", "two"], Recipe(variant="causal"), test_fold=None)


def test_groups_hold_every_row_once_within_the_limit() -> None:
    groups = list(grouped([5, 30, 7, 6, 6], 14))
    assert sorted(row for group in groups for row in group) == [0, 1, 2, 3, 4]
    assert groups[0] == [1]
    assert groups[1] == [2, 3]


def test_the_learning_rate_rises_and_falls() -> None:
    recipe = Recipe(variant="causal", learning_rate=1.0, warmup=0.2)
    rates = [learning_rate(recipe, step, 10) for step in range(10)]
    assert rates[2] == max(rates) == 1.0
    assert rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_calibration_gives_each_model_its_own_level(kind: str) -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(4000, 2))
    chance = 1 / (1 + np.exp(-(logits * [2.0, 0.0] + [0.5, -1.0])))
    score = (draw.random(chance.shape) < chance).astype(float)
    quality = Quality.fit("platt" if kind == "platt" else "isotonic", logits, score)
    assert np.abs(quality.predict(logits) - chance).mean() < 0.03
    again = Quality.from_json(quality.to_json())
    np.testing.assert_array_equal(again.predict(logits), quality.predict(logits))


def test_a_model_without_scores_has_an_open_quality() -> None:
    score = np.array([[1.0, np.nan], [0.0, np.nan]])
    for kind in ("platt", "isotonic"):
        quality = Quality.fit("platt" if kind == "platt" else "isotonic", np.zeros((2, 2)), score)
        assert quality.predict(np.zeros((1, 2)))[0, 1] == 0.5


def test_the_gap_is_closed_by_the_oracle_alone() -> None:
    score = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert choice_figures(score, np.array([0, 1, 0]), reference=0)["gap_closed"] == 1.0
    single = choice_figures(score, np.array([0, 0, 0]), reference=0)
    assert single["gain_over_best_single_points"] == 0.0
    assert single["gap_closed"] == pytest.approx(1 / 3)


def test_an_interval_is_wider_when_texts_repeat() -> None:
    difference = np.random.default_rng(0).normal(size=200)
    low, high = grouped_interval(np.repeat(difference, 4), [f"text {number}" for number in range(800)])
    wide_low, wide_high = grouped_interval(np.repeat(difference, 4), [f"text {number // 4}" for number in range(800)])
    assert low < np.mean(difference) < high
    assert wide_high - wide_low > 1.5 * (high - low)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_and_experiment_can_be_read(path: Path) -> None:
    if "recipes" in path.read_text():
        plan = load_plan(path)
        for run in plan.search():
            assert plan.recipe(run).learning_rate == run.learning_rate
    else:
        assert load_recipe(path).variant == path.stem.split("_")[0]


def test_the_papers_recipes_name_its_models() -> None:
    causal, masked = load_recipe(RECIPES / "causal_gpu.yaml"), load_recipe(RECIPES / "masked_gpu.yaml")
    assert (causal.backbone, causal.epochs, causal.batch) == ("HuggingFaceTB/SmolLM2-135M", 2, 64)
    assert (masked.backbone, masked.epochs, masked.response_weight) == ("answerdotai/ModernBERT-base", 4, 0.2)
    assert Recipe(variant="masked").backbone_name == masked.backbone
    assert Recipe(variant="causal").backbone_name == causal.backbone


def test_arms_differ_in_response_modelling_alone() -> None:
    plan = load_plan(RECIPES / "cpu.yaml")
    runs = list(plan.search())
    assert len(runs) + len(list(plan.repeats({(run.variant, run.arm): run.learning_rate for run in runs}))) == 16
    for first, second in zip(runs[::2], runs[1::2], strict=True):
        with_it, without = (plan.recipe(run).model_dump() for run in (first, second))
        assert {key for key in with_it if with_it[key] != without[key]} <= {"response_weight", "curriculum"}
        assert without["response_weight"] == 0


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("variant: causal\nepochs: 0", "epochs: Input should be greater than or equal to 1"),
        ("variant: masked\nfrozen_layers: 2", "frozen_layers"),
        ("variant: causal\nepoch: 3", "epoch: Extra inputs are not permitted"),
        ("- variant", "is not a mapping"),
        ("variant: [", "cannot be read as YAML"),
    ],
)
def test_a_fault_in_a_recipe_is_named(tmp_path: Path, content: str, fault: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=fault):
        load_recipe(path)


def test_an_experiment_without_learning_rates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "causal.yaml").write_text("variant: causal")
    path = tmp_path / "experiment.yaml"
    path.write_text("recipes: {causal: causal.yaml}\nlearning_rates: {masked: [1.0e-4]}\nseeds: [0]")
    with pytest.raises(UserError, match="learning_rates: has none for 'causal'"):
        load_plan(path)

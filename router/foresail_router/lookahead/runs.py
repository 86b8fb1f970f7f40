"""One training from outcomes and answers to files: sides, examples, network, training, calibration, figures.

Each of its two parts, training and testing, is skipped where its result is already on disk. It must not know how experiments are planned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foresail_api.errors import UserError
from foresail_router.data.answers import Answers
from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.lookahead.checkpoints import write_tensors
from foresail_router.lookahead.examples import Sides, choose_sides, make_examples
from foresail_router.lookahead.figures import choice_figures, quality_figures
from foresail_router.lookahead.model_files import TrainedModel, open_model, read_json, save_model, write_json
from foresail_router.lookahead.networks import build_network
from foresail_router.lookahead.parallel import ALONE, Parallel
from foresail_router.lookahead.quality import Quality
from foresail_router.lookahead.recipe import Recipe
from foresail_router.lookahead.training import Validation, total_steps, train

Progress = Callable[[str], object]
TRAINING_FILE, TEST_FILE, TEST_CHOICES = "training.json", "test.json", "test.safetensors"


@dataclass(frozen=True, slots=True)
class Material:
    """What is trained on and how: outcomes with answers, the fold that is tested (None for none), device and place for hidden states."""

    outcomes: OutcomeMatrix
    answers: Answers
    test_fold: int | None
    device: torch.device
    states: Path
    parallel: Parallel = ALONE


def train_once(material: Material, recipe: Recipe, directory: Path, progress: Progress) -> dict[str, Any]:
    """Train, calibrate and save one model in `directory`, and return how it went: also read back where it is already done.

    Raises `UserError` when there are too few prompts, no answers to learn from, or another recipe was trained there.
    """
    path = directory / TRAINING_FILE
    if path.exists():
        done = read_json(path)
        if done.get("recipe") != recipe.model_dump(mode="json"):
            raise UserError(f"{directory}: holds a training by another recipe; give another directory, or remove it")
        return done
    sides = _sides(material, recipe)
    learned = material.outcomes.rows(sides.training)
    answers = material.answers.rows(sides.training)
    if recipe.response_weight and not answers.known.any():
        raise UserError("response_weight: there is no answer to learn from; add answers to the data, or set it to 0")
    network = build_network(recipe, len(material.outcomes.models), device=material.device, states=material.states)
    examples = make_examples(network.tokenizer, learned, recipe, answers)
    judged = make_examples(network.tokenizer, material.outcomes.rows(sides.validation), recipe)
    calibrating = make_examples(network.tokenizer, material.outcomes.rows(sides.calibration), recipe)
    progress(f"{len(examples)} prompts to learn from, {total_steps(recipe, len(examples))} steps")
    # Both arms of a comparison prepare the same rows, so that they find the same states.
    network.prepare(examples, answers=True)
    network.prepare([*judged, *calibrating], answers=False)
    torch.manual_seed(recipe.seed)
    network.start(examples)
    validation = Validation(judged, material.outcomes.score[sides.validation])
    history = train(network, examples, validation, directory, parallel=material.parallel, progress=progress)
    logits = network.all_logits(calibrating, material.parallel)
    quality = Quality.fit(recipe.quality, logits, material.outcomes.score[sides.calibration])
    done = {
        "recipe": recipe.model_dump(mode="json"),
        "prompts": {side: len(rows) for side, rows in asdict(sides).items()},
        "steps": history.evaluations[-1].step,
        "seconds": round(history.seconds, 1),
        "validation_score": history.best.validation_score,
        "best_step": history.best.step,
        "evaluations": [asdict(seen) for seen in history.evaluations],
        "trained_parameters": sum(part.numel() for part in network.parameters() if part.requires_grad),
    }
    if material.parallel.leads:
        save_model(directory, TrainedModel(network, material.outcomes.models, quality))
        write_json(path, done)
    material.parallel.wait()
    return done


def measure_once(material: Material, directory: Path, progress: Progress) -> dict[str, float]:
    """Apply the model in `directory` to the prompts of the test fold that have all scores, and return and keep its figures."""
    path = directory / TEST_FILE
    if path.exists():
        return read_json(path)
    outcomes, rows = material.outcomes, test_rows(material)
    others = outcomes.rows(np.setdiff1d(np.arange(len(outcomes.prompts)), rows))
    model = open_model(directory, device=material.device, states=material.states)
    progress(f"testing on {len(rows)} prompts")
    tested = outcomes.rows(rows)
    logits, quality = model.predict(tested.texts)
    means = np.nanmean(others.score, axis=0)
    reference = int(means.argmax())
    chosen = logits.argmax(axis=1)
    figures = choice_figures(tested.score, chosen, reference=reference)
    by_quality = choice_figures(tested.score, quality.argmax(axis=1), reference=reference)
    figures |= {f"{name}_by_quality": value for name, value in by_quality.items()}
    figures |= quality_figures(tested.score, quality, means)
    write_tensors(
        directory / TEST_CHOICES, {"logits": torch.from_numpy(logits), "quality": torch.from_numpy(quality)}, {}
    )
    write_json(path, figures)
    return figures


def test_rows(material: Material) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the rows of the test fold that have every model's score."""
    fold = _sides(material, None).test
    return fold[material.outcomes.complete[fold]]


def _sides(material: Material, recipe: Recipe | None) -> Sides:
    # Which rows are tested does not depend on the recipe.
    recipe = recipe or Recipe(variant="causal", validation_prompts=1, calibration_prompts=1)
    try:
        return choose_sides(material.outcomes.texts, recipe, test_fold=material.test_fold)
    except ValueError as error:
        raise UserError(f"the data: {error}") from error

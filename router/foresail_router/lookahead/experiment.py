"""The ablation that carries the paper: each variant with and without response modelling, learning rates searched alike, then more seeds.

Runs are ordered so that a whole comparison stands as early as possible; finished ones are never repeated. It must not know networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foresail_api.errors import UserError
from foresail_router.lookahead.checkpoints import read_tensors
from foresail_router.lookahead.figures import earned, grouped_interval
from foresail_router.lookahead.model_files import read_json, write_json
from foresail_router.lookahead.recipe import Recipe, load_recipe, parse_recipe, read_mapping, validation_message
from foresail_router.lookahead.runs import (
    TEST_CHOICES,
    TEST_FILE,
    TRAINING_FILE,
    Material,
    measure_once,
    test_rows,
    train_once,
)

Progress = Callable[[str], object]
Arm = Literal["with", "without"]
ARMS: tuple[Arm, ...] = ("with", "without")


class ChangedRecipe(BaseModel):
    """A recipe by file, with other values for some of its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: Path
    changes: dict[str, Any]


class Experiment(BaseModel):
    """What is compared: recipes by name, their arms, learning rates and seeds, and what `without` changes in a recipe.

    Files are relative to the experiment's. Learning rates are those of a recipe's name, or else of its variant.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    test_fold: int = Field(default=0, ge=0, le=4)
    recipes: dict[str, Path | ChangedRecipe] = Field(min_length=1)
    learning_rates: dict[str, tuple[float, ...]]
    seeds: tuple[int, ...] = Field(min_length=1)
    arms: tuple[Arm, ...] = Field(default=ARMS, min_length=1)
    without: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """One training of the experiment."""

    variant: str
    arm: Arm
    learning_rate: float
    seed: int

    @property
    def name(self) -> str:
        """The run's directory."""
        return f"{self.variant}-{self.arm}-lr{self.learning_rate:g}-seed{self.seed}"


@dataclass(frozen=True, slots=True)
class Plan:
    """An experiment with its recipes read."""

    experiment: Experiment
    recipes: Mapping[str, Recipe]
    rates: Mapping[str, tuple[float, ...]]

    def recipe(self, run: Run) -> Recipe:
        """Return the recipe of one run; both arms differ in what `without` names and in nothing else."""
        content = self.recipes[run.variant].model_dump(mode="json")
        if run.arm == "without":
            content |= self.experiment.without
        content |= {"learning_rate": run.learning_rate, "seed": run.seed}
        return parse_recipe(content, "without")

    def search(self) -> Iterator[Run]:
        """Yield the runs of the first seed: all variants and arms at the first learning rate, then at the next."""
        for number in range(max(map(len, self.rates.values()))):
            for variant in self.recipes:
                for arm in self.experiment.arms:
                    for rate in self.rates[variant][number : number + 1]:
                        yield Run(variant, arm, rate, self.experiment.seeds[0])

    def repeats(self, chosen: Mapping[tuple[str, Arm], float]) -> Iterator[Run]:
        """Yield the runs of the other seeds at the learning rate that was chosen for each variant and arm."""
        for seed in self.experiment.seeds[1:]:
            for variant in self.recipes:
                for arm in self.experiment.arms:
                    yield Run(variant, arm, chosen[variant, arm], seed)


def load_plan(path: Path) -> Plan:
    """Read an experiment and its recipes; raise `UserError` naming what is wrong."""
    try:
        experiment = Experiment.model_validate(read_mapping(path))
    except ValidationError as error:
        raise UserError(f"{path}: {validation_message(error)}") from error
    recipes, rates = {}, {}
    for name, file in experiment.recipes.items():
        recipes[name] = _read_recipe(file, path)
        rates[name] = experiment.learning_rates.get(name) or experiment.learning_rates.get(recipes[name].variant, ())
        if not rates[name]:
            raise UserError(f"{path}: learning_rates: has none for {name!r}; add a list of them")
    return Plan(experiment, recipes, rates)


def run_experiment(plan: Plan, material: Material, directory: Path, progress: Progress) -> dict[str, Any]:
    """Run what is not yet done, in order, rewriting `results.json` after each training, and return the results."""
    for run in plan.search():
        _train(plan, run, material, directory, progress)
        # What no learning rate of its arm surpasses so far is tested, so that there is a comparison from the start.
        chosen = chosen_rates(plan, directory)
        _test(Run(run.variant, run.arm, chosen[run.variant, run.arm], run.seed), material, directory, progress)
        _report(plan, material, directory)
    for run in plan.repeats(chosen_rates(plan, directory)):
        _train(plan, run, material, directory, progress)
        _test(run, material, directory, progress)
        _report(plan, material, directory)
    return _report(plan, material, directory)


def chosen_rates(plan: Plan, directory: Path) -> dict[tuple[str, Arm], float]:
    """Return each variant's and arm's learning rate with the best validation score at the first seed, among those done."""
    scores: dict[tuple[str, Arm], dict[float, float]] = {}
    for run in plan.search():
        path = directory / run.name / TRAINING_FILE
        if path.exists():
            score = float(read_json(path)["validation_score"])
            scores.setdefault((run.variant, run.arm), {})[run.learning_rate] = score
    return {key: max(found, key=lambda rate: found[rate]) for key, found in scores.items()}


def _read_recipe(file: Path | ChangedRecipe, experiment: Path) -> Recipe:
    if isinstance(file, Path):
        return load_recipe(experiment.parent / file)
    base = experiment.parent / file.base
    return parse_recipe(read_mapping(base) | file.changes, f"{experiment}, changed {base.name}")


def _train(plan: Plan, run: Run, material: Material, directory: Path, progress: Progress) -> None:
    train_once(material, plan.recipe(run), directory / run.name, lambda message: progress(f"{run.name}: {message}"))


def _test(run: Run, material: Material, directory: Path, progress: Progress) -> None:
    measure_once(material, directory / run.name, lambda message: progress(f"{run.name}: {message}"))


def _report(plan: Plan, material: Material, directory: Path) -> dict[str, Any]:
    chosen = chosen_rates(plan, directory)
    repeats = plan.repeats(chosen) if len(chosen) == len(plan.recipes) * len(plan.experiment.arms) else ()
    runs = [run for run in (*plan.search(), *repeats) if (directory / run.name / TRAINING_FILE).exists()]
    results = {
        "experiment": plan.experiment.model_dump(mode="json"),
        "data": material.outcomes.fingerprint(),
        "models": material.outcomes.models,
        "runs": [_run_result(run, directory) for run in runs],
        "comparisons": {variant: _comparison(variant, chosen, plan, material, directory) for variant in plan.recipes},
    }
    write_json(directory / "results.json", results)
    return results


def _run_result(run: Run, directory: Path) -> dict[str, Any]:
    training = read_json(directory / run.name / TRAINING_FILE)
    test = directory / run.name / TEST_FILE
    return {
        "variant": run.variant,
        "response_modelling": run.arm == "with",
        "learning_rate": run.learning_rate,
        "seed": run.seed,
        **training,
        "test": read_json(test) if test.exists() else None,
    }


def _comparison(
    variant: str, chosen: Mapping[tuple[str, Arm], float], plan: Plan, material: Material, directory: Path
) -> dict[str, Any] | None:
    """Return with minus without at the chosen learning rates, in points, over the seeds that both arms have; None while there is none."""
    if any((variant, arm) not in chosen for arm in ARMS):
        return None
    paths = {
        seed: [directory / Run(variant, arm, chosen[variant, arm], seed).name / TEST_CHOICES for arm in ARMS]
        for seed in plan.experiment.seeds
    }
    seeds = [seed for seed, pair in paths.items() if all(path.exists() for path in pair)]
    if not seeds:
        return None
    tested = material.outcomes.rows(test_rows(material))
    each = np.array([[100 * earned(tested.score, _choice(path)) for path in paths[seed]] for seed in seeds])
    difference = (each[:, 0] - each[:, 1]).mean(axis=0)
    low, high = grouped_interval(difference, tested.texts)
    return {
        "seeds": seeds,
        "learning_rates": {arm: chosen[variant, arm] for arm in ARMS},
        "score_points": {arm: float(each[:, number].mean()) for number, arm in enumerate(ARMS)},
        "with_minus_without_points": float(difference.mean()),
        "interval_points": [low, high],
        "by_seed_points": [float(value) for value in (each[:, 0] - each[:, 1]).mean(axis=1)],
    }


def _choice(path: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    tensors, _ = read_tensors(path, torch.device("cpu"))
    return np.asarray(tensors["logits"].numpy().argmax(axis=1))

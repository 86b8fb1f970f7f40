"""Fits each component on the training side, with what it foresees of inner folds. It must not know how components are joined."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foresail_router.features.lexical import STRUCTURE
from foresail_router.strategies.base import Array, Progress
from foresail_router.strategies.fused.labels import LabelClassifier, Margins, fit_margins, label_groups
from foresail_router.strategies.fused.memberships import Level, fit_level, fit_table, level_name
from foresail_router.strategies.fused.parts import Discovered, Linear, deviations
from foresail_router.strategies.fused.problem import Problem
from foresail_router.strategies.fused.settings import FusedSettings
from foresail_router.strategies.fused.smoother import Smoother, fit_smoother
from foresail_router.strategies.lookahead.network import Networks
from foresail_router.strategies.task_aware.discovery import Discovery, discover, task_centres, task_nearness
from foresail_router.strategies.task_aware.settings import TaskAwareSettings
from foresail_router.strategies.task_aware.tables import candidate_sets, shrunken_table
from foresail_router.strategies.task_aware.tasks import describe_tasks

Floats = NDArray[np.float32]
_LABEL_SHARPNESSES = (2.0, 4.0, 8.0)
_NETWORK_RATE = 0.002


@dataclass(frozen=True, slots=True)
class Fitted:
    """Components; `foreseen` holds, in their order, each one's cross-fitted deviations (prompts x 1 + models: ease, advantages)."""

    linear: Linear | None
    smoother: Smoother | None
    networks: Networks | None
    labels: LabelClassifier | None
    levels: dict[str, Level]
    tasks: Discovered | None
    foreseen: dict[str, Array]


def fit_components(problem: Problem, settings: FusedSettings, *, seed: int, progress: Progress) -> Fitted:
    """Return the components that the settings name; `labels` is none without labels, `tasks` none without any task.

    Raises `ValueError` when nothing is left.
    """
    foreseen: dict[str, Array] = {}
    linear, smoother, networks = None, None, None
    if "linear" in settings.components:
        linear, foreseen["linear"] = _fit_linear(problem, settings.penalty)
    if "neighbours" in settings.components:
        progress("looking at neighbours")
        smoother, foreseen["neighbours"] = problem.once(
            ("neighbours", settings.neighbours),
            lambda: fit_smoother(problem.features, problem.targets.joint, problem.training.folds, settings.neighbours),
        )
    if "networks" in settings.components:
        key = ("networks", settings.hidden, settings.epochs, settings.answers, seed)
        networks, foreseen["networks"] = problem.once(key, lambda: _fit_networks(problem, settings, seed, progress))
    labels, of_label = None, np.zeros(problem.targets.joint.shape)
    wanted = settings.labels and {"labels", "tasks"} & set(settings.components)
    fitted = problem.once("labels", lambda: _fit_labels(problem, progress)) if wanted else None
    if fitted is not None:
        labels, of_label = fitted
        if "labels" in settings.components:
            foreseen["labels"] = of_label
    levels: dict[str, Level] = {}
    tasks: Discovered | None = None
    if "tasks" in settings.components:
        levels, tasks, added = problem.once(
            ("tasks", fitted is None, seed), lambda: _fit_tasks(problem, of_label, seed, progress)
        )
        if levels:
            foreseen["tasks"] = of_label + added
    if not foreseen:
        raise ValueError("no component can be fitted: there are neither labels nor tasks")
    return Fitted(linear, smoother, networks, labels, levels, tasks, foreseen)


def _fit_linear(problem: Problem, penalty: float) -> tuple[Linear, Array]:
    joint = problem.targets.joint
    linear = Linear(*(_floats(part) for part in problem.ridge.fit(joint, penalty)))
    return linear, problem.ridge.cross_fit(joint, penalty)


def _fit_networks(problem: Problem, settings: FusedSettings, seed: int, progress: Progress) -> tuple[Networks, Array]:
    from foresail_router.strategies.lookahead import latent_fit
    from foresail_router.strategies.lookahead.targets import answer_targets

    training = problem.training
    chosen = latent_fit.LatentSettings(hidden=settings.hidden, epochs=settings.epochs, learning_rates=(_NETWORK_RATE,))
    figures = None
    if settings.answers and training.answers is not None:
        figures = answer_targets(training.answers, chosen.target, latent_fit.FIGURES)
    networks, unseen, _ = latent_fit.fit_networks(
        latent_fit.Problem(problem.seen, training.outcomes.score, figures, training.folds),
        chosen,
        seed=seed,
        progress=progress,
    )
    return networks, deviations(unseen, problem.targets.mean)


def _fit_labels(problem: Problem, progress: Progress) -> tuple[LabelClassifier, Array] | None:
    training = problem.training
    group = label_groups([prompt.task for prompt in training.outcomes.prompts])
    progress("learning labels")
    margins: Margins | None = fit_margins(training.features, group, training.folds)
    if margins is None:
        return None
    table = fit_table(margins.cross_fitted, problem.targets.joint, training.folds, _LABEL_SHARPNESSES)
    classifier = LabelClassifier(
        margins.rarity, margins.words, margins.embedding, margins.bias, _floats(table.mean), table.sharpness
    )
    return classifier, table.cross_fitted


def _fit_tasks(
    problem: Problem, of_label: Array, seed: int, progress: Progress
) -> tuple[dict[str, Level], Discovered | None, Array]:
    """Return the levels of discovered tasks, what a person is shown of them, and what they add to the labels."""
    training = problem.training
    found = discover(
        training,
        _unit(problem.seen[:, : problem.seen.shape[1] - STRUCTURE]),
        problem.targets,
        problem.ridge,
        TaskAwareSettings(),
        seed=seed,
        progress=progress,
    )
    # Each resolution's table says how its tasks differ from what the labels say; their mean is steadier than any of them.
    rest, share = problem.targets.joint - of_label, 1.0 / len(found.levels)
    levels: dict[str, Level] = {}
    added = np.zeros(rest.shape)
    for number, tasks in enumerate(found.levels):
        if not tasks.tasks:
            continue
        level, foreseen = fit_level(tasks.task, tasks.members, tasks.sharpness, rest, problem.ridge, training.folds)
        levels[level_name(number)] = replace(level, table=level.table * np.float32(share))
        added += share * foreseen
    return levels, _describe(problem, found), added


def _describe(problem: Problem, found: Discovery) -> Discovered | None:
    training, best = problem.training, found.best
    if not best.tasks:
        return None
    prompts, targets = training.outcomes.prompts, problem.targets
    facts = describe_tasks(
        training.outcomes.texts,
        [prompt.id for prompt in prompts],
        [prompt.task for prompt in prompts],
        best.task,
        task_nearness(problem.features, task_centres(best.task, problem.features, best.tasks), best.task),
        candidate_sets(best.members, training.outcomes.score, TaskAwareSettings().coverage),
        None,
    )
    apart = shrunken_table(best.members, targets.joint).mean
    quality = np.clip(targets.mean + apart[:, :1] + apart[:, 1:], 0.0, 1.0)
    return Discovered(level_name(found.main), facts, _floats(quality))


def _unit(vectors: Floats) -> Floats:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1.0), dtype=np.float32)


def _floats(array: NDArray[Any]) -> Floats:
    return np.asarray(array, dtype=np.float32)

"""Fits the fused strategy: each component with what it foresees of inner folds, and from those how they are joined.

Components are a linear and a kernel smoother, networks that foresee answers (arXiv 2510.19506, in a latent form of our own), and shrunken
tables of labels and of discovered tasks (arXiv 2603.19415, its first stage). It must not know files or encoders.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foresail_router.features.lexical import STRUCTURE
from foresail_router.strategies.base import Array, Progress, TrainingSet
from foresail_router.strategies.fused.memberships import Level, fit_level, label_groups
from foresail_router.strategies.fused.parts import Joint, Linear, Parts, deviations
from foresail_router.strategies.fused.settings import FusedSettings
from foresail_router.strategies.fused.smoother import Smoother, fit_smoother
from foresail_router.strategies.lookahead.network import Networks
from foresail_router.strategies.task_aware.discovery import discover, routed_score, task_centres
from foresail_router.strategies.task_aware.fit import fit_doubt, fit_lengths, task_nearness
from foresail_router.strategies.task_aware.mixing import fit_scale
from foresail_router.strategies.task_aware.ridge import FoldedRidge
from foresail_router.strategies.task_aware.settings import TaskAwareSettings
from foresail_router.strategies.task_aware.tables import candidate_sets
from foresail_router.strategies.task_aware.targets import Targets, split_score
from foresail_router.strategies.task_aware.tasks import TaskFacts, describe_tasks
from foresail_router.strategies.views import fit_view

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Problem:
    """The training side in the forms that components learn from."""

    training: TrainingSet
    view: Floats
    features: Floats
    ridge: FoldedRidge
    targets: Targets
    settings: FusedSettings
    seed: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class _Tables:
    """The task component's levels, and what a person is shown of the discovered tasks."""

    levels: dict[str, Level]
    tasks: tuple[TaskFacts, ...]


def fit_parts(training: TrainingSet, settings: FusedSettings, *, seed: int, progress: Progress) -> Parts:
    """Return a fitted strategy's parts; raises `ValueError` when the prompts cannot be learned from."""
    view = fit_view(training)
    raw = view.apply(training.features)
    centre = raw.mean(axis=0)
    size = float(1.0 / np.sqrt(max(float(np.square(raw - centre).sum(axis=1).mean()), 1e-12)))
    features = ((raw - centre) * np.float32(size)).astype(np.float32)
    ridge = FoldedRidge(features, training.folds)
    score = training.outcomes.score
    targets = split_score(score, lambda ease: ridge.cross_fit(ease, settings.penalty))
    problem = _Problem(training, raw, features, ridge, targets, settings, seed, progress)
    foreseen: dict[str, Array] = {}
    linear = _fit_linear(problem, foreseen)
    smoother = _fit_smoother(problem, foreseen)
    networks = _fit_networks(problem, foreseen)
    tables = _fit_tables(problem, foreseen)
    progress("calibrating")
    mixed = np.mean(list(foreseen.values()), axis=0)
    scale = np.array([fit_scale(targets.ease, mixed[:, :1]), fit_scale(targets.advantage, mixed[:, 1:])])
    quality = targets.mean + scale[0] * mixed[:, :1] + scale[1] * mixed[:, 1:]
    known = np.isfinite(score)
    noise = np.square(np.where(known, score - quality, 0.0)).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return Parts(
        view,
        centre,
        size,
        linear,
        smoother,
        networks,
        tables.levels,
        Joint(_floats(targets.mean), _floats(scale)),
        fit_doubt(features, noise, known, settings.penalty),
        fit_lengths(training, ridge, features.shape[1]),
        tables.tasks,
        {f"utility.{name}": routed_score(score, targets.mean + part[:, 1:]) for name, part in foreseen.items()}
        | {"utility": routed_score(score, quality)},
    )


def _fit_linear(problem: _Problem, foreseen: dict[str, Array]) -> Linear | None:
    if "linear" not in problem.settings.components:
        return None
    joint, penalty = problem.targets.joint, problem.settings.penalty
    foreseen["linear"] = problem.ridge.cross_fit(joint, penalty)
    return Linear(*(_floats(part) for part in problem.ridge.fit(joint, penalty)))


def _fit_smoother(problem: _Problem, foreseen: dict[str, Array]) -> Smoother | None:
    if "neighbours" not in problem.settings.components:
        return None
    problem.progress("looking at neighbours")
    smoother, foreseen["neighbours"] = fit_smoother(
        problem.features, problem.targets.joint, problem.training.folds, problem.settings.neighbours
    )
    return smoother


def _fit_networks(problem: _Problem, foreseen: dict[str, Array]) -> Networks | None:
    settings, training = problem.settings, problem.training
    if "networks" not in settings.components:
        return None
    from foresail_router.strategies.lookahead import latent_fit
    from foresail_router.strategies.lookahead.targets import answer_targets

    chosen = latent_fit.LatentSettings(hidden=settings.hidden, epochs=settings.epochs, learning_rates=(0.002,))
    figures = None
    if settings.answers and training.answers is not None:
        figures = answer_targets(training.answers, chosen.target, latent_fit.FIGURES)
    score = training.outcomes.score
    networks, unseen, _ = latent_fit.fit_networks(
        latent_fit.Problem(problem.view, score, figures, training.folds),
        chosen,
        seed=problem.seed,
        progress=problem.progress,
    )
    foreseen["networks"] = deviations(unseen, problem.targets.mean)
    return networks


def _fit_tables(problem: _Problem, foreseen: dict[str, Array]) -> _Tables:
    settings, training, targets = problem.settings, problem.training, problem.targets
    if "tasks" not in settings.components:
        return _Tables({}, ())
    levels: dict[str, Level] = {}
    rest, total = targets.joint, np.zeros(targets.joint.shape)
    if settings.labels:
        group = label_groups([prompt.task for prompt in training.outcomes.prompts])
        total = _add_level("labels", group, rest, problem, levels)
        rest = rest - total
    tasks: tuple[TaskFacts, ...] = ()
    if settings.discovered:
        found = discover(
            training,
            _unit(problem.view[:, : problem.view.shape[1] - STRUCTURE]),
            targets,
            problem.ridge,
            TaskAwareSettings(),
            seed=problem.seed,
            progress=problem.progress,
        )
        # Each resolution's table says how its tasks differ from what the labels say; their mean is steadier than any of them.
        share = 1.0 / len(found.levels)
        parts = [
            _add_level(f"discovered{number}", level.task, rest, problem, levels, share=share)
            for number, level in enumerate(found.levels)
        ]
        total = total + np.sum(parts, axis=0)
        tasks = _describe(problem, found.best.task, found.best.members)
    if levels:
        foreseen["tasks"] = total
    return _Tables(levels, tasks)


def _add_level(
    name: str,
    group: NDArray[np.int64],
    rest: Array,
    problem: _Problem,
    levels: dict[str, Level],
    *,
    share: float = 1.0,
) -> Array:
    """Fit a level on what the levels above leave, add it with its share, and return what it foresees of inner folds."""
    fitted = fit_level(group, rest, problem.ridge, problem.training.folds)
    if fitted is None:
        return np.zeros(rest.shape)
    level, foreseen = fitted
    levels[name] = replace(level, table=level.table * np.float32(share))
    return share * foreseen


def _describe(problem: _Problem, task: NDArray[np.int64], members: Array) -> tuple[TaskFacts, ...]:
    outcomes = problem.training.outcomes
    tasks = members.shape[1]
    return describe_tasks(
        outcomes.texts,
        [prompt.id for prompt in outcomes.prompts],
        [prompt.task for prompt in outcomes.prompts],
        task,
        task_nearness(problem.features, task_centres(task, problem.features, tasks), task),
        candidate_sets(members, outcomes.score, TaskAwareSettings().coverage),
        np.ones(tasks),
    )


def _unit(vectors: Floats) -> Floats:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1.0), dtype=np.float32)


def _floats(array: NDArray[Any]) -> Floats:
    return np.asarray(array, dtype=np.float32)

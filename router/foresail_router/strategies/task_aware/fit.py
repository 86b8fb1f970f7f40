"""Fits task-aware routing: targets, tasks, classifier, scores, experts, alphas and lengths, each from cross-fitted figures.

It must not know files or encoders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foresail_router.features.lexical import STRUCTURE
from foresail_router.strategies.base import Array, Progress, TrainingSet
from foresail_router.strategies.task_aware.classifier import TaskClassifier
from foresail_router.strategies.task_aware.discovery import (
    CLASSIFIER_PENALTY,
    Discovery,
    Level,
    cross_fitted_table,
    discover,
    nothing_found,
    one_hot,
    routed_score,
    task_centres,
    task_nearness,
)
from foresail_router.strategies.task_aware.doubt import fit_doubt
from foresail_router.strategies.task_aware.experts import Experts, Floats
from foresail_router.strategies.task_aware.experts_fit import ExpertData, train_experts
from foresail_router.strategies.task_aware.mixing import cautious_share, fit_alphas, fit_scale
from foresail_router.strategies.task_aware.ridge import FoldedRidge
from foresail_router.strategies.task_aware.settings import TaskAwareSettings
from foresail_router.strategies.task_aware.strategy import Mixture, Parts
from foresail_router.strategies.task_aware.tables import candidate_sets, shrunken_table
from foresail_router.strategies.task_aware.targets import Targets, split_score
from foresail_router.strategies.task_aware.tasks import describe_tasks
from foresail_router.strategies.task_aware.token_lengths import fit_lengths
from foresail_router.strategies.views import fit_view

_QUALITY_PENALTIES = (10.0, 30.0, 100.0, 300.0)
_LEAST_MEMBERSHIPS = (0.0, 0.2, 0.35, 0.5)
# One of a hundred training prompts is as far from every task as a prompt of none.
_FAR_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class _Estimates:
    """Cross-fitted deviations (prompts x 1 + models): the experts' and the tasks' own."""

    own: Array
    of_task: Array


def fit_parts(training: TrainingSet, settings: TaskAwareSettings, *, seed: int, progress: Progress) -> Parts:
    """Return a fitted strategy's parts; raises `ValueError` when the prompts cannot be learned from, or descriptions are missing."""
    view = fit_view(training)
    raw = view.apply(training.features)
    centre = raw.mean(axis=0)
    size = float(1.0 / np.sqrt(max(float(np.square(raw - centre).sum(axis=1).mean()), 1e-12)))
    features = ((raw - centre) * np.float32(size)).astype(np.float32)
    ridge = FoldedRidge(features, training.folds)
    score = training.outcomes.score
    targets = split_score(score, lambda ease: ridge.cross_fit(ease, _QUALITY_PENALTIES[1]))
    if settings.stages == "experts":
        found = nothing_found(len(score))
    else:
        found = discover(
            training, _vectors(training, raw, settings), targets, ridge, settings, seed=seed, progress=progress
        )
    candidates = candidate_sets(found.best.members, score, settings.coverage)
    progress("training experts")
    penalty = ridge.best_penalty(targets.advantage, _QUALITY_PENALTIES)
    experts, own = _fit_experts(training, features, targets, found, candidates, ridge, penalty, settings, seed)
    of_task = np.mean(
        [cross_fitted_table(level.members, targets.joint, training.folds) for level in found.levels], axis=0
    )
    progress("calibrating")
    least, alpha, alphas = _fit_mixture(targets, found.best, _Estimates(own, of_task), settings)
    mixed = _mix(own, of_task, found.best.members, alphas, least)
    tables = [shrunken_table(level.members, targets.joint) for level in found.levels]
    scores, scores_std = (np.concatenate([getattr(table, part) for table in tables]) for part in ("mean", "std"))
    scale = [fit_scale(targets.ease, mixed[:, :1]), fit_scale(targets.advantage, mixed[:, 1:])]
    scale[1] *= cautious_share(score, targets.mean, scale[1] * mixed[:, 1:])
    classifier = _fit_classifier(features, found, ridge, least)
    known = np.isfinite(score)
    quality = targets.mean + scale[0] * mixed[:, :1] + scale[1] * mixed[:, 1:]
    noise = np.square(np.where(known, score - quality, 0.0)).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    prompts = training.outcomes.prompts
    nearness = task_nearness(features, classifier.centres, found.best.task)
    return Parts(
        view,
        centre,
        size,
        classifier,
        experts,
        Mixture(*(_floats(part) for part in (scores, scores_std, alphas, targets.mean, np.array(scale)))),
        fit_doubt(features, noise, known, penalty),
        fit_lengths(training.outcomes, ridge, features.shape[1]),
        describe_tasks(
            training.outcomes.texts,
            [prompt.id for prompt in prompts],
            [prompt.task for prompt in prompts],
            found.best.task,
            nearness,
            candidates,
            alphas,
        ),
        {
            "alpha": alpha,
            "resolution": found.best.resolution,
            "task_utility": found.best.utility,
            "utility": routed_score(score, quality),
        },
    )


def _vectors(training: TrainingSet, raw: Floats, settings: TaskAwareSettings) -> Floats:
    """Return what the graph sees of each prompt, of unit length: embedding and latent semantics, or its description's embedding."""
    descriptions = training.descriptions
    if settings.texts == "descriptions" and descriptions is None:
        raise ValueError("there are no task descriptions: write them with `foresail describe` and name them")
    if settings.texts == "prompts" or descriptions is None:
        seen = raw[:, : raw.shape[1] - STRUCTURE].copy()
    else:
        prompts = np.asarray(training.features.embeddings, dtype=np.float32)
        seen = np.where(descriptions.known[:, None], np.asarray(descriptions.vectors, dtype=np.float32), prompts)
    length = np.linalg.norm(seen, axis=1, keepdims=True)
    return np.asarray(seen / np.where(length > 0, length, 1.0), dtype=np.float32)


def _fit_experts(
    training: TrainingSet,
    features: Floats,
    targets: Targets,
    found: Discovery,
    candidates: NDArray[np.bool_],
    ridge: FoldedRidge,
    penalty: float,
    settings: TaskAwareSettings,
    seed: int,
) -> tuple[Experts, Array]:
    """Return the experts of all prompts, and what experts of the other folds foresee of each prompt."""
    # Ease is every model's, so every task's head may change it.
    heads = np.concatenate([np.ones((len(candidates), 1), dtype=np.bool_), candidates], axis=1)
    joint, members = targets.joint, found.best.members
    own = np.zeros(joint.shape)
    for fold in ridge.numbers:
        rest = training.folds != fold
        data = ExpertData(features[rest], joint[rest], members[rest])
        start = ridge.fit(joint, penalty, without=int(fold))
        experts = train_experts(data, start, heads, rank=settings.rank, seed=seed)
        for row in np.flatnonzero(~rest):
            own[row] = experts.foresee(features[row], members[row])
    data = ExpertData(features, joint, members)
    return train_experts(data, ridge.fit(joint, penalty), heads, rank=settings.rank, seed=seed), own


def _fit_mixture(
    targets: Targets, found: Level, estimates: _Estimates, settings: TaskAwareSettings
) -> tuple[float, float, Array]:
    """Return the least membership of a task that is believed, alpha over all, and alphas per task."""
    if not found.tasks:
        return 0.0, 1.0, np.zeros(0)
    if settings.stages == "tasks":
        return 0.0, 0.0, np.zeros(found.tasks)
    best: tuple[float, float, float, Array] | None = None
    for least in _LEAST_MEMBERSHIPS:
        fits = found.members.max(axis=1) >= least
        alpha, alphas = fit_alphas(
            targets.advantage[fits], estimates.own[fits, 1:], estimates.of_task[fits, 1:], found.members[fits]
        )
        mixed = _mix(estimates.own, estimates.of_task, found.members, alphas, least)
        error = round(float(np.nansum(np.square(targets.advantage - mixed[:, 1:]))), 6)
        if best is None or error < best[0]:
            best = (error, least, alpha, alphas)
    if best is None:
        raise AssertionError("at least one bound is tried")
    return best[1:]


def _mix(own: Array, of_task: Array, members: Array, alphas: Array, least: float) -> Array:
    if not members.shape[1]:
        return own
    alpha = np.where(members.max(axis=1) >= least, members @ alphas, 1.0)[:, None]
    return alpha * own + (1.0 - alpha) * of_task


def _fit_classifier(features: Floats, found: Discovery, ridge: FoldedRidge, least: float) -> TaskClassifier:
    fitted = [ridge.fit(one_hot(level.task, level.tasks), CLASSIFIER_PENALTY) for level in found.levels]
    centres = task_centres(found.best.task, features, found.best.tasks)
    least_cosine = -1.0
    if found.best.tasks:
        lengths = np.maximum(np.linalg.norm(features, axis=1), 1e-12)
        least_cosine = float(np.quantile((features @ centres.T).max(axis=1) / lengths, _FAR_SHARE))
    return TaskClassifier(
        _floats(np.concatenate([weights for weights, _ in fitted], axis=1)),
        _floats(np.concatenate([bias for _, bias in fitted])),
        centres,
        tuple(level.tasks for level in found.levels),
        tuple(level.sharpness for level in found.levels),
        found.main,
        least_cosine,
        least,
    )


def _floats(array: NDArray[Any]) -> Floats:
    return np.asarray(array, dtype=np.float32)

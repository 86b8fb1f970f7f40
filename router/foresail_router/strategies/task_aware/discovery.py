"""Which tasks there are: communities at several resolutions, and the one whose tasks route best off-fold. For training alone.

A resolution is judged as a task will be used: prompts are assigned by a classifier that never saw their fold, and are routed by what
the models scored on the tasks in other folds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import Array, Progress, TrainingSet
from foresail_router.strategies.task_aware.classifier import sharpen
from foresail_router.strategies.task_aware.communities import (
    NONE,
    Edges,
    community_centres,
    kmeans_communities,
    leiden_communities,
    mutual_edges,
    settle_small,
    weigh_edges,
)
from foresail_router.strategies.task_aware.neighbours import find_neighbours, smoothed_quality
from foresail_router.strategies.task_aware.rankings import tied_ranks
from foresail_router.strategies.task_aware.ridge import FoldedRidge
from foresail_router.strategies.task_aware.settings import TaskAwareSettings
from foresail_router.strategies.task_aware.tables import shrunken_table
from foresail_router.strategies.task_aware.targets import Targets, is_flat

CLASSIFIER_PENALTY = 1.0
SHARPNESSES = (8.0, 16.0, 32.0, 64.0)
# Two models whose smoothed quality differs by less are equally good on prompts like this.
_TIE = 0.02
_PRIOR_PROMPTS = 10.0
_SMALLEST_TASK = 20
_SMALLEST_SHARE = 0.05
# Prompts whose cosine to the nearest task's centre is lower belong to none.
_JOINS_FROM = 0.2
# k-means knows no resolution: so many clusters for resolution 1.
_CLUSTERS_AT_ONE = 32


@dataclass(frozen=True, slots=True)
class Level:
    """The tasks of one resolution: each prompt's (`NONE` for no task), and its cross-fitted memberships (prompts x tasks, rows sum to 1).

    `utility` is the mean score of routing by what the tasks of other folds say of each advantage.
    """

    task: NDArray[np.int64]
    members: Array
    sharpness: float
    resolution: float
    utility: float

    @property
    def tasks(self) -> int:
        """How many tasks there are."""
        return int(self.members.shape[1])


@dataclass(frozen=True, slots=True)
class Discovery:
    """Levels from coarse to fine, all of which have scores, and which of them routes best; that one's tasks are the tasks as such."""

    levels: tuple[Level, ...]
    main: int

    @property
    def best(self) -> Level:
        """The level that routes best."""
        return self.levels[self.main]


def discover(
    training: TrainingSet,
    vectors: NDArray[np.float32],
    targets: Targets,
    ridge: FoldedRidge,
    settings: TaskAwareSettings,
    *,
    seed: int,
    progress: Progress,
) -> Discovery:
    """Return the tasks that the settings allow; `vectors` (prompts x width, unit length) are what the graph sees. None may be found."""
    levels = [
        _judge(community, resolution, training, targets, ridge)
        for resolution, community in _communities(training, vectors, settings, seed=seed, progress=progress)
        if (community != NONE).any()
    ]
    if not levels:
        progress("no tasks found")
        return nothing_found(len(vectors))
    # Among equals the coarser tasks, which come first: rounded, so that the last bits of a sum never decide.
    main = max(range(len(levels)), key=lambda number: (round(levels[number].utility, 6), -number))
    progress(f"{levels[main].tasks} tasks found")
    return Discovery(tuple(levels), main)


def nothing_found(prompts: int) -> Discovery:
    """Return a discovery without tasks."""
    return Discovery((Level(np.full(prompts, NONE, dtype=np.int64), np.zeros((prompts, 0)), 1.0, 0.0, 0.0),), 0)


def cross_fitted_table(members: Array, values: Array, folds: NDArray[np.int64]) -> Array:
    """Return what the tasks' shrunken table of the other folds foresees of each prompt's values (prompts x columns)."""
    foreseen = np.zeros(values.shape)
    for fold in np.unique(folds):
        held_out = folds == fold
        table = shrunken_table(members[~held_out], values[~held_out])
        foreseen[held_out] = members[held_out] @ table.mean
    return foreseen


def routed_score(score: Array, estimate: Array) -> float:
    """Return the mean score of the model of highest estimate, among those whose score on the prompt is known."""
    known = np.isfinite(score)
    rows = known.any(axis=1)
    choice = np.where(known, estimate, -np.inf)[rows].argmax(axis=1)
    return float(score[rows][np.arange(len(choice)), choice].mean())


def one_hot(task: NDArray[np.int64], tasks: int) -> Array:
    """Return 1 for each prompt's task and 0 for others (prompts x tasks); NaN throughout for a prompt of no task."""
    targets = np.zeros((len(task), tasks))
    member = task != NONE
    targets[np.flatnonzero(member), task[member]] = 1.0
    targets[~member] = np.nan
    return targets


def _communities(
    training: TrainingSet, vectors: NDArray[np.float32], settings: TaskAwareSettings, *, seed: int, progress: Progress
) -> Iterator[tuple[float, NDArray[np.int64]]]:
    smallest = max(3, min(_SMALLEST_TASK, round(_SMALLEST_SHARE * len(vectors))))
    if settings.communities == "labels":
        yield 1.0, settle_small(_labels(training), vectors, smallest=1, nearest_cosine=np.inf)
        return
    edges = _edges(training, vectors, settings, progress) if settings.communities == "leiden" else None
    for resolution in sorted(settings.resolutions):
        if edges is None:
            clusters = max(1, min(round(_CLUSTERS_AT_ONE * resolution), len(vectors) // smallest))
            community = kmeans_communities(vectors, clusters, seed=seed)
        else:
            community = leiden_communities(edges, len(vectors), resolution=resolution, seed=seed)
        yield resolution, settle_small(community, vectors, smallest=smallest, nearest_cosine=_JOINS_FROM)


def _edges(
    training: TrainingSet, vectors: NDArray[np.float32], settings: TaskAwareSettings, progress: Progress
) -> Edges:
    progress("looking for neighbours")
    neighbours = find_neighbours(vectors, max(settings.neighbours, settings.smoothing))
    score = training.outcomes.score
    smoothed = smoothed_quality(neighbours, score, training.folds, prior_prompts=_PRIOR_PROMPTS)
    progress("discovering tasks")
    edges = mutual_edges(neighbours, settings.neighbours)
    return weigh_edges(edges, tied_ranks(smoothed, _TIE), is_flat(score), settings.beta)


def _judge(
    community: NDArray[np.int64], resolution: float, training: TrainingSet, targets: Targets, ridge: FoldedRidge
) -> Level:
    tasks = int(community.max()) + 1
    score, folds = training.outcomes.score, training.folds
    raw = ridge.cross_fit(one_hot(community, tasks), CLASSIFIER_PENALTY)
    best: tuple[float, float, Array, Array] | None = None
    for sharpness in SHARPNESSES:
        members = sharpen(raw, sharpness)
        foreseen = cross_fitted_table(members, targets.advantage, folds)
        error = float(np.nansum(np.square(targets.advantage - foreseen)))
        if best is None or error < best[0]:
            best = (error, sharpness, members, foreseen)
    if best is None:
        raise AssertionError("at least one sharpness is tried")
    _, sharpness, members, foreseen = best
    return Level(community, members, sharpness, resolution, routed_score(score, targets.mean + foreseen))


def _labels(training: TrainingSet) -> NDArray[np.int64]:
    """Return the number of each prompt's known label, in the order of their names; `NONE` where there is none."""
    labels = [prompt.task for prompt in training.outcomes.prompts]
    numbers = {label: number for number, label in enumerate(sorted({label for label in labels if label is not None}))}
    return np.array([NONE if label is None else numbers[label] for label in labels], dtype=np.int64)


def task_centres(task: NDArray[np.int64], features: NDArray[Any], tasks: int) -> NDArray[np.float32]:
    """Return the mean direction of each task's features (tasks x width)."""
    return community_centres(task, features, tasks).astype(np.float32)


def task_nearness(features: NDArray[np.float32], centres: NDArray[np.float32], task: NDArray[np.int64]) -> Array:
    """Return the cosine of each prompt's features (prompts x width) to the centre of its own task (tasks x width, unit length).

    It is 0 without tasks, and of no meaning for a prompt of none.
    """
    if not len(centres):
        return np.zeros(len(features))
    lengths = np.maximum(np.linalg.norm(features, axis=1), 1e-12)
    return np.asarray((features * centres[np.maximum(task, 0)]).sum(axis=1) / lengths, dtype=np.float64)

"""What each model scores on each task, shrunk to what it scores in general, and the few models that cover a task. Pure functions.

A task is a column of soft memberships (prompts x tasks); they must not know how tasks were found or how prompts are assigned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_LEAST_VARIANCE = 1e-6


@dataclass(frozen=True, slots=True)
class TaskTable:
    """Per task (rows) and column of a target: the shrunken mean, and the standard deviation of what is not known of it."""

    mean: Array
    std: Array


def shrunken_table(members: Array, values: Array, prior: Array | None = None) -> TaskTable:
    """Return each task's mean of `values` (prompts x columns, NaN where unknown), shrunk to `prior` (tasks x columns, or 0).

    Shrinkage is empirical Bayes for each column: as far as the tasks' means differ by no more than chance, they are drawn to the prior.
    """
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    count = members.T @ known.astype(np.float64)
    safe = np.maximum(count, 1e-9)
    base = np.zeros(count.shape) if prior is None else prior
    distance = (members.T @ filled) / safe - base
    distance = np.where(count > 0, distance, 0.0)
    residual = np.where(known, filled - members @ (base + distance), 0.0)
    noise = np.square(residual).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    total = np.maximum(count.sum(axis=0), 1e-9)
    # A task of n prompts has a mean that lies noise / n from the truth by chance alone, so all of them together noise * tasks / total.
    by_chance = noise * (count > 0).sum(axis=0) / total
    between = np.maximum((count * np.square(distance)).sum(axis=0) / total - by_chance, _LEAST_VARIANCE)
    spread = between / (between + noise / safe)
    return TaskTable(base + spread * distance, np.sqrt(between * (1.0 - spread)))


def candidate_sets(members: Array, score: Array, coverage: float) -> NDArray[np.bool_]:
    """Return per task (rows) which models are its candidates: the fewest, added greedily, that hold a best answer to enough prompts.

    `coverage` is the share of the task's prompts; prompts on which all models are equal prefer none and are left out. A task without
    any other prompt has all models.
    """
    known = np.isfinite(score)
    best = np.where(known, score, -np.inf).max(axis=1, keepdims=True)
    worst = np.where(known, score, np.inf).min(axis=1, keepdims=True)
    prefers = (best - worst)[:, 0] > 1e-9
    preferred = (known & (score >= best - 1e-9))[prefers]
    sets = np.zeros((members.shape[1], score.shape[1]), dtype=np.bool_)
    for task, weight in enumerate(members[prefers].T):
        if weight.sum() <= 1e-9:
            sets[task] = True
            continue
        sets[task] = _cover(preferred, weight, coverage)
    return sets


def _cover(preferred: NDArray[np.bool_], weight: Array, coverage: float) -> NDArray[np.bool_]:
    chosen = np.zeros(preferred.shape[1], dtype=np.bool_)
    left, wanted = weight.copy(), coverage * weight.sum()
    while weight.sum() - left.sum() < wanted - 1e-9:
        gain = left @ preferred
        chosen[gain.argmax()] = True
        left = np.where(preferred[:, gain.argmax()], 0.0, left)
    return chosen

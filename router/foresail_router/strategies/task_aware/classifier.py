"""Assigns a prompt to tasks without outcomes, and abstains where none fits. Applying it is numpy alone.

It must not know what models score on a task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TaskClassifier:
    """Linear scores of a prompt's features (width x tasks of all levels), sharpened to memberships level by level.

    A level is a set of tasks at one resolution: `sizes` says how many, `sharpness` how sharply they are told apart. Those of level `main`
    are the tasks as such, and `centres` are their mean directions (tasks x width): a prompt farther from all of them than `least_cosine`,
    or of which no membership reaches `least_membership`, is of no task.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    centres: NDArray[np.float32]
    sizes: tuple[int, ...]
    sharpness: tuple[float, ...]
    main: int
    least_cosine: float
    least_membership: float

    @property
    def tasks(self) -> int:
        """How many tasks the main level has."""
        return len(self.centres)

    def assign(self, features: NDArray[np.float32]) -> tuple[Array, Array]:
        """Return one prompt's memberships in tasks, and in those of all levels together; each sums to 1, or is all 0 where no task fits."""
        if not self.tasks:
            return np.zeros(0), np.zeros(len(self.bias))
        scores = features @ self.weights + self.bias
        parts = np.split(scores, np.cumsum(self.sizes)[:-1])
        levels = [sharpen(part[None], sharp)[0] for part, sharp in zip(parts, self.sharpness, strict=True)]
        of_task = levels[self.main]
        length = float(np.sqrt(features @ features))
        cosine = float((self.centres @ features).max()) / length if length > 0 else -1.0
        if cosine < self.least_cosine or of_task.max() < self.least_membership:
            return np.zeros(self.tasks), np.zeros(len(self.bias))
        return of_task, np.concatenate(levels) / len(levels)


def sharpen(scores: NDArray[np.floating[Any]], sharpness: float) -> Array:
    """Return the softmax of `sharpness` times the scores (prompts x tasks)."""
    scaled = sharpness * np.asarray(scores, dtype=np.float64)
    raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: Array = raised / raised.sum(axis=1, keepdims=True)
    return shares

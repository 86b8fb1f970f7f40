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
    """Linear scores of a prompt's features (width x tasks), sharpened to memberships.

    `centres` are the tasks' mean directions (tasks x width): a prompt farther from all of them than `least_cosine`, or of which no
    membership reaches `least_membership`, is of no task.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    centres: NDArray[np.float32]
    sharpness: float
    least_cosine: float
    least_membership: float

    @property
    def tasks(self) -> int:
        """How many tasks there are."""
        return len(self.bias)

    def memberships(self, features: NDArray[np.float32]) -> Array:
        """Return the memberships of one prompt (features of length width), which sum to 1, or are all 0 where no task fits."""
        if not self.tasks:
            return np.zeros(0)
        length = float(np.sqrt(features @ features))
        cosine = float((self.centres @ features).max()) / length if length > 0 else -1.0
        shares: Array = sharpen((features @ self.weights + self.bias)[None], self.sharpness)[0]
        if cosine < self.least_cosine or shares.max() < self.least_membership:
            return np.zeros(self.tasks)
        return shares


def sharpen(scores: NDArray[np.floating[Any]], sharpness: float) -> Array:
    """Return the softmax of `sharpness` times the scores (prompts x tasks)."""
    scaled = sharpness * np.asarray(scores, dtype=np.float64)
    raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: Array = raised / raised.sum(axis=1, keepdims=True)
    return shares

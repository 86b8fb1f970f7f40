"""Weighted evidence from nearest neighbours: pure functions of similarities and of what the neighbours' outcomes were.

They must not know quality, lengths or models: a target is a matrix of values, some of them unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
NEAREST = 10


@dataclass(frozen=True, slots=True)
class Kernel:
    """How neighbours are weighted for one target.

    `neighbours` are looked at; `temperature` is the fall in cosine over which a weight falls by e; `shrinkage` is how many equal
    neighbours the prior counts for.
    """

    neighbours: int
    temperature: float
    shrinkage: float


@dataclass(frozen=True, slots=True)
class Alikeness:
    """From which mean cosine of its nearest neighbours a prompt is like those known (`alike`), and up to which it is not (`unlike`)."""

    unlike: float
    alike: float

    def of(self, similarity: Array) -> Array:
        """Return 1 for prompts whose nearest neighbours (prompts x k, nearest first) are alike, 0 for unlike ones, linear between."""
        nearest = similarity[:, :NEAREST].mean(axis=1)
        share: Array = np.clip((nearest - self.unlike) / (self.alike - self.unlike), 0.0, 1.0)
        return share


@dataclass(frozen=True, slots=True)
class Evidence:
    """What neighbours say of prompts (rows) on a target (columns): its mean and mean square, `count` equal neighbours' worth of them.

    `share` is how far that is to be believed against the prior, from 0 (no, or unlike, neighbours) to 1.
    """

    mean: Array
    square: Array
    count: Array
    share: Array


def kernel_weights(similarity: Array, temperature: float) -> Array:
    """Return the weights of each row's neighbours, which sum to 1 (uniform where all are equally near).

    The farthest one's weight is taken off all: so estimates are continuous in the prompt, and equals do not compete at the edge.
    """
    raw = np.exp((similarity - similarity.max(axis=1, keepdims=True)) / temperature)
    raw = raw - raw.min(axis=1, keepdims=True)
    total = raw.sum(axis=1, keepdims=True)
    weights: Array = np.where(total > 0, raw / np.where(total > 0, total, 1.0), 1.0 / similarity.shape[1])
    return weights


def weigh(
    kernel: Kernel, similarity: Array, alikeness: Array, values: Floats, known: Floats, squares: Floats | None = None
) -> Evidence:
    """Return the evidence of the nearest neighbours.

    `similarity` is prompts x k, nearest first, with k at least `kernel.neighbours`; `values` (0 where unknown), `known` (1 or 0) and
    `squares` are prompts x k x columns; `alikeness` has one entry per prompt. Without `squares` the evidence's are 0.
    """
    weights = kernel_weights(similarity[:, : kernel.neighbours], kernel.temperature)
    total, weight = _sums(weights, values, kernel), _sums(weights, known, kernel)
    present = weight > 0
    weight_or_one = np.where(present, weight, 1.0)
    count = np.square(weight) / np.where(present, _sums(np.square(weights), known, kernel), 1.0)
    square = np.zeros_like(total) if squares is None else _sums(weights, squares, kernel) / weight_or_one
    return Evidence(total / weight_or_one, square, count, believed(count, alikeness, kernel.shrinkage))


def believed(count: Array, alikeness: Array, shrinkage: float) -> Array:
    """Return how far so many equal neighbours are to be believed against the prior."""
    share: Array = alikeness[:, None] * count / (count + shrinkage)
    return share


def _sums(weights: Array, values: Floats, kernel: Kernel) -> Array:
    sums: Array = np.matmul(weights[:, None, :], values[:, : kernel.neighbours])[:, 0, :]
    return sums

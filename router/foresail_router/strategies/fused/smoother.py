"""Kernel smoothing over the nearest training prompts, in a reduced view: applied with numpy, one prompt at a time.

It must not know what the smoothed targets mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
WIDTH = 64
_TEMPERATURES = (0.1, 0.2, 0.4)
# Unknown targets count as 0, the usual value, for as much as this share of all weight.
_PRIOR_WEIGHT = 0.02
_BLOCK_ROWS = 512


@dataclass(frozen=True, slots=True)
class Smoother:
    """`directions` (features x reduced width) reduce a prompt's features; `points` (training prompts x reduced width, unit length) are compared.

    `values` (training prompts x columns) hold targets, 0 where unknown, with `known` 1 or 0; the `neighbours` nearest points weigh by
    their cosine over `temperature`.
    """

    directions: Floats
    points: Floats
    values: Floats
    known: Floats
    neighbours: int
    temperature: float

    def foresee(self, reduced: Floats) -> Array:
        """Return the smoothed targets of one prompt's features along the `directions`."""
        length = math.sqrt(reduced @ reduced)
        cosine = self.points @ (reduced / np.float32(length if length > 0 else 1.0))
        last = len(cosine) - self.neighbours
        chosen = cosine.argpartition(last)[last:] if last > 0 else np.arange(len(cosine))
        near = cosine.take(chosen)
        weights = np.exp((near - near.max()) / np.float32(self.temperature))
        total = weights @ self.values.take(chosen, axis=0)
        weight = weights @ self.known.take(chosen, axis=0)
        return np.asarray(total / (weight + _PRIOR_WEIGHT * weights.sum()), dtype=np.float64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `from_arrays` needs, under names of their own; half precision is enough to tell neighbours."""
        return {
            "smoother.directions": self.directions,
            "smoother.points": self.points.astype(np.float16),
            "smoother.values": self.values.astype(np.float16),
            "smoother.known": self.known.astype(np.uint8),
        }


def reduce(features: Floats) -> Floats:
    """Return the leading directions of features that are centred (features x at most `WIDTH`)."""
    square = features.astype(np.float64).T @ features.astype(np.float64)
    _, vectors = np.linalg.eigh(square)
    return np.ascontiguousarray(vectors[:, ::-1][:, :WIDTH], dtype=np.float32)


def fit_smoother(features: Floats, targets: Array, folds: NDArray[np.int64], neighbours: int) -> tuple[Smoother, Array]:
    """Return the smoother of all rows, at the temperature of least cross-fitted error, and what other folds say of each row.

    `targets` (prompts x columns) are NaN where unknown.
    """
    directions = reduce(features)
    points = features @ directions
    points = (points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)).astype(np.float16)
    points = points.astype(np.float32)
    known = np.isfinite(targets)
    values = np.where(known, targets, 0.0).astype(np.float16).astype(np.float32)
    foreseen = np.empty((len(_TEMPERATURES), *targets.shape))
    for start in range(0, len(points), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        cosine = points[rows] @ points.T
        cosine[folds[rows, None] == folds[None, :]] = -np.inf
        count = min(neighbours, int(np.isfinite(cosine).sum(axis=1).min()))
        chosen = np.argpartition(cosine, cosine.shape[1] - count, axis=1)[:, cosine.shape[1] - count :]
        near = np.take_along_axis(cosine, chosen, axis=1)
        near_values, near_known = values[chosen], known[chosen].astype(np.float32)
        for number, temperature in enumerate(_TEMPERATURES):
            weights = np.exp((near - near.max(axis=1, keepdims=True)) / np.float32(temperature))[:, None, :]
            weight = np.matmul(weights, near_known)[:, 0]
            prior = _PRIOR_WEIGHT * weights.sum(axis=2)
            foreseen[number, rows] = np.matmul(weights, near_values)[:, 0] / (weight + prior)
    errors = [round(float(np.nansum(np.square(targets[:, 1:] - part[:, 1:]))), 6) for part in foreseen]
    best = int(np.argmin(errors))
    smoother = Smoother(
        directions, points, values, known.astype(np.float32), min(neighbours, len(points)), _TEMPERATURES[best]
    )
    return smoother, foreseen[best]

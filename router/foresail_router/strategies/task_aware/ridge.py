"""Ridge regression of many targets on the same features, cross-fitted over folds from one factorisation each. For training alone.

It must not know what features or targets mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Linear = tuple[Array, Array]


@dataclass(frozen=True, slots=True)
class _Side:
    """Training rows outside one fold, and the eigendecomposition of their centred Gram matrix."""

    rows: NDArray[np.bool_]
    mean: Array
    values: Array
    vectors: Array

    def solve(self, features: Array, targets: Array, penalty: float) -> Linear:
        known = np.isfinite(targets[self.rows])
        counts = np.maximum(known.sum(axis=0), 1)
        filled = np.where(known, targets[self.rows], 0.0)
        centre = filled.sum(axis=0) / counts
        # An unknown target counts as the mean: it draws no weight anywhere, which shrinks targets of which little is known.
        residual = np.where(known, targets[self.rows] - centre, 0.0)
        product = (features[self.rows] - self.mean).T @ residual
        weights = self.vectors @ ((self.vectors.T @ product) / (self.values + penalty)[:, None])
        return weights, centre - self.mean @ weights


class FoldedRidge:
    """Features (prompts x width) with folds, factorised once; penalties are in units of prompts of usual length."""

    def __init__(self, features: NDArray[np.float32], folds: NDArray[np.int64]) -> None:
        """Factorise; raises `ValueError` when all prompts lie in one fold."""
        self._features = features.astype(np.float64)
        self._folds = folds
        numbers = np.unique(folds)
        if len(numbers) < 2:
            raise ValueError("all prompts of the training side lie in one fold")
        self.numbers = numbers
        parts = {int(number): folds == number for number in numbers}
        sums = {number: self._features[rows].sum(axis=0) for number, rows in parts.items()}
        grams = {number: self._features[rows].T @ self._features[rows] for number, rows in parts.items()}
        total, gram = np.sum(list(sums.values()), axis=0), np.sum(list(grams.values()), axis=0)
        self._whole = _factorise(np.ones(len(folds), dtype=np.bool_), total, gram)
        self._sides = {
            number: _factorise(~rows, total - sums[number], gram - grams[number]) for number, rows in parts.items()
        }

    def cross_fit(self, targets: Array, penalty: float) -> Array:
        """Return what the other folds foresee of each row's targets (prompts x columns, NaN where unknown)."""
        foreseen = np.empty(targets.shape)
        for side in self._sides.values():
            weights, bias = side.solve(self._features, targets, penalty)
            held_out = ~side.rows
            foreseen[held_out] = self._features[held_out] @ weights + bias
        return foreseen

    def fit(self, targets: Array, penalty: float, *, without: int | None = None) -> Linear:
        """Return weights (width x columns) and biases, of all rows or of those outside one fold."""
        side = self._whole if without is None else self._sides[without]
        return side.solve(self._features, targets, penalty)

    def best_penalty(self, targets: Array, penalties: tuple[float, ...]) -> float:
        """Return the penalty with the least cross-fitted squared error over all targets together."""
        errors = {
            penalty: float(np.nansum(np.square(targets - self.cross_fit(targets, penalty)))) for penalty in penalties
        }
        return min(errors, key=lambda penalty: round(errors[penalty], 6))


def _factorise(rows: NDArray[np.bool_], total: Array, gram: Array) -> _Side:
    count = int(rows.sum())
    mean = total / count
    values, vectors = np.linalg.eigh(gram - count * np.outer(mean, mean))
    return _Side(rows, mean, np.maximum(values, 0.0), vectors)

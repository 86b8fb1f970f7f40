"""Intervals by bootstrap over text groups: prompts of the same normalised text stay together, and comparisons are paired. Pure.

Each group's weights are Poisson draws that depend on its text alone, so the same text weighs the same in every pool and for every
router: differences are paired within a pool, and means over pools are resampled jointly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from foresail_router.data.splits import normalised

Array = NDArray[np.float64]
RESAMPLES = 2000
LEVEL = 0.95
_BLOCK = 250
_Name = TypeVar("_Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval; without bounds where none is worked out."""

    value: float
    low: float | None = None
    high: float | None = None


class Resamples:
    """Resampled means over some prompts. `groups` numbers the prompts' texts."""

    def __init__(self, texts: Sequence[str], *, resamples: int = RESAMPLES) -> None:
        keys = [normalised(text) for text in texts]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        self.groups = np.array([numbers[key] for key in keys], dtype=np.int64)
        self.resamples = resamples
        self._weights = np.empty((len(numbers), resamples), dtype=np.uint8)
        for key, number in numbers.items():
            self._weights[number] = _draws(key, resamples)

    def means(self, values: Array, rows: NDArray[np.bool_] | None = None) -> Array:
        """Return the resampled means of `values` (prompts, or prompts x columns): resamples, or resamples x columns.

        `rows` restricts the means to some prompts. A resample that draws none of them (tiny data) takes the plain mean.
        """
        table = values[:, None] if values.ndim == 1 else values
        kept = np.ones(len(table), dtype=np.bool_) if rows is None else rows
        present, numbers = np.unique(self.groups[kept], return_inverse=True)
        columns = [*table[kept].T, np.ones(np.count_nonzero(kept))]
        sums = np.stack([np.bincount(numbers, column) for column in columns], axis=1)
        weights = self._weights[present]
        means = np.empty((self.resamples, table.shape[1]))
        for start in range(0, self.resamples, _BLOCK):
            totals = weights[:, start : start + _BLOCK].T.astype(np.float64) @ sums
            drawn = totals[:, -1:]
            plain = table[kept].mean(axis=0)
            means[start : start + _BLOCK] = np.where(drawn > 0, totals[:, :-1] / np.maximum(drawn, 1.0), plain)
        return means[:, 0] if values.ndim == 1 else means


def estimate(value: float, resampled: Array) -> Estimate:
    """Return a figure with the middle 95 % of its resampled values."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Estimate(float(value), float(low), float(high))


def mean_estimate(values: Array, resamples: Resamples) -> Estimate:
    """Return the mean of one value per prompt, with its interval."""
    return estimate(float(values.mean()), resamples.means(values))


def two_sided_p(resampled: Array) -> float:
    """Return the p value of "no difference" from resampled differences: twice the smaller share on one side of 0, at least 2 / (B + 1)."""
    below, above = np.count_nonzero(resampled <= 0), np.count_nonzero(resampled >= 0)
    return min(1.0, 2 * (min(below, above) + 1) / (len(resampled) + 1))


def holm(p_values: Mapping[_Name, float]) -> dict[_Name, float]:
    """Return Holm's corrected p values: the i-th smallest of m times (m - i + 1), never below the one before, at most 1."""
    corrected: dict[_Name, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, p_values[name] * (len(p_values) - rank)))
        corrected[name] = largest
    return corrected


def _draws(key: str, resamples: int) -> NDArray[np.uint8]:
    seed = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return np.minimum(np.random.default_rng(seed).poisson(1.0, resamples), 255).astype(np.uint8)

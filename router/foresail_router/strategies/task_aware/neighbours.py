"""The nearest prompts of every prompt, and what those of other folds say of the models. For training alone.

It must not know graphs, communities or tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_BLOCK_ROWS = 512


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Of every prompt (rows) the nearest other prompts, nearest first: their index and cosine."""

    index: NDArray[np.int64]
    cosine: NDArray[np.float32]


def find_neighbours(vectors: NDArray[np.floating[Any]], count: int) -> Neighbours:
    """Return the `count` nearest neighbours (fewer where there are fewer prompts) of vectors of unit length (prompts x width)."""
    table = np.ascontiguousarray(vectors, dtype=np.float32)
    prompts = len(table)
    count = min(count, prompts - 1)
    index = np.empty((prompts, count), dtype=np.int64)
    cosine = np.empty((prompts, count), dtype=np.float32)
    for start in range(0, prompts, _BLOCK_ROWS):
        rows = np.arange(start, min(start + _BLOCK_ROWS, prompts))
        block = table[rows] @ table.T
        block[np.arange(len(rows)), rows] = -np.inf
        chosen = np.argpartition(block, prompts - count, axis=1)[:, prompts - count :]
        values = np.take_along_axis(block, chosen, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        index[rows] = np.take_along_axis(chosen, order, axis=1)
        cosine[rows] = np.take_along_axis(values, order, axis=1)
    return Neighbours(index, cosine)


def smoothed_quality(neighbours: Neighbours, score: Array, folds: NDArray[np.int64], *, prior_prompts: float) -> Array:
    """Return what the neighbours of other folds scored on average (prompts x models); unknown scores (NaN) are left out.

    The model's mean counts for as much as `prior_prompts` neighbours. No prompt, nor a copy of it, has a say in its own row.
    """
    known = np.isfinite(score)
    mean = column_means(score)
    deviation = np.where(known, score - mean, 0.0).astype(np.float32)
    other = (folds[neighbours.index] != folds[:, None]).astype(np.float32)
    total = np.empty(score.shape)
    for start in range(0, len(score), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        weights = other[rows, None, :]
        found = neighbours.index[rows]
        summed = np.matmul(weights, deviation[found])[:, 0]
        count = np.matmul(weights, known[found].astype(np.float32))[:, 0]
        total[rows] = summed / (count + prior_prompts)
    return mean + total


def column_means(score: Array) -> Array:
    """Return each model's mean score; a model without any has the mean of all."""
    known = np.isfinite(score)
    overall = score[known].mean() if known.any() else 0.5
    counts = known.sum(axis=0)
    sums = np.where(known, score, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), overall)

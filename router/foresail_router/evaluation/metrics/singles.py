"""Single models and references: best single, cheapest, random, oracle and known labels. Pure.

Oracle and known-label routing are references, not baselines; known-label routing is no upper bound.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def best_single(score: Array, cost_usd: Array | None = None) -> int:
    """Return the model of the highest mean score; among equals the one of the lower mean cost, then the first.

    `score` and `cost_usd` are prompts x models, NaN where unknown.
    """
    means = _means(score)
    costs = np.zeros(len(means)) if cost_usd is None else _means(cost_usd)
    order = np.lexsort((np.nan_to_num(costs, nan=np.inf), -np.round(np.nan_to_num(means, nan=-np.inf), 12)))
    return int(order[0])


def oracle(score: Array) -> Array:
    """Return each prompt's best score."""
    return np.asarray(score.max(axis=1), dtype=np.float64)


def uniform_random(score: Array) -> Array:
    """Return the expected score of each prompt when every model is equally likely."""
    return np.asarray(score.mean(axis=1), dtype=np.float64)


def known_label_choice(score: Array, labels: Sequence[str | None], training: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return for each prompt the model with the highest mean over training prompts of its true label, else the best single."""
    fallback = best_single(score[training])
    names = np.array([label or "" for label in labels])
    chosen = np.full(len(names), fallback, dtype=np.int64)
    for name in np.unique(names):
        mine = names == name
        if (mine & training).any():
            chosen[mine] = best_single(score[mine & training])
    return chosen


def gap_closed(router: float | Array, random: float | Array, ideal: float | Array) -> Array:
    """Return (router - uniform random) / (oracle - uniform random): 0 for chance, 1 for the oracle; NaN where both are equal."""
    gap = np.asarray(np.subtract(ideal, random), dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(gap > 0, np.subtract(router, random) / gap, np.nan)


def _means(values: Array) -> Array:
    known = np.isfinite(values)
    count = known.sum(axis=0)
    sums = np.where(known, values, 0.0).sum(axis=0)
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)

"""How alike two rankings of the same models are: rank-biased overlap in which tied models share a rank. Pure functions.

They must not know prompts, tasks or how qualities came about.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ranks = NDArray[np.int16]

PERSISTENCE = 0.9
_BLOCK_CELLS = 2**22


def tied_ranks(quality: NDArray[np.floating[Any]], tolerance: float) -> Ranks:
    """Return each model's rank, 1 for the best, among the models of its row (prompts x models).

    Qualities that round to the same multiple of `tolerance` are tied, and tied models share the best rank of their group.
    """
    steps = np.rint(np.asarray(quality, dtype=np.float64) / tolerance)
    order = -np.sort(-steps, axis=1)
    # A model's rank is one more than the number of models that are strictly better.
    ranks = np.empty(steps.shape, dtype=np.int16)
    for column in range(steps.shape[1]):
        ranks[:, column] = 1 + (order > steps[:, column, None]).sum(axis=1)
    return ranks


def rank_biased_overlap(first: Ranks, second: Ranks, persistence: float = PERSISTENCE) -> Array:
    """Return the overlap of each pair of rankings (both pairs x models): 1 for equal ones, never below 0, the same in both orders.

    At depth d a ranking's set holds all models of rank d or better, so that tied models enter together; agreement is twice the common
    models over the sum of both sizes (Webber et al. 2010). Agreements are averaged with weight persistence ** (d - 1); all depths are
    seen, so nothing is extrapolated.
    """
    pairs, models = first.shape
    weights = persistence ** np.arange(models)
    weights = weights / weights.sum()
    overlaps = np.empty(pairs)
    rows = max(1, _BLOCK_CELLS // models)
    for start in range(0, pairs, rows):
        part = slice(start, start + rows)
        common = _sizes(np.maximum(first[part], second[part]))
        either = _sizes(first[part]) + _sizes(second[part])
        agreement = 2.0 * common / np.maximum(either, 1)
        # A depth at which no model of either ranking has entered cannot be: each has a model of rank 1.
        overlaps[part] = agreement @ weights
    return np.clip(overlaps, 0.0, 1.0)


def _sizes(ranks: Ranks) -> NDArray[np.int64]:
    """Return how many models of each row have rank d or better, for each depth d (rows x models)."""
    rows, models = ranks.shape
    places = np.arange(rows, dtype=np.int64)[:, None] * models + (ranks.astype(np.int64) - 1)
    counts = np.bincount(places.ravel(), minlength=rows * models).reshape(rows, models)
    sizes: NDArray[np.int64] = np.cumsum(counts, axis=1)
    return sizes

"""Which configuration of a variant is used for a pool and fold: the one that did best on the other pools, outside that fold.

So hyper-parameters are shared by all pools, the scored pool has no say, and texts of the fold have none either. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from foresail_router.evaluation.metrics.singles import gap_closed, oracle, uniform_random

Array = NDArray[np.float64]
# Per configuration that could be fitted: the gap that it closes outside each fold, in percent (folds).
Gains = Mapping[int, Array]


def outside_folds(quality: Array, score: Array, folds: NDArray[np.int64], count: int) -> Array:
    """Return for each fold the gap closed on the prompts of the other folds, in percent.

    `quality` (prompts) was realised out of `score` (prompts x models). In points, a pool with much to gain would outweigh all others.
    """
    random, ideal = uniform_random(score), oracle(score)
    outside = [folds != fold for fold in range(count)]
    gaps = [gap_closed(quality[rest].mean(), random[rest].mean(), ideal[rest].mean()) for rest in outside]
    return 100 * np.nan_to_num(np.array(gaps, dtype=np.float64))


def choose_configuration(gains: Mapping[str, Gains], pool: str, fold: int) -> int | None:
    """Return the configuration for a pool and fold: the highest mean over the other pools, the first among equals and without others.

    Only configurations that could be fitted on the pool itself count, and only other pools on which all of these could be; None when
    there is none.
    """
    usable = sorted(gains[pool])
    if not usable:
        return None
    others = [other for name, other in gains.items() if name != pool and set(usable) <= set(other)]
    if not others:
        return usable[0]
    means = {number: float(np.mean([other[number][fold] for other in others])) for number in usable}
    return max(usable, key=lambda number: (round(means[number], 9), -number))

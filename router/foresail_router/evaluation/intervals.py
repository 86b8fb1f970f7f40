"""Intervals of paired differences by bootstrap over prompts. Pure; the same data gives the same interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
_BLOCK = 100


def paired_interval(difference: NDArray[np.float64], *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Return the interval of the mean of `difference` (one entry per prompt) at `level`."""
    generator = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, _BLOCK):
        drawn = generator.integers(len(difference), size=(_BLOCK, len(difference)))
        means[start : start + _BLOCK] = difference[drawn].mean(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)

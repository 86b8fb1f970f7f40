"""Utility, the one grid of trade-offs, and what is chosen at each of them. Pure.

utility = q - lambda x cost / c_ref, where c_ref is the mean training cost of the best single model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Choices = NDArray[np.int64]
# The same for all strategies: 0, and 40 steps of equal ratio from 0.001 to 100.
LAMBDAS: Array = np.concatenate([[0.0], np.logspace(-3, 2, 40)])


def choose(quality: Array, cost_usd: Array | None, reference_usd: float | Array) -> Choices:
    """Return the model of the highest utility for each lambda and prompt (lambdas x prompts); without costs for lambda 0 alone.

    `quality` and `cost_usd` are expectations (prompts x models), `reference_usd` is c_ref, one or one per prompt. Utilities are compared
    to 9 decimals, since sums depend on the CPU below that; among equals the first model is chosen.
    """
    if cost_usd is None:
        return np.asarray(np.round(quality, 9).argmax(axis=1), dtype=np.int64)[None]
    relative = cost_usd / np.broadcast_to(np.asarray(reference_usd, dtype=np.float64), len(quality))[:, None]
    chosen = [np.round(quality - weight * relative, 9).argmax(axis=1) for weight in LAMBDAS]
    return np.stack(chosen).astype(np.int64)


def realised(values: Array, chosen: Choices) -> Array:
    """Return what the chosen models made: `values` is prompts x models, `chosen` lambdas x prompts, and so is the result."""
    return np.asarray(values[np.arange(len(values))[None, :], chosen], dtype=np.float64)

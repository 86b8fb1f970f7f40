"""How well answers' lengths are foreseen: coverage of the 90 % quantile, and its pinball loss. Pure; arrays are prompts x models."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LEVEL = 0.9


def covered(output_tokens: Array, p90: Array) -> Array:
    """Return 1 where an answer is no longer than its predicted 90 % quantile, 0 where it is longer, NaN where its length is unknown."""
    return np.where(np.isfinite(output_tokens), (output_tokens <= p90).astype(np.float64), np.nan)


def pinball(output_tokens: Array, quantile: Array) -> Array:
    """Return the pinball loss at 0.9: 0.9 x what an answer is longer than the quantile, 0.1 x what it is shorter; NaN where unknown."""
    excess = output_tokens - quantile
    return np.maximum(LEVEL * excess, (LEVEL - 1) * excess)


def marginal_quantile(output_tokens: Array) -> Array:
    """Return each model's 90 % quantile of known lengths, NaN for a model without any."""
    columns = [column[np.isfinite(column)] for column in output_tokens.T]
    return np.array([np.quantile(column, LEVEL) if column.size else np.nan for column in columns])

"""Token prices that recorded costs imply. Pure arithmetic; it must not know pools or artifacts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_FEWEST_OUTCOMES = 5
# Costs that tokens explain less well than this were not made by a price per token.
_LARGEST_ERROR = 0.01


@dataclass(frozen=True, slots=True)
class ImpliedPrice:
    """US dollars per million tokens."""

    input_usd: float
    output_usd: float


def implied_price(input_tokens: Array, output_tokens: Array, cost_usd: Array) -> ImpliedPrice | None:
    """Return the price per token that explains one model's costs to within 1 % of their mean, or None.

    The arrays hold one entry per outcome, NaN where unknown. Prices are rounded to five digits, as list prices are.
    """
    known = np.isfinite(input_tokens) & np.isfinite(output_tokens) & np.isfinite(cost_usd)
    if known.sum() < _FEWEST_OUTCOMES:
        return None
    tokens = np.stack([input_tokens[known], output_tokens[known]], axis=1) / 1e6
    cost = cost_usd[known]
    if not cost.any():
        return ImpliedPrice(0.0, 0.0)
    prices = _non_negative(tokens, cost)
    rounded = np.array([float(f"{price:.5g}") for price in prices])
    error = np.sqrt(np.mean(np.square(tokens @ rounded - cost)))
    return ImpliedPrice(float(rounded[0]), float(rounded[1])) if error <= _LARGEST_ERROR * cost.mean() else None


def _non_negative(tokens: Array, cost: Array) -> Array:
    prices: Array = np.asarray(np.linalg.lstsq(tokens, cost, rcond=None)[0])
    if (prices >= 0).all():
        return prices
    # With two unknowns, the best non-negative solution lies on an axis if the best one does not suit.
    alone = [float(tokens[:, axis] @ cost) / max(float(tokens[:, axis] @ tokens[:, axis]), 1e-30) for axis in (0, 1)]
    errors = [float(np.square(tokens[:, axis] * alone[axis] - cost).sum()) for axis in (0, 1)]
    axis = int(np.argmin(errors))
    return np.array([alone[0], 0.0]) if axis == 0 else np.array([0.0, alone[1]])

"""Which model a router picks for each prompt, given its estimates: quality against cost, as the data plane weighs them.

Pure; it must not know where estimates and prices come from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def cost_weight(percent: int) -> float:
    """Return lambda of a cost weight in percent: 0 for 0, else 10^(percent / 20 - 3)."""
    return 0.0 if percent == 0 else float(10.0 ** (percent / 20 - 3))


def pick(quality: Array, cost_usd: Array, *, percent: int, reference_usd: float) -> NDArray[np.int64]:
    """Return each prompt's model of the highest utility: quality - lambda x cost / reference. All are prompts x models.

    `cost_usd` is not looked at where the weight is 0. Utilities are compared to 9 decimals: below, sums depend on the CPU.
    """
    utility = quality if percent == 0 else quality - cost_weight(percent) * cost_usd / max(reference_usd, 1e-12)
    return np.asarray(np.round(utility, 9).argmax(axis=1), dtype=np.int64)

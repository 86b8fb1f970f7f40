"""Which tokens of an answer a masked model is shown while it learns. Pure.

It must not know networks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foresail_router.lookahead.recipe import Curriculum


def masked_share(curriculum: Curriculum, progress: float) -> float:
    """Return the share of an answer's tokens that is masked at `progress` (0 to 1) of training."""
    if curriculum.kind == "none":
        return 1.0
    return min(1.0, curriculum.start + (1.0 - curriculum.start) * progress / curriculum.full_at)


def masked_count(curriculum: Curriculum, progress: float, length: int) -> int:
    """Return how many of `length` tokens are masked: at least one, where there is any."""
    return min(length, max(1, round(masked_share(curriculum, progress) * length)))


def masked_tokens(
    curriculum: Curriculum, progress: float, length: int, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Return which of `length` tokens are masked."""
    masked = np.zeros(length, dtype=np.bool_)
    count = masked_count(curriculum, progress, length)
    if curriculum.kind == "start":
        masked[:count] = True
    elif curriculum.kind == "random":
        masked[generator.permutation(length)[:count]] = True
    else:
        masked[length - count :] = True
    return masked

"""What a choice of models earned on prompts, and how far two ways of choosing differ. Pure functions of scores and choices.

It must not know networks or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foresail_router.data.splits import normalised

Array = NDArray[np.float64]
Choice = NDArray[np.int64]
_RESAMPLES = 4000


def earned(score: Array, chosen: Choice) -> Array:
    """Return the score of each prompt's chosen model."""
    return np.asarray(score[np.arange(len(chosen)), chosen])


def choice_figures(score: Array, chosen: Choice, *, reference: int) -> dict[str, float]:
    """Return mean score and gap closed, in [0, 1], and gains in points over the reference model and the best in hindsight.

    `score` is prompts x models without gaps; `reference` is the best single model of the training side.
    """
    mean = float(earned(score, chosen).mean())
    uniform, oracle = float(score.mean()), float(score.max(axis=1).mean())
    single = score.mean(axis=0)
    return {
        "score": mean,
        "gain_over_best_single_points": 100 * (mean - float(single[reference])),
        "gain_over_hindsight_best_points": 100 * (mean - float(single.max())),
        "gap_closed": (mean - uniform) / (oracle - uniform) if oracle > uniform else 0.0,
    }


def quality_figures(score: Array, quality: Array, constant: Array) -> dict[str, float]:
    """Return the Brier score of expected scores and, beside it, of each model's mean on the training side."""
    return {
        "brier": float(np.mean((quality - score) ** 2)),
        "brier_constant": float(np.mean((constant[None] - score) ** 2)),
    }


def grouped_interval(difference: Array, texts: Sequence[str], *, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean over prompts, drawing groups of equal text."""
    numbers = np.unique([normalised(text) for text in texts], return_inverse=True)[1]
    totals, sizes = np.bincount(numbers, weights=difference), np.bincount(numbers)
    generator = np.random.default_rng(seed)
    means = np.empty(_RESAMPLES)
    for draw in range(_RESAMPLES):
        chosen = generator.integers(len(sizes), size=len(sizes))
        means[draw] = totals[chosen].sum() / sizes[chosen].sum()
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)

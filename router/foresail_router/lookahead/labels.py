"""Which models are good enough for a prompt, and which prompts say anything about it. Pure functions of scores.

It must not know texts, tokens or networks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def labels_per_prompt(score: Array, threshold: float) -> Array:
    """Return 1 where a model's score is at least `threshold` of the prompt's best, 0 below, NaN where there is no score."""
    best = np.max(np.where(np.isnan(score), -np.inf, score), axis=1, keepdims=True)
    return _reaches(score, threshold * best)


def labels_per_dataset(score: Array, datasets: Sequence[str | None], threshold: float) -> Array:
    """Return 1 where a model's score, scaled to [0, 1] within its data set, is at least `threshold` of the best there; else 0 or NaN.

    Scores of one data set are on one scale, so a prompt on which no model does well has no good model.
    """
    names = np.array([name or "" for name in datasets])
    labels = np.full(score.shape, np.nan)
    for name in np.unique(names):
        rows = names == name
        part = score[rows]
        if np.isnan(part).all():
            continue
        low, high = np.nanmin(part), np.nanmax(part)
        scaled = (part - low) / (high - low) if high > low else part
        labels[rows] = _reaches(scaled, np.full((len(part), 1), threshold * np.nanmax(scaled)))
    return labels


def routed(score: Array) -> NDArray[np.bool_]:
    """Return on which prompts the models that have a score differ: the others teach nothing about the choice between them."""
    low = np.min(np.where(np.isnan(score), np.inf, score), axis=1)
    high = np.max(np.where(np.isnan(score), -np.inf, score), axis=1)
    return np.asarray(high > low)


def _reaches(score: Array, bound: Array) -> Array:
    return np.where(np.isnan(score), np.nan, (score >= bound - 1e-9).astype(np.float64))

"""What is learned of outcomes: each model's mean, how hard a prompt is for all models, and each model's advantage on it. Pure.

The three add up to the score. It must not know how any of them is foreseen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.task_aware.neighbours import column_means

Array = NDArray[np.float64]
# The pool's mean counts for as much as this many outcomes of a model: a handful of outcomes says little.
_POOL_OUTCOMES = 2.0


@dataclass(frozen=True, slots=True)
class Targets:
    """Per model its mean; per prompt its ease (prompts x 1, NaN without outcomes) and advantages (prompts x models, NaN where unknown)."""

    mean: Array
    ease: Array
    advantage: Array

    @property
    def joint(self) -> Array:
        """Ease and advantages side by side (prompts x 1 + models)."""
        return np.concatenate([self.ease, self.advantage], axis=1)


def split_score(score: Array, foresee_ease: Callable[[Array], Array]) -> Targets:
    """Return the targets of scores (prompts x models, NaN where unknown).

    Where not all models answered, the few that did are no measure of the others: `foresee_ease` (ease -> cross-fitted ease) stands in.
    """
    known = np.isfinite(score)
    counts = known.sum(axis=0)
    overall = score[known].mean() if known.any() else 0.5
    mean = (counts * column_means(score) + _POOL_OUTCOMES * overall) / (counts + _POOL_OUTCOMES)
    deviation = score - mean
    answered = known.sum(axis=1, keepdims=True)
    total = np.where(known, deviation, 0.0).sum(axis=1, keepdims=True)
    ease = np.where(answered > 0, total / np.maximum(answered, 1), np.nan)
    complete = known.all(axis=1, keepdims=True)
    measure = ease if complete.all() else np.where(complete, ease, foresee_ease(ease))
    return Targets(mean, ease, deviation - measure)


def is_flat(score: Array) -> NDArray[np.bool_]:
    """Return on which prompts all models that answered are equal: they rank nothing."""
    known = np.isfinite(score)
    high = np.where(known, score, -np.inf).max(axis=1)
    low = np.where(known, score, np.inf).min(axis=1)
    flat: NDArray[np.bool_] = high - low <= 1e-9
    return flat

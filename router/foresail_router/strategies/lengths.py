"""Output lengths without regard to the prompt: each model's mean and quantiles on the training side.

For strategies that foresee quality alone. It must not know features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.strategies.base import Array

LEVELS = (0.05, 0.5, 0.9, 0.95)
# Where a data set counts no tokens: an answer of a few paragraphs, give or take a factor of 3.
_ASSUMED_TOKENS = 250.0
_ASSUMED_LOG_SPREAD = 1.0
# With fewer lengths of a model its quantiles are the pool's, moved to where its few lengths lie.
_FEW = 20
# The pool's mean counts for as much as this many lengths of a model.
_POOL_OUTCOMES = 2.0
_NAME = "lengths"


@dataclass(frozen=True, slots=True)
class MarginalLengths:
    """Output tokens of each model: `figures` holds the mean and the quantiles at `LEVELS` (5 x models)."""

    figures: NDArray[np.float32]

    @classmethod
    def fit(cls, outcomes: OutcomeMatrix) -> Self:
        """Take the figures from outcomes; NaN counts are left out, and where no model has one a usual length is assumed."""
        tokens = outcomes.output_tokens
        pooled = tokens[np.isfinite(tokens)]
        figures = np.empty((1 + len(LEVELS), tokens.shape[1]))
        for model, column in enumerate(tokens.T):
            own = column[np.isfinite(column)]
            figures[:, model] = _summary(own) if len(own) >= _FEW else _pool_figures(pooled) * _ratio(own, pooled)
        return cls(figures.astype(np.float32))

    def predict(self, prompts: int) -> tuple[Array, Array, Array, Array, Array]:
        """Return mean, 5, 50, 90 and 95 % quantile (each prompts x models): the same for every prompt."""
        rows = [np.repeat(figure[None].astype(np.float64), prompts, axis=0) for figure in self.figures]
        return rows[0], rows[1], rows[2], rows[3], rows[4]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `from_arrays` needs, under a name of its own."""
        return {_NAME: self.figures}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], *, models: int) -> Self:
        """Rebuild from a state's arrays; raises `ValueError` when they are not of so many models."""
        figures = arrays.get(_NAME)
        if figures is None:
            raise ValueError(f"the state of the strategy lacks '{_NAME}'")
        if figures.shape != (1 + len(LEVELS), models) or not np.isfinite(figures).all() or (figures < 0).any():
            raise ValueError("its lengths do not fit the models")
        return cls(figures.astype(np.float32, copy=False))


def _summary(tokens: Array) -> Array:
    return np.concatenate([[tokens.mean()], np.quantile(tokens, LEVELS)])


def _pool_figures(pooled: Array) -> Array:
    if len(pooled):
        return _summary(pooled)
    normal = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
    quantiles = _ASSUMED_TOKENS * np.exp(_ASSUMED_LOG_SPREAD * normal - _ASSUMED_LOG_SPREAD**2 / 2)
    return np.concatenate([[_ASSUMED_TOKENS], quantiles])


def _ratio(own: Array, pooled: Array) -> float:
    """Return how much longer than the pool's a model's few answers are, as a ratio, shrunk to 1."""
    if not len(own):
        return 1.0
    distance = float(np.log1p(own).mean() - np.log1p(pooled).mean())
    return float(np.exp(distance * len(own) / (len(own) + _POOL_OUTCOMES)))

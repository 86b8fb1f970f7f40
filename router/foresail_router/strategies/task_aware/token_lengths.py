"""Foresees output lengths from a prompt's features: a linear model of log lengths per model, and the errors that it left off-fold.

Applying it is numpy alone. It must not know tasks or quality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.strategies.lengths import MarginalLengths
from foresail_router.strategies.task_aware.ridge import FoldedRidge

Array = NDArray[np.float64]
LEVELS = (0.05, 0.5, 0.9, 0.95)
# With fewer lengths a model's errors are the pool's.
_FEW = 50
# With fewer lengths of any model, no model's are foreseen from the prompt.
_FEWEST_LENGTHS = 20
_PENALTY = 10.0


@dataclass(frozen=True, slots=True)
class TokenLengths:
    """Linear log lengths (`weights` width x models, `bias`), error quantiles at `LEVELS` (levels x models), and actual over expected."""

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    errors: NDArray[np.float32]
    ratio: NDArray[np.float32]

    def foresee(self, features: NDArray[np.float32]) -> Array:
        """Return expected output tokens and the quantiles of one prompt (5 x models)."""
        return self.of_logs(features @ self.weights + self.bias)

    def of_logs(self, logs: NDArray[np.float32]) -> Array:
        """Return the same by the foreseen log lengths (models)."""
        log_length = logs.astype(np.float64)
        quantiles = np.maximum(np.expm1(log_length + self.errors), 0.0)
        mean = np.maximum(np.exp(log_length) * self.ratio - 1.0, 0.0)
        return np.concatenate([mean[None], quantiles])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `from_arrays` needs, under names of their own."""
        return {f"lengths.{name}": getattr(self, name) for name in TokenLengths.__slots__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> TokenLengths:
        """Rebuild from a state's arrays; raises `KeyError` when one is missing."""
        return cls(*(arrays[f"lengths.{name}"].astype(np.float32, copy=False) for name in TokenLengths.__slots__))


def fit_lengths(outcomes: OutcomeMatrix, ridge: FoldedRidge, width: int) -> TokenLengths:
    """Return lengths that follow from the features (prompts x `width`) that `ridge` holds, with errors from inner folds.

    They are the models' usual ones, whatever the prompt, where fewer than 20 lengths of any model are known.
    """
    actual = np.log1p(outcomes.output_tokens)
    if np.isfinite(actual).sum(axis=0).min() < _FEWEST_LENGTHS:
        return constant_lengths(MarginalLengths.fit(outcomes), width)
    weights, bias = ridge.fit(actual, _PENALTY)
    errors, ratio = fit_errors(actual, ridge.cross_fit(actual, _PENALTY))
    return TokenLengths(weights.astype(np.float32), bias.astype(np.float32), errors, ratio)


def fit_errors(actual: Array, foreseen: Array) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return error quantiles and ratios of cross-fitted log lengths (prompts x models, NaN where unknown)."""
    error = actual - foreseen
    pool = error[np.isfinite(error)]
    errors, ratio = np.zeros((len(LEVELS), error.shape[1])), np.ones(error.shape[1])
    for model, column in enumerate(error.T):
        own = column[np.isfinite(column)]
        chosen = own if len(own) >= _FEW else pool
        if len(chosen):
            errors[:, model] = np.quantile(chosen, LEVELS)
            ratio[model] = np.exp(np.minimum(chosen, 8.0)).mean()
    return errors.astype(np.float32), ratio.astype(np.float32)


def constant_lengths(marginal: MarginalLengths, width: int) -> TokenLengths:
    """Return lengths that do not depend on the prompt, where the training side knows too few of them."""
    mean, *quantiles = marginal.figures.astype(np.float64)
    bias = np.log1p(quantiles[1])
    errors = np.log1p(np.stack(quantiles)) - bias
    ratio = (mean + 1.0) / np.exp(bias)
    weights = np.zeros((width, len(bias)), dtype=np.float32)
    return TokenLengths(weights, bias.astype(np.float32), errors.astype(np.float32), ratio.astype(np.float32))

"""Lengths around a foreseen logarithm: quantiles by the errors on prompts that the foreseeing fit had not seen.

It must not know how the logarithm is foreseen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import Array
from foresail_router.strategies.baselines.learning import Arrays, Lengths, Problem, Shapes, halves
from foresail_router.strategies.lengths import LEVELS
from foresail_router.strategies.views import Dense

_FEW = 20
# With no length known: about 250 tokens, give or take a factor of 3.
UNKNOWN_LOG_TOKENS = 5.5
_UNKNOWN_ERRORS = (-1.645, 0.0, 1.282, 1.645)
_MOST_LOG_TOKENS = 14.0
_LEAST_RATIO, _MOST_RATIO = 0.5, 5.0

# Learns from a problem and foresees inputs' log tokens (prompts x models); an unknown model's are the pool's mean.
Foresee = Callable[[Problem, Dense], tuple[Arrays, NDArray[np.floating[Any]]]]


def length_error_shapes(models: int) -> Shapes:
    """Return the shapes of what `foreseen_tokens` needs."""
    return {"length_errors": (len(LEVELS), models), "length_ratio": (models,)}


def cross_fitted_errors(problem: Problem, foresee: Foresee) -> Arrays:
    """Return what `foresee` learns from all prompts, with the errors that it makes on halves it has not learned from."""
    if not np.isfinite(problem.log_tokens).any():
        learned, _ = foresee(_assumed(problem), problem.inputs[:0])
        models = problem.score.shape[1]
        errors = np.repeat(np.array(_UNKNOWN_ERRORS)[:, None], models, axis=1)
        return learned | {"length_errors": errors.astype(np.float32), "length_ratio": np.ones(models, np.float32)}
    learned, _ = foresee(problem, problem.inputs[:0])
    foreseen = np.empty_like(problem.log_tokens)
    for side in halves(problem.folds):
        part = problem.rows(~side)
        usable = part if np.isfinite(part.log_tokens).any() else problem
        foreseen[side] = foresee(usable, problem.inputs[side])[1]
    return learned | _errors(problem.log_tokens, foreseen)


def foreseen_tokens(arrays: Arrays, log_tokens: NDArray[np.floating[Any]]) -> Lengths:
    """Return expected output tokens and their 5, 50, 90 and 95 % quantiles around a foreseen logarithm (prompts x models)."""
    middle = np.clip(np.asarray(log_tokens, dtype=np.float64), 0.0, _MOST_LOG_TOKENS)
    levels = [np.maximum(np.expm1(middle + error), 0.0) for error in arrays["length_errors"].astype(np.float64)]
    expected = np.expm1(middle) * arrays["length_ratio"].astype(np.float64)
    return expected, levels[0], levels[1], levels[2], levels[3]


def _assumed(problem: Problem) -> Problem:
    return replace(problem, log_tokens=np.full_like(problem.log_tokens, UNKNOWN_LOG_TOKENS))


def _errors(actual: Array, foreseen: Array) -> Arrays:
    error = actual - foreseen
    pooled = error[np.isfinite(error)]
    quantiles, ratios = [], []
    for model in range(actual.shape[1]):
        known = np.isfinite(error[:, model])
        own = error[known, model] if known.sum() >= _FEW else pooled
        quantiles.append(np.quantile(own, LEVELS))
        expected = float(np.expm1(np.clip(foreseen[known, model], 0.0, _MOST_LOG_TOKENS)).sum())
        seen = float(np.expm1(actual[known, model]).sum())
        enough = known.sum() >= _FEW and expected > 0
        ratios.append(np.clip(seen / expected, _LEAST_RATIO, _MOST_RATIO) if enough else float(np.exp(own.var() / 2)))
    return {
        "length_errors": np.stack(quantiles, axis=1).astype(np.float32),
        "length_ratio": np.array(ratios, dtype=np.float32),
    }

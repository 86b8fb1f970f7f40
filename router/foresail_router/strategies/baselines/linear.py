"""Linear baselines: ridge and logistic regression per model, and CARROT's linear pair of quality and length."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import Array, Settings, TrainingSet
from foresail_router.strategies.baselines.foreseen_lengths import (
    cross_fitted_errors,
    foreseen_tokens,
    length_error_shapes,
)
from foresail_router.strategies.baselines.learning import (
    Arrays,
    LearnedBaseline,
    Lengths,
    Problem,
    Shapes,
    shrunken_means,
)
from foresail_router.strategies.views import Dense

_LENGTH_PENALTY = 0.3


class RidgeBaseline(LearnedBaseline):
    """Ridge regression of each model's score on the dense view; `penalty` is per prompt, in units of the inputs' mean square."""

    configurations: ClassVar[tuple[Settings, ...]] = ({"penalty": 3.0}, {"penalty": 1.0}, {"penalty": 10.0})

    @classmethod
    def learn(cls, problem: Problem, settings: Settings) -> Arrays:
        """Solve for weights and intercepts around each model's mean."""
        weights, intercept = fit_ridge(problem.inputs, problem.score, settings["penalty"])
        return {"weights": weights, "intercept": intercept}

    @classmethod
    def score(cls, arrays: Arrays, settings: Settings, inputs: Dense) -> NDArray[np.floating[Any]]:
        """Return the linear estimate."""
        scores: NDArray[np.float32] = inputs @ arrays["weights"] + arrays["intercept"]
        return scores

    @classmethod
    def shapes(cls, settings: Settings, models: int, width: int) -> Shapes:
        """Return one weight per input and model, and intercepts."""
        return {"weights": (width, models), "intercept": (models,)}


class CarrotLinearBaseline(RidgeBaseline):
    """CARROT with linear regression (arXiv 2502.03261, its linear variant): quality and cost are both foreseen, and traded off at decision.

    Reduced: the regressions stand on the frozen view; cost is foreseen by output length, from which prices make cost.
    """

    @classmethod
    def learn_lengths(cls, problem: Problem, training: TrainingSet, arrays: Arrays, settings: Settings) -> Arrays:
        """Regress log lengths, and take their errors from prompts of the other half."""

        def foresee(part: Problem, inputs: Dense) -> tuple[Arrays, NDArray[np.floating[Any]]]:
            weights, intercept = fit_ridge(part.inputs, part.log_tokens, _LENGTH_PENALTY)
            return {"length_weights": weights, "length_intercept": intercept}, inputs @ weights + intercept

        return cross_fitted_errors(problem, foresee)

    @classmethod
    def length_shapes(cls, settings: Settings, models: int, width: int) -> Shapes:
        """Return one weight per input and model, intercepts, and the errors'."""
        return {"length_weights": (width, models), "length_intercept": (models,)} | length_error_shapes(models)

    @classmethod
    def lengths(cls, arrays: Arrays, settings: Settings, inputs: Dense) -> Lengths:
        """Return lengths around the linear estimate of their logarithm."""
        return foreseen_tokens(arrays, inputs @ arrays["length_weights"] + arrays["length_intercept"])


class LogisticBaseline(LearnedBaseline):
    """Logistic regression of each model's score, fractional ones included, on the dense view; `penalty` as in ridge."""

    configurations: ClassVar[tuple[Settings, ...]] = ({"penalty": 0.3}, {"penalty": 0.1}, {"penalty": 1.0})

    @classmethod
    def learn(cls, problem: Problem, settings: Settings) -> Arrays:
        """Minimise the mean cross entropy and the penalty; intercepts are free."""
        from scipy.optimize import minimize
        from scipy.special import expit, log_expit

        known = problem.known.astype(np.float64)
        target = np.where(problem.known, problem.score, 0.0)
        count = np.maximum(known.sum(axis=0), 1.0)
        inputs, (width, models) = problem.inputs, (problem.inputs.shape[1], known.shape[1])
        start = np.zeros((width + 1, models))
        means = np.clip(problem.means, 0.01, 0.99)
        start[-1] = np.log(means / (1 - means))

        def objective(flat: Array) -> tuple[float, Array]:
            parameters = flat.reshape(width + 1, models)
            weights = parameters[:-1]
            logits = inputs @ weights.astype(np.float32) + parameters[-1]
            entropy = -(target * log_expit(logits) + (1 - target) * log_expit(-logits)) * known
            error = (expit(logits) - target) * known / count
            slope = inputs.T @ error.astype(np.float32) + settings["penalty"] * weights
            loss = float((entropy / count).sum() + settings["penalty"] / 2 * np.square(weights).sum())
            return loss, np.concatenate([slope, error.sum(axis=0)[None]]).ravel()

        solved = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 100})
        parameters = solved.x.reshape(width + 1, models).astype(np.float32)
        return {"weights": parameters[:-1], "intercept": parameters[-1]}

    @classmethod
    def score(cls, arrays: Arrays, settings: Settings, inputs: Dense) -> NDArray[np.floating[Any]]:
        """Return probabilities."""
        return logistic(inputs @ arrays["weights"] + arrays["intercept"])

    @classmethod
    def shapes(cls, settings: Settings, models: int, width: int) -> Shapes:
        """Return one weight per input and model, and intercepts."""
        return {"weights": (width, models), "intercept": (models,)}


def logistic(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / (1 + exp(-logits)) without overflow."""
    probabilities: NDArray[np.float32] = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return probabilities


def fit_ridge(inputs: Dense, target: Array, penalty: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weights (width x columns) and intercepts of ridge regressions, each on the prompts where its column is known."""
    known = np.isfinite(target)
    means = shrunken_means(target)
    deviation = np.where(known, target - means, 0.0)
    weights = np.zeros((inputs.shape[1], target.shape[1]))
    exact = inputs.astype(np.float64)
    # Columns that are known for the same prompts share one factorisation; mostly these are all columns.
    patterns, pattern_of = np.unique(known, axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        part = exact[pattern]
        if len(part):
            columns = np.flatnonzero(pattern_of.ravel() == number)
            square = part.T @ part + penalty * len(part) * np.eye(part.shape[1])
            weights[:, columns] = np.linalg.solve(square, part.T @ deviation[np.ix_(pattern, columns)])
    return weights.astype(np.float32), means.astype(np.float32)

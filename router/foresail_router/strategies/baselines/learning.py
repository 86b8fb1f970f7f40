"""What all learned baselines share: inputs from the dense view, known outcomes, calibration and spread from fits on two halves.

A method says how it learns arrays from a problem, and how it scores inputs with them; the rest is here. It must not know any method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import (
    AnswerEmbeddings,
    Array,
    Features,
    Predictions,
    Progress,
    Settings,
    State,
    TrainingSet,
)
from foresail_router.strategies.lengths import MarginalLengths
from foresail_router.strategies.views import Dense, View, fit_view

Arrays = dict[str, NDArray[np.float32]]
Shapes = dict[str, tuple[int, ...]]
Lengths = tuple[Array, Array, Array, Array, Array]
# The pool's mean counts for as much as this many outcomes of a model: a handful of outcomes says little.
POOL_OUTCOMES = 2.0
_LEAST_SPREAD = 1e-3
# Where scores say nothing of outcomes, their order is still the method's.
_LEAST_SLOPE = 1e-4


@dataclass(frozen=True, slots=True)
class Problem:
    """What is learned from: `inputs` (prompts x width, centred, of unit mean square), `score` and log output tokens (NaN: unknown)."""

    inputs: Dense
    score: Array
    log_tokens: Array
    folds: NDArray[np.int64]
    tasks: tuple[str, ...]
    cost: Array
    answers: AnswerEmbeddings | None
    seed: int

    def rows(self, chosen: NDArray[np.bool_]) -> Problem:
        """Return some of the prompts."""
        return replace(
            self,
            inputs=self.inputs[chosen],
            score=self.score[chosen],
            log_tokens=self.log_tokens[chosen],
            folds=self.folds[chosen],
            tasks=tuple(task for task, kept in zip(self.tasks, chosen, strict=True) if kept),
            answers=None if self.answers is None else self.answers.rows(chosen),
        )

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which scores are known."""
        return np.isfinite(self.score)

    @property
    def means(self) -> Array:
        """Each model's mean score, drawn to the pool's where there are few."""
        return shrunken_means(self.score)


def shrunken_means(values: Array) -> Array:
    """Return the mean of each column's known values, to which the mean of all is added as `POOL_OUTCOMES` further ones."""
    known = np.isfinite(values)
    everything = float(values[known].mean()) if known.any() else 0.0
    sums = np.where(known, values, 0.0).sum(axis=0)
    means: Array = (sums + POOL_OUTCOMES * everything) / (known.sum(axis=0) + POOL_OUTCOMES)
    return means


def known_models(training: TrainingSet) -> None:
    """Raise `ValueError` for a model without any outcome: nothing can be learned about it."""
    lacking = ~np.isfinite(training.outcomes.score).any(axis=0)
    if lacking.any():
        model = training.outcomes.models[int(np.flatnonzero(lacking)[0])]
        raise ValueError(f"model {model!r} has no outcome on the training side; leave it out of the pool")


def halves(folds: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return two masks of about as many prompts each, with every fold on one side; raises `ValueError` for a single fold."""
    numbers, counts = np.unique(folds, return_counts=True)
    if len(numbers) < 2:
        raise ValueError("all prompts of the training side lie in one fold")
    first: list[int] = []
    filled = 0
    for number, count in sorted(zip(numbers.tolist(), counts.tolist(), strict=True), key=lambda item: -item[1]):
        if filled + count / 2 <= len(folds) / 2 or not first:
            first.append(number)
            filled += count
    mask = np.isin(folds, first)
    return mask, ~mask


def chosen_settings(configurations: tuple[Settings, ...], settings: Settings | None) -> dict[str, Any]:
    """Return the default configuration with changes; raises `ValueError` for a setting that it does not have."""
    default = dict(configurations[0])
    unknown = sorted(set(settings or {}) - set(default))
    if unknown:
        raise ValueError(f"unknown setting {unknown[0]!r}; it has {', '.join(sorted(default)) or 'none'}")
    return default | dict(settings or {})


def taken(arrays: Mapping[str, NDArray[Any]], shapes: Shapes) -> Arrays:
    """Return the arrays of these names; raises `ValueError` when one is absent, of another shape, or not finite. -1 is any length."""
    found: Arrays = {}
    for name, shape in shapes.items():
        if name not in arrays:
            raise ValueError(f"the state of the strategy lacks '{name}'")
        array = arrays[name]
        fits = array.ndim == len(shape) and all(
            want in (-1, have) for want, have in zip(shape, array.shape, strict=True)
        )
        if not fits:
            raise ValueError(f"its '{name}' does not fit the encoder and the models")
        if not np.isfinite(array).all():
            raise ValueError(f"its '{name}' holds numbers that are not finite")
        found[name] = array.astype(np.float32, copy=False)
    return found


class LearnedBaseline(ABC):
    """A baseline that scores prompts' inputs. Methods of this class are the strategy's; a method's own are the abstract ones.

    Quality is the score itself, clipped to [0, 1], where a method foresees outcomes. A `relative` method only ranks models: each
    model's scores are then mapped to its outcomes by a line, fitted on prompts that the scoring fit has not seen, with one slope for
    all models, so that differences between scores weigh the same against cost whichever model they speak for.
    The spread of quality is half of the root mean square difference of two fits on disjoint halves (what is left of it with all
    prompts), and the sampling error of the model's mean.
    """

    configurations: ClassVar[tuple[Settings, ...]]
    uses_answers: ClassVar[bool] = False
    relative: ClassVar[bool] = False
    one_intercept: ClassVar[bool] = False

    def __init__(self, view: View, arrays: Arrays, settings: dict[str, Any]) -> None:
        self._view = view
        self._arrays = arrays
        self._settings = settings

    @classmethod
    @abstractmethod
    def learn(cls, problem: Problem, settings: Settings) -> Arrays:
        """Return what `score` needs, learned from a problem."""

    @classmethod
    @abstractmethod
    def score(cls, arrays: Arrays, settings: Settings, inputs: Dense) -> NDArray[np.floating[Any]]:
        """Return a score per prompt and model. Numpy alone."""

    @classmethod
    @abstractmethod
    def shapes(cls, settings: Settings, models: int, width: int) -> Shapes:
        """Return the shapes of what `learn` returns, -1 where any length will do."""

    @classmethod
    def learn_lengths(cls, problem: Problem, training: TrainingSet, arrays: Arrays, settings: Settings) -> Arrays:
        """Return what `lengths` needs: each model's usual lengths, unless a method foresees them."""
        return MarginalLengths.fit(training.outcomes).arrays()

    @classmethod
    def length_shapes(cls, settings: Settings, models: int, width: int) -> Shapes:
        """Return the shapes of what `learn_lengths` returns."""
        return {"lengths": (5, models)}

    @classmethod
    def lengths(cls, arrays: Arrays, settings: Settings, inputs: Dense) -> Lengths:
        """Return expected output tokens and their 5, 50, 90 and 95 % quantiles."""
        return MarginalLengths(arrays["lengths"]).predict(len(inputs))

    @classmethod
    def fit(cls, training: TrainingSet, *, seed: int, progress: Progress, settings: Settings | None = None) -> Self:
        """Learn from all prompts, and twice from half of them; see `Strategy.fit`."""
        chosen = chosen_settings(cls.configurations, settings)
        known_models(training)
        view = fit_view(training)
        dense = view.apply(training.features)
        scaling = _scaling(dense)
        problem = _problem(training, _scaled(dense, scaling), seed)
        progress("learning from all prompts")
        arrays = cls.learn(problem, chosen)
        progress("learning from halves, to calibrate")
        sides = halves(training.folds)
        scores = [
            cls.score(cls.learn(problem.rows(side), chosen), chosen, problem.inputs).astype(np.float64)
            for side in sides
        ]
        unseen = np.where(sides[0][:, None], scores[1], scores[0])
        line = _calibration(problem, unseen, one_intercept=cls.one_intercept) if cls.relative else None
        arrays |= cls.learn_lengths(problem, training, arrays, chosen)
        slope = 1.0 if line is None else float(line[0, 0])
        arrays |= {"scaling": scaling, "spread": _spread(problem, slope * (scores[0] - scores[1]) / 2)}
        if line is not None:
            arrays["calibration"] = line
        return cls(view, {name: np.asarray(array, dtype=np.float32) for name, array in arrays.items()}, chosen)

    def predict(self, features: Features) -> Predictions:
        """Return estimates for each prompt; each is worked out alone, so they do not depend on what else is asked."""
        inputs = _scaled(self._view.apply(features), self._arrays["scaling"])
        rows = [self._predict_one(inputs[number : number + 1]) for number in range(len(inputs))]
        stacked = np.concatenate(rows, axis=1) if rows else np.empty((7, 0, len(self._arrays["spread"])))
        return Predictions(*stacked)

    def _predict_one(self, inputs: Dense) -> Array:
        score = self.score(self._arrays, self._settings, inputs).astype(np.float64)
        if self.relative:
            slope, intercept = self._arrays["calibration"].astype(np.float64)
            score = intercept + slope * score
        spread = self._arrays["spread"].astype(np.float64)[None]
        return np.stack([np.clip(score, 0.0, 1.0), spread, *self.lengths(self._arrays, self._settings, inputs)])

    def state(self) -> State:
        """Return the view and what was learned as arrays, the settings as configuration."""
        return State({**self._view.arrays(), **self._arrays}, self._settings)

    @classmethod
    def from_state(cls, state: State, *, models: int, width: int) -> Self:
        """See `Strategy.from_state`."""
        view = View.from_arrays(state.arrays)
        settings = chosen_settings(cls.configurations, state.config)
        default = cls.configurations[0]
        if any(type(settings[name]) is not type(default[name]) for name in default):
            raise ValueError("its settings are not of this strategy")
        inputs = width + view.width_beside_embedding
        shapes = cls.shapes(settings, models, inputs) | cls.length_shapes(settings, models, inputs)
        shapes |= {"scaling": (2, inputs), "spread": (models,)}
        if cls.relative:
            shapes["calibration"] = (2, models)
        return cls(view, taken(state.arrays, shapes), settings)


def _scaling(dense: Dense) -> NDArray[np.float32]:
    """Return the mean of each column, and one factor for all that makes their mean square 1: blocks keep their shares."""
    mean = dense.mean(axis=0, dtype=np.float64)
    square = float(np.square(dense - mean).mean())
    return np.stack([mean, np.full(len(mean), 1.0 / np.sqrt(max(square, 1e-12)))]).astype(np.float32)


def _scaled(dense: Dense, scaling: NDArray[np.float32]) -> Dense:
    inputs: Dense = (dense - scaling[0]) * scaling[1]
    return inputs


def _problem(training: TrainingSet, inputs: Dense, seed: int) -> Problem:
    outcomes = training.outcomes
    return Problem(
        inputs=inputs,
        score=outcomes.score,
        log_tokens=np.log1p(outcomes.output_tokens),
        folds=training.folds,
        tasks=tuple(prompt.task or "" for prompt in outcomes.prompts),
        cost=_mean_cost(outcomes.cost_usd),
        answers=training.answers,
        seed=seed,
    )


def _mean_cost(cost: Array) -> Array:
    known = np.isfinite(cost)
    count = known.sum(axis=0)
    return np.where(count > 0, np.where(known, cost, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _calibration(problem: Problem, scores: Array, *, one_intercept: bool) -> NDArray[np.float32]:
    """Return slope and intercept of each model's line from scores of prompts that were not learned from to outcomes."""
    known = problem.known
    everything = np.nanmean(np.where(known, scores, np.nan)), np.nanmean(problem.score)
    count = np.maximum(known.sum(axis=0), 1)
    centre = np.where(known, scores, 0.0).sum(axis=0) / count
    means = problem.means
    if one_intercept:
        centre, means = (np.full(len(count), value) for value in everything)
    deviation = np.where(known, scores - centre, 0.0)
    outcome = np.where(known, problem.score - means, 0.0)
    square = float(np.square(deviation).sum())
    slope = float((deviation * outcome).sum()) / square if square > 0 else 0.0
    slope = max(slope, _LEAST_SLOPE)
    return np.stack([np.full(len(centre), slope), means - slope * centre]).astype(np.float32)


def _spread(problem: Problem, difference: Array) -> NDArray[np.float32]:
    variance = max(float(np.nanvar(problem.score)), _LEAST_SPREAD**2)
    of_mean = variance / (problem.known.sum(axis=0) + POOL_OUTCOMES)
    spread: NDArray[np.float32] = np.sqrt(np.square(difference).mean(axis=0) + of_mean).astype(np.float32)
    return spread

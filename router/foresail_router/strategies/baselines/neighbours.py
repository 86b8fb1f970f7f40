"""Nearest neighbours in a reduced space, and the baselines that stand on them: CARROT's kNN and SMOOTHIE."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import AnswerEmbeddings, Array, Settings, TrainingSet
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

# Cosines in so many principal directions of the view are those in all of it but for noise, at a third of the work.
_REDUCED_WIDTH = 128
_BLOCK_ROWS = 512
_FEWEST_JUDGED = 3
_LEAST_VARIANCE = 1e-3


def reduce_inputs(inputs: Dense) -> Arrays:
    """Return principal directions of the inputs, and the inputs themselves in them, of unit length."""
    _, directions = np.linalg.eigh((inputs.T @ inputs).astype(np.float64))
    basis = np.ascontiguousarray(directions[:, ::-1][:, : min(_REDUCED_WIDTH, len(inputs))]).astype(np.float32)
    return {"basis": basis, "points": _placed(inputs, basis)}


def reduced_shapes(width: int) -> Shapes:
    """Return the shapes of what `reduce_inputs` returns."""
    return {"basis": (width, -1), "points": (-1, -1)}


def nearest_means(arrays: Arrays, values: NDArray[np.float32], inputs: Dense, neighbours: int) -> Array:
    """Return the mean of known values (points x columns) over each input's nearest points; NaN where none of them is known."""
    placed = _placed(inputs, arrays["basis"])
    means = np.empty((len(inputs), values.shape[1]))
    count = min(neighbours, len(values))
    known = np.isfinite(values)
    complete, filled = bool(known.all()), np.where(known, values, 0.0)
    for start in range(0, len(inputs), _BLOCK_ROWS):
        similarity = placed[start : start + _BLOCK_ROWS] @ arrays["points"].T
        chosen = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
        # In the order of the points, so that sums do not depend on how they were found.
        chosen.sort(axis=1)
        total = filled[chosen].sum(axis=1, dtype=np.float64)
        seen = np.full(total.shape, float(count)) if complete else known[chosen].sum(axis=1).astype(np.float64)
        means[start : start + len(chosen)] = np.where(seen > 0, total / np.where(seen > 0, seen, 1.0), np.nan)
    return means


def _placed(inputs: Dense, basis: NDArray[np.float32]) -> Dense:
    placed = inputs @ basis
    length = np.linalg.norm(placed, axis=1, keepdims=True)
    points: Dense = (placed / np.maximum(length, 1e-12)).astype(np.float32)
    return points


class CarrotKnnBaseline(LearnedBaseline):
    """CARROT with nearest neighbours (arXiv 2502.03261, its kNN variant): the neighbours' mean quality and mean cost, traded off at decision.

    Reduced: cosines of the frozen view; cost is foreseen by output length, from which prices make cost.
    """

    configurations: ClassVar[tuple[Settings, ...]] = ({"neighbours": 250}, {"neighbours": 100}, {"neighbours": 500})

    @classmethod
    def learn(cls, problem: Problem, settings: Settings) -> Arrays:
        """Keep all prompts; what is unknown stands as the model's mean."""
        score = np.where(problem.known, problem.score, problem.means)
        return reduce_inputs(problem.inputs) | {"outcomes": score.astype(np.float32)}

    @classmethod
    def score(cls, arrays: Arrays, settings: Settings, inputs: Dense) -> NDArray[np.floating[Any]]:
        """Return the neighbours' mean score."""
        return nearest_means(arrays, arrays["outcomes"], inputs, settings["neighbours"])

    @classmethod
    def shapes(cls, settings: Settings, models: int, width: int) -> Shapes:
        """Return directions, points and their outcomes."""
        return reduced_shapes(width) | {"outcomes": (-1, models)}

    @classmethod
    def learn_lengths(cls, problem: Problem, training: TrainingSet, arrays: Arrays, settings: Settings) -> Arrays:
        """Keep log lengths, and take the neighbours' errors from the other half."""

        def foresee(part: Problem, inputs: Dense) -> tuple[Arrays, Array]:
            length = np.where(np.isfinite(part.log_tokens), part.log_tokens, shrunken_means(part.log_tokens))
            kept = length.astype(np.float32)
            if not len(inputs):
                return {"log_tokens": kept}, np.empty((0, kept.shape[1]))
            return {"log_tokens": kept}, nearest_means(reduce_inputs(part.inputs), kept, inputs, settings["neighbours"])

        return cross_fitted_errors(problem, foresee)

    @classmethod
    def length_shapes(cls, settings: Settings, models: int, width: int) -> Shapes:
        """Return the points' log lengths, and errors."""
        return {"log_tokens": (-1, models)} | length_error_shapes(models)

    @classmethod
    def lengths(cls, arrays: Arrays, settings: Settings, inputs: Dense) -> Lengths:
        """Return lengths around the neighbours' mean logarithm."""
        return foreseen_tokens(arrays, nearest_means(arrays, arrays["log_tokens"], inputs, settings["neighbours"]))


class SmoothieBaseline(LearnedBaseline):
    """SMOOTHIE (arXiv 2412.04692, its local variant, on training prompts): a model is as good as its answers are central.

    No score is used to rank models: the squared distances between the embeddings of three models' answers to one prompt give each one's
    variance around the unseen truth, averaged over a prompt's nearest training prompts. Reduced: the answers' first tokens and the frozen
    encoder. Scores are used only to map that variance to a quality (one slope, and here one intercept, for all models).
    """

    configurations: ClassVar[tuple[Settings, ...]] = ({"neighbours": 500}, {"neighbours": 100}, {"neighbours": 2000})
    uses_answers: ClassVar[bool] = True
    relative: ClassVar[bool] = True
    one_intercept: ClassVar[bool] = True

    @classmethod
    def learn(cls, problem: Problem, settings: Settings) -> Arrays:
        """Work out each answer's variance; raises `ValueError` where fewer than three models have answers."""
        if problem.answers is None:
            raise ValueError("no answer is recorded, and this strategy learns from answers alone")
        variance = answer_variance(problem.answers)
        if (np.isfinite(variance).any(axis=0)).sum() < _FEWEST_JUDGED:
            raise ValueError(
                "fewer than three models have answers to the same prompts, and this strategy compares three at a time"
            )
        # Nothing speaks for a model that never answered.
        worst = np.where(np.isfinite(variance).any(axis=0), shrunken_means(variance), np.nanmax(variance))
        kept = np.where(np.isfinite(variance), variance, worst)
        return reduce_inputs(problem.inputs) | {"variance": kept.astype(np.float32)}

    @classmethod
    def score(cls, arrays: Arrays, settings: Settings, inputs: Dense) -> NDArray[np.floating[Any]]:
        """Return the logarithm of the weight, 1 / variance, that SMOOTHIE gives each model."""
        variance = nearest_means(arrays, arrays["variance"], inputs, settings["neighbours"])
        logarithm: Array = -np.log(np.maximum(variance, _LEAST_VARIANCE))
        return logarithm

    @classmethod
    def shapes(cls, settings: Settings, models: int, width: int) -> Shapes:
        """Return directions, points and the variance of answers to them."""
        return reduced_shapes(width) | {"variance": (-1, models)}


def answer_variance(answers: AnswerEmbeddings) -> Array:
    """Return the variance of each answer by triplets with all pairs of other models' (prompts x models); NaN where it cannot be told.

    For three answers it is (d_ij + d_ik - d_jk) / 2 with squared distances d; the mean over all pairs needs sums of distances alone.
    """
    parts = [
        _variance(answers.vectors[start : start + _BLOCK_ROWS], answers.known[start : start + _BLOCK_ROWS])
        for start in range(0, len(answers.known), _BLOCK_ROWS)
    ]
    return np.concatenate(parts) if parts else np.empty(answers.known.shape)


def _variance(stored: NDArray[np.float16], known: NDArray[np.bool_]) -> Array:
    vectors = stored.astype(np.float32)
    products = np.matmul(vectors, vectors.transpose(0, 2, 1)).astype(np.float64)
    square = np.diagonal(products, axis1=1, axis2=2)
    distance = square[:, :, None] + square[:, None, :] - 2 * products
    distance *= known[:, :, None] & known[:, None, :]
    others = np.maximum(known.sum(axis=1, keepdims=True) - 1.0, 2.0)
    to_others = distance.sum(axis=2)
    among_others = distance.sum(axis=(1, 2))[:, None] - 2 * to_others
    judged = known & (known.sum(axis=1, keepdims=True) >= _FEWEST_JUDGED)
    variance = to_others / others - among_others / (others * (others - 1)) / 2
    result: Array = np.where(judged, variance, np.nan)
    return result

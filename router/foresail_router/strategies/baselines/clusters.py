"""Baselines that group training prompts by k-means: UniRoute's error vectors, and Avengers-Pro's normalised quality and cost."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import Array, Settings, TrainingSet
from foresail_router.strategies.baselines.foreseen_lengths import (
    UNKNOWN_LOG_TOKENS,
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

_ITERATIONS = 30


def find_clusters(inputs: Dense, count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return k-means centres (clusters x width), at most one per distinct prompt, and each prompt's cluster."""
    from sklearn.cluster import KMeans

    distinct = len(np.unique(inputs, axis=0)) if len(inputs) < 10 * count else len(inputs)
    found = KMeans(min(count, distinct), n_init=1, max_iter=_ITERATIONS, random_state=seed).fit(inputs)
    return found.cluster_centers_.astype(np.float32), found.labels_.astype(np.int64)


def cluster_means(values: Array, cluster: NDArray[np.int64], count: int, pseudo_outcomes: float = 0.0) -> Array:
    """Return means of known values (prompts x columns) in each cluster, with the column's mean as so many more; and where none is known."""
    known = np.isfinite(values)
    membership = np.zeros((count, len(cluster)))
    membership[cluster, np.arange(len(cluster))] = 1.0
    total, seen = membership @ np.where(known, values, 0.0), membership @ known.astype(np.float64)
    usual = shrunken_means(values)
    weight = seen + pseudo_outcomes
    means: Array = np.where(weight > 0, (total + pseudo_outcomes * usual) / np.where(weight > 0, weight, 1.0), usual)
    return means


def centre_distances(centres: NDArray[np.float32], inputs: Dense) -> Dense:
    """Return squared distances to centres (prompts x clusters), less what all centres share."""
    distances: Dense = np.square(centres).sum(axis=1) - 2 * (inputs @ centres.T)
    return distances


class UniRouteBaseline(LearnedBaseline):
    """UniRoute (arXiv 2502.08773, its k-means variant): a prompt fares as its cluster's error vector says.

    Reduced: the frozen view stands for the paper's encoders. Clusters hold unshrunken means, as in the paper.
    """

    configurations: ClassVar[tuple[Settings, ...]] = ({"clusters": 24}, {"clusters": 12}, {"clusters": 48})

    @classmethod
    def learn(cls, problem: Problem, settings: Settings) -> Arrays:
        """Find clusters and each model's mean error in them."""
        centres, cluster = find_clusters(problem.inputs, settings["clusters"], problem.seed)
        error = cluster_means(1.0 - problem.score, cluster, len(centres))
        return {"centres": centres, "error": error.astype(np.float32)}

    @classmethod
    def score(cls, arrays: Arrays, settings: Settings, inputs: Dense) -> NDArray[np.floating[Any]]:
        """Return one minus the error in the nearest cluster."""
        quality: NDArray[np.float32] = 1.0 - arrays["error"][centre_distances(arrays["centres"], inputs).argmin(axis=1)]
        return quality

    @classmethod
    def shapes(cls, settings: Settings, models: int, width: int) -> Shapes:
        """Return centres and error vectors."""
        return {"centres": (-1, width), "error": (-1, models)}


class KMeansBaseline(LearnedBaseline):
    """Avengers-Pro (arXiv 2508.12631): k-means; within a cluster quality is normalised over models, and cost has its own mean.

    A prompt's score is the sum of normalised qualities of its nearest clusters, weighted by softmax of their nearness. Reduced: the frozen
    view. The normalised score is relative, so a line maps it to quality; the clusters' mean lengths make its costs, and the trade-off is
    that of all strategies instead of the paper's weighted sum.
    """

    configurations: ClassVar[tuple[Settings, ...]] = (
        {"clusters": 48, "nearest": 4},
        {"clusters": 24, "nearest": 2},
        {"clusters": 96, "nearest": 8},
    )
    relative: ClassVar[bool] = True
    _sharpness: ClassVar[float] = 6.0

    @classmethod
    def learn(cls, problem: Problem, settings: Settings) -> Arrays:
        """Find clusters, and normalise each model's mean score in them to [0, 1]."""
        centres, cluster = find_clusters(problem.inputs, settings["clusters"], problem.seed)
        mean = cluster_means(problem.score, cluster, len(centres))
        low, high = mean.min(axis=1, keepdims=True), mean.max(axis=1, keepdims=True)
        normalised = np.where(high > low, (mean - low) / np.where(high > low, high - low, 1.0), 0.5)
        return {
            "centres": centres,
            "normalised": normalised.astype(np.float32),
            "log_tokens": _cluster_lengths(problem, cluster, len(centres)),
        }

    @classmethod
    def score(cls, arrays: Arrays, settings: Settings, inputs: Dense) -> NDArray[np.floating[Any]]:
        """Return the weighted sum over the nearest clusters."""
        return cls._weights(arrays, settings, inputs) @ arrays["normalised"].astype(np.float64)

    @classmethod
    def shapes(cls, settings: Settings, models: int, width: int) -> Shapes:
        """Return centres, normalised qualities and log lengths."""
        return {"centres": (-1, width), "normalised": (-1, models), "log_tokens": (-1, models)}

    @classmethod
    def learn_lengths(cls, problem: Problem, training: TrainingSet, arrays: Arrays, settings: Settings) -> Arrays:
        """Take the errors of the clusters' mean log lengths from the other half."""

        def foresee(part: Problem, inputs: Dense) -> tuple[Arrays, Array]:
            if not len(inputs):
                return {}, np.empty((0, part.score.shape[1]))
            cluster = centre_distances(arrays["centres"], part.inputs).argmin(axis=1)
            length = _cluster_lengths(part, cluster, len(arrays["centres"]))
            return {}, cls._weights(arrays, settings, inputs) @ length.astype(np.float64)

        return cross_fitted_errors(problem, foresee)

    @classmethod
    def length_shapes(cls, settings: Settings, models: int, width: int) -> Shapes:
        """Return the errors'."""
        return length_error_shapes(models)

    @classmethod
    def lengths(cls, arrays: Arrays, settings: Settings, inputs: Dense) -> Lengths:
        """Return lengths around the clusters' mean logarithm."""
        weights = cls._weights(arrays, settings, inputs)
        return foreseen_tokens(arrays, weights @ arrays["log_tokens"].astype(np.float64))

    @classmethod
    def _weights(cls, arrays: Arrays, settings: Settings, inputs: Dense) -> Array:
        centres = arrays["centres"]
        nearness = _cosines(centres, inputs)
        edge = np.sort(nearness, axis=1)[:, -min(settings["nearest"], len(centres))]
        raw = np.where(nearness >= edge[:, None], np.exp(cls._sharpness * nearness), 0.0)
        weights: Array = raw / raw.sum(axis=1, keepdims=True)
        return weights


def _cosines(centres: NDArray[np.float32], inputs: Dense) -> Array:
    lengths = np.linalg.norm(inputs, axis=1)[:, None] * np.linalg.norm(centres, axis=1)
    cosines: Array = (inputs @ centres.T).astype(np.float64) / np.maximum(lengths, 1e-12)
    return cosines


def _cluster_lengths(problem: Problem, cluster: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    if not np.isfinite(problem.log_tokens).any():
        return np.full((count, problem.score.shape[1]), UNKNOWN_LOG_TOKENS, dtype=np.float32)
    # A length says as much as a score, but is skewed: a cluster's few are drawn to the model's mean.
    return cluster_means(problem.log_tokens, cluster, count, pseudo_outcomes=2.0).astype(np.float32)

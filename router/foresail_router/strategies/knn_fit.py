"""Fitting the nearest-neighbour strategy: kernels by cross-fitted error, priors and length errors by the same cross-fit.

Every figure comes from neighbours of other folds, so a prompt never judges itself or its copies. It must not know files or encoders.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import Array, Progress, TrainingSet
from foresail_router.strategies.kernels import NEAREST, Alikeness, Evidence, Kernel, believed, weigh
from foresail_router.strategies.knn import (
    LENGTH_LEVELS,
    KnnPriors,
    KnnSettings,
    OutcomeTable,
    length_estimate,
    length_tokens,
)

NEIGHBOURS = (10, 25, 50, 100, 250, 500)
TEMPERATURES = (0.05, 0.1, 0.2, 0.4)
SHRINKAGES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
# Log-tokens of a pool of which no length is known: about 250 tokens, give or take a factor of 3.
_UNKNOWN_LENGTH = (5.5, 1.0)
_BLOCK_ROWS = 256
_FEW = 20
# The pool's mean counts for as much as this many outcomes of a model: a handful of outcomes says little.
_POOL_OUTCOMES = 2.0
_LEAST_VARIANCE = 1e-4
# Cosines closer than this are no ground for telling alike from unlike prompts.
_LEAST_ALIKENESS_RANGE = 0.05


@dataclass(frozen=True, slots=True)
class _Neighbours:
    """For every training prompt, the nearest prompts of other folds, nearest first (prompts x k), and whether they are alike."""

    index: NDArray[np.int64]
    similarity: Array
    alikeness: Array

    def blocks(self, target: Array, count: int) -> Iterator[tuple[slice, Array, Array, Array, Array]]:
        """Yield some prompts' slice, and of `count` neighbours similarity, alikeness, target and what of it is known."""
        for start in range(0, len(self.index), _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            values = target[self.index[rows, :count]]
            known = np.isfinite(values)
            yield (
                rows,
                self.similarity[rows, :count],
                self.alikeness[rows],
                np.where(known, values, 0.0),
                known.astype(np.float64),
            )


def fit_knn(
    training: TrainingSet, progress: Progress, advantage_neighbours: int | None = None
) -> tuple[NDArray[np.float16], OutcomeTable, KnnSettings, KnnPriors]:
    """Return embeddings, outcome table, settings and priors; raises `ValueError` when all prompts lie in one fold.

    `advantage_neighbours` fixes how many neighbours speak for advantages, where there are so many.
    """
    embeddings = np.asarray(training.features.embeddings).astype(np.float16)
    progress("looking for neighbours")
    neighbours, alikeness = _find_neighbours(embeddings.astype(np.float64), training.folds)
    quality, deviation = _deviations(training.outcomes.score)
    difficulty = _difficulty(deviation)
    length = np.log1p(training.outcomes.output_tokens)
    length_mean, length_variance = _length_prior(length)
    progress("choosing kernels")
    difficulty_kernel = _choose_kernel(neighbours, difficulty, np.zeros(1))
    of_difficulty = _cross_fit(neighbours, difficulty_kernel, difficulty)
    advantage = _advantage(deviation, difficulty, of_difficulty)
    counts = NEIGHBOURS if advantage_neighbours is None else (advantage_neighbours,)
    advantage_kernel = _choose_kernel(neighbours, advantage, np.zeros(len(quality)), counts)
    of_advantage = _cross_fit(neighbours, advantage_kernel, advantage)
    length_kernel = _choose_kernel(neighbours, length, length_mean)
    progress("calibrating")
    models = len(quality)
    normal = np.array([NormalDist().inv_cdf(float(level)) for level in LENGTH_LEVELS])
    priors = KnnPriors(
        quality,
        *_variances(difficulty, of_difficulty),
        *_variances(advantage, of_advantage),
        length=length_mean,
        length_variance=length_variance,
        length_errors=np.repeat(normal[:, None], models, axis=1),
        length_ratio=np.ones(models),
    )
    settings = KnnSettings(difficulty_kernel, advantage_kernel, length_kernel, alikeness)
    foreseen = length_estimate(_cross_fit(neighbours, length_kernel, length), priors)
    return embeddings, _table(difficulty, advantage, length), settings, _with_length_errors(priors, length, *foreseen)


def _find_neighbours(embeddings: Array, folds: NDArray[np.int64]) -> tuple[_Neighbours, Alikeness]:
    available = len(folds) - int(np.bincount(folds).max())
    if available < 1:
        raise ValueError("all prompts of the training side lie in one fold")
    count = min(NEIGHBOURS[-1], available)
    index = np.empty((len(folds), count), dtype=np.int64)
    similarity = np.empty((len(folds), count))
    total, pairs = 0.0, 0
    for start in range(0, len(folds), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        block = embeddings[rows] @ embeddings.T
        block[folds[rows, None] == folds[None, :]] = -np.inf
        chosen = np.argpartition(block, block.shape[1] - count, axis=1)[:, block.shape[1] - count :]
        values = np.take_along_axis(block, chosen, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        index[rows] = np.take_along_axis(chosen, order, axis=1)
        similarity[rows] = np.take_along_axis(values, order, axis=1)
        total += float(block[np.isfinite(block)].sum())
        pairs += int(np.isfinite(block).sum())
    alikeness = _alikeness(similarity, total / pairs)
    return _Neighbours(index, similarity, alikeness.of(similarity)), alikeness


def _alikeness(similarity: Array, of_any_two: float) -> Alikeness:
    """Nine of ten training prompts are alike; neighbours that are no nearer than any two prompts are not."""
    alike = float(np.quantile(similarity[:, :NEAREST].mean(axis=1), 0.1))
    return Alikeness(unlike=round(max(-1.0, min(of_any_two, alike - _LEAST_ALIKENESS_RANGE)), 6), alike=round(alike, 6))


def _table(difficulty: Array, advantage: Array, length: Array) -> OutcomeTable:
    pairs = [
        part for target in (difficulty, advantage, length) for part in (target, np.isfinite(target).astype(np.float64))
    ]
    values = np.concatenate([np.nan_to_num(part, nan=0.0) for part in (*pairs, np.square(length))], axis=1)
    return OutcomeTable(values.astype(np.float32), length.shape[1])


def _deviations(score: Array) -> tuple[Array, Array]:
    """Return each model's mean, and how far each score lies above it."""
    known = np.isfinite(score).sum(axis=0)
    quality = (np.nansum(score, axis=0) + _POOL_OUTCOMES * np.nanmean(score)) / (known + _POOL_OUTCOMES)
    return quality, score - quality


def _difficulty(deviation: Array) -> Array:
    """Return per prompt (one column) how far the models that answered it lie above their means together."""
    answered = np.isfinite(deviation).sum(axis=1, keepdims=True)
    return np.where(answered > 0, np.nansum(deviation, axis=1, keepdims=True) / np.maximum(answered, 1), np.nan)


def _advantage(deviation: Array, difficulty: Array, foreseen: Evidence) -> Array:
    """Return how much better each model did than the others on the same prompt.

    Where not all models answered, the few that did are no measure of the others: what is foreseen of the prompt stands in.
    """
    complete = np.isfinite(deviation).all(axis=1, keepdims=True)
    return deviation - np.where(complete, difficulty, foreseen.share * foreseen.mean)


def _choose_kernel(
    neighbours: _Neighbours, target: Array, prior: Array, wanted: tuple[int, ...] = NEIGHBOURS
) -> Kernel:
    """Return the kernel with the least cross-fitted squared error of a target (prompts x columns) that falls back to `prior`."""
    available = neighbours.index.shape[1]
    counts = sorted({min(count, available) for count in wanted})
    errors: dict[Kernel, float] = defaultdict(float)
    for rows, similarity, alikeness, values, known in neighbours.blocks(target, available):
        for count, temperature in itertools.product(counts, TEMPERATURES):
            kernel = Kernel(count, temperature, SHRINKAGES[0])
            evidence = weigh(kernel, similarity, alikeness, values, known)
            for shrinkage in SHRINKAGES:
                share = believed(evidence.count, alikeness, shrinkage)
                error = np.square(target[rows] - share * evidence.mean - (1 - share) * prior)
                errors[replace(kernel, shrinkage=shrinkage)] += float(np.nansum(error))
    # Rounded, so that the last bits of a sum, which depend on the CPU, never decide.
    return min(errors, key=lambda kernel: round(errors[kernel], 6))


def _cross_fit(neighbours: _Neighbours, kernel: Kernel, target: Array) -> Evidence:
    """Return what the neighbours of other folds say of every training prompt."""
    parts = [
        weigh(kernel, similarity, alikeness, values, known, np.square(values))
        for _, similarity, alikeness, values, known in neighbours.blocks(target, kernel.neighbours)
    ]
    return Evidence(*(np.concatenate([getattr(part, name) for part in parts]) for name in Evidence.__slots__))


def _variances(actual: Array, foreseen: Evidence) -> tuple[Array, Array]:
    """Return per column the noise that neighbours leave, and the spread between prompts: what they explain and what even they leave open.

    A column of few outcomes takes the pool's noise, and what its own mean leaves open besides.
    """
    known = np.isfinite(actual).sum(axis=0)
    usual_count = np.median(foreseen.count, axis=0)
    squares = np.square(actual - foreseen.share * foreseen.mean)
    pool_noise = max(float(np.nanmean(squares)), _LEAST_VARIANCE)
    pool_total = max(float(np.nanmean(np.square(actual))), pool_noise)
    enough = known >= _FEW
    noise = np.where(enough, np.maximum(np.nansum(squares, axis=0) / np.maximum(known, 1), _LEAST_VARIANCE), pool_noise)
    total = np.where(enough, np.nansum(np.square(actual), axis=0) / np.maximum(known, 1), pool_total)
    left_open = noise / np.maximum(usual_count, 1.0) + noise / (known + _POOL_OUTCOMES)
    return noise, np.maximum(total - noise, 0.0) + left_open


def _length_prior(length: Array) -> tuple[Array, Array]:
    """Return mean and variance of each model's log length; the pool's, or one for any pool, where little or nothing is known."""
    pool_mean, pool_variance = _UNKNOWN_LENGTH[0], _UNKNOWN_LENGTH[1] ** 2
    if np.isfinite(length).any():
        pool_mean, pool_variance = float(np.nanmean(length)), max(float(np.nanvar(length)), _LEAST_VARIANCE)
    known = np.isfinite(length).sum(axis=0)
    mean = (np.nansum(length, axis=0) + _POOL_OUTCOMES * pool_mean) / (known + _POOL_OUTCOMES)
    deviation = np.nansum(np.square(length - mean), axis=0)
    return mean, (deviation + _POOL_OUTCOMES * pool_variance) / (known + _POOL_OUTCOMES)


def _with_length_errors(priors: KnnPriors, length: Array, mean: Array, std: Array) -> KnnPriors:
    errors = (length - mean) / std
    pooled = errors[np.isfinite(errors)]
    quantiles = priors.length_errors.copy()
    for model in range(length.shape[1]):
        own = errors[np.isfinite(errors[:, model]), model]
        usable = own if len(own) >= _FEW else pooled
        if len(usable) >= _FEW:
            quantiles[:, model] = np.quantile(usable, LENGTH_LEVELS)
    calibrated = replace(priors, length_errors=quantiles)
    known = np.isfinite(length)
    expected = np.where(known, length_tokens(mean, std, calibrated)[0], 0.0).sum(axis=0)
    actual = np.nansum(np.expm1(length), axis=0)
    enough = (known.sum(axis=0) >= _FEW) & (expected > 0)
    ratio = np.where(enough, np.clip(actual / np.where(enough, expected, 1.0), 0.5, 2.0), 1.0)
    return replace(calibrated, length_ratio=ratio)

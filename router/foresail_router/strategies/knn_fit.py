"""Fitting the nearest-neighbour strategy: kernels by cross-fitted error, priors and length errors by the same cross-fit.

Every figure comes from neighbours of other folds, so a prompt never judges itself or its copies. It must not know files or encoders.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import Array, Progress, TrainingSet
from foresail_router.strategies.kernels import Evidence, Kernel, mean_weight, weigh
from foresail_router.strategies.knn import (
    LENGTH_LEVELS,
    KnnPriors,
    KnnSettings,
    OutcomeTable,
    gather_evidence,
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


@dataclass(frozen=True, slots=True)
class _Neighbours:
    """For every training prompt, the nearest prompts of other folds, nearest first (prompts x k)."""

    index: NDArray[np.int64]
    similarity: Array

    def blocks(self, table: NDArray[np.float32]) -> Iterator[tuple[slice, Array, Array]]:
        """Yield some prompts' slice, their neighbours' similarities and the neighbours' rows of the table."""
        for start in range(0, len(self.index), _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            yield rows, self.similarity[rows], table[self.index[rows]].astype(np.float64)


@dataclass(frozen=True, slots=True)
class _Targets:
    """What is to be foreseen, NaN where unknown: quality as model mean + difficulty + advantage, and log(1 + output tokens)."""

    quality: Array
    difficulty: Array
    advantage: Array
    length: Array

    def table(self) -> OutcomeTable:
        """Return the targets side by side."""
        pairs = [
            part for target in (self.difficulty, self.advantage, self.length) for part in (target, np.isfinite(target))
        ]
        parts = [*pairs, np.square(self.length)]
        values = np.concatenate([np.nan_to_num(part.astype(np.float64), nan=0.0) for part in parts], axis=1)
        return OutcomeTable(values.astype(np.float32), self.length.shape[1])


def fit_knn(
    training: TrainingSet, progress: Progress
) -> tuple[NDArray[np.float16], OutcomeTable, KnnSettings, KnnPriors]:
    """Return embeddings, outcome table, kernels and priors; raises `ValueError` when all prompts lie in one fold."""
    embeddings = np.asarray(training.features.embeddings).astype(np.float16)
    targets = _targets(training.outcomes.score, training.outcomes.output_tokens)
    table = targets.table()
    progress("looking for neighbours")
    neighbours = _find_neighbours(embeddings.astype(np.float64), training.folds)
    progress("choosing kernels")
    settings = _choose_kernels(neighbours, table, targets)
    progress("calibrating")
    return embeddings, table, settings, _calibrate(neighbours, table, targets, settings)


def _targets(score: Array, output_tokens: Array) -> _Targets:
    known = np.isfinite(score).sum(axis=0)
    quality = (np.nansum(score, axis=0) + _POOL_OUTCOMES * np.nanmean(score)) / (known + _POOL_OUTCOMES)
    deviation = score - quality
    answered = np.isfinite(deviation).sum(axis=1, keepdims=True)
    difficulty = np.where(answered > 0, np.nansum(deviation, axis=1, keepdims=True) / np.maximum(answered, 1), np.nan)
    return _Targets(quality, difficulty, deviation - difficulty, np.log1p(output_tokens))


def _find_neighbours(embeddings: Array, folds: NDArray[np.int64]) -> _Neighbours:
    available = len(folds) - int(np.bincount(folds).max())
    if available < 1:
        raise ValueError("all prompts of the training side lie in one fold")
    count = min(NEIGHBOURS[-1], available)
    index = np.empty((len(folds), count), dtype=np.int64)
    similarity = np.empty((len(folds), count))
    for start in range(0, len(folds), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        block = embeddings[rows] @ embeddings.T
        block[folds[rows, None] == folds[None, :]] = -np.inf
        chosen = np.argpartition(block, block.shape[1] - count, axis=1)[:, block.shape[1] - count :]
        values = np.take_along_axis(block, chosen, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        index[rows] = np.take_along_axis(chosen, order, axis=1)
        similarity[rows] = np.take_along_axis(values, order, axis=1)
    return _Neighbours(index, similarity)


def _choose_kernels(neighbours: _Neighbours, table: OutcomeTable, targets: _Targets) -> KnnSettings:
    """Return for each target the kernel with the least cross-fitted squared error."""
    length_prior = _length_prior(targets.length)[0]
    candidates = _candidates(neighbours)
    errors: dict[tuple[str, Kernel], float] = {}
    for rows, similarity, gathered in neighbours.blocks(table.values):
        difficulty, has_difficulty, advantage, has_advantage, length, has_length, _ = table.columns(gathered)
        for kernel in candidates:
            for name, values, known, actual, prior in (
                ("difficulty", difficulty, has_difficulty, targets.difficulty[rows], 0.0),
                ("advantage", advantage, has_advantage, targets.advantage[rows], 0.0),
                ("length", length, has_length, targets.length[rows], length_prior),
            ):
                evidence = weigh(kernel, similarity, values, known)
                for shrinkage in SHRINKAGES:
                    share = _share(evidence, kernel, shrinkage)
                    error = float(np.nansum(np.square(actual - share * evidence.mean - (1 - share) * prior)))
                    key = (name, replace(kernel, shrinkage=shrinkage))
                    errors[key] = errors.get(key, 0.0) + error
    chosen: dict[str, Kernel] = {}
    for name in KnnSettings.__slots__:
        # Rounded, so that the last bits of a sum, which depend on the CPU, never decide.
        chosen[name] = min(
            (key[1] for key in errors if key[0] == name), key=lambda kernel: round(errors[name, kernel], 6)
        )
    return KnnSettings(**chosen)


def _candidates(neighbours: _Neighbours) -> list[Kernel]:
    available = neighbours.index.shape[1]
    kernels = []
    for count in sorted({min(count, available) for count in NEIGHBOURS}):
        for temperature in TEMPERATURES:
            usual = float(np.median(mean_weight(neighbours.similarity[:, :count], temperature)))
            kernels.append(Kernel(count, temperature, 1.0, float(f"{usual:.6g}")))
    return kernels


def _share(evidence: Evidence, kernel: Kernel, shrinkage: float) -> Array:
    """Return the evidence's share under another shrinkage than the kernel's: share = e / (e + s) holds the e to be had."""
    odds = evidence.share / np.maximum(1.0 - evidence.share, 1e-12) * (kernel.shrinkage / shrinkage)
    return odds / (1.0 + odds)


def _calibrate(neighbours: _Neighbours, table: OutcomeTable, targets: _Targets, settings: KnnSettings) -> KnnPriors:
    length, length_variance = _length_prior(targets.length)
    difficulty, advantage = np.empty_like(targets.difficulty), np.empty_like(targets.advantage)
    mean, std = np.empty_like(targets.length), np.empty_like(targets.length)
    normal = np.array([NormalDist().inv_cdf(float(level)) for level in LENGTH_LEVELS])
    models = len(targets.quality)
    unset = np.ones(1)
    priors = KnnPriors(
        targets.quality,
        unset,
        unset,
        unset,
        unset,
        length,
        length_variance,
        np.repeat(normal[:, None], models, axis=1),
        np.ones(models),
    )
    counts = []
    for rows, similarity, gathered in neighbours.blocks(table.values):
        of_difficulty, of_advantage, of_length = gather_evidence(settings, table, similarity, gathered)
        difficulty[rows] = of_difficulty.share * of_difficulty.mean
        advantage[rows] = of_advantage.share * of_advantage.mean
        mean[rows], std[rows] = length_estimate(of_length, priors)
        counts.append((of_difficulty.count, of_advantage.count))
    difficulty_count, advantage_count = (np.median(np.concatenate(part), axis=0) for part in zip(*counts, strict=True))
    difficulty_noise, difficulty_spread = _variances(targets.difficulty, difficulty, difficulty_count)
    advantage_noise, advantage_spread = _variances(targets.advantage, advantage, advantage_count)
    priors = replace(
        priors,
        difficulty_noise=difficulty_noise,
        difficulty_spread=difficulty_spread,
        advantage_noise=advantage_noise,
        advantage_spread=advantage_spread,
    )
    return _with_length_errors(priors, targets.length, mean, std)


def _variances(actual: Array, foreseen: Array, usual_count: Array) -> tuple[Array, Array]:
    """Return per column the noise that neighbours leave, and the spread between prompts: what they explain and what even they leave open.

    A column of few outcomes takes the pool's noise, and what its own mean leaves open besides.
    """
    known = np.isfinite(actual).sum(axis=0)
    squares = np.square(actual - foreseen)
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

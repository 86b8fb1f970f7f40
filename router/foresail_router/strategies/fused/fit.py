"""Fits the fused strategy: each component with what it foresees of inner folds, and from those how they are joined.

Components are a linear and a kernel smoother, networks that foresee answers (arXiv 2510.19506, in a latent form of our own), and shrunken
tables of source labels and of discovered tasks (arXiv 2603.19415, its first stage). It must not know files or encoders.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import Array, Progress, TrainingSet
from foresail_router.strategies.fused.components import Fitted, fit_components
from foresail_router.strategies.fused.parts import Joint, Parts
from foresail_router.strategies.fused.problem import Problem, shared_problem
from foresail_router.strategies.fused.settings import FusedSettings
from foresail_router.strategies.fused.weights import competitive_weights, kept_share
from foresail_router.strategies.task_aware.discovery import routed_score
from foresail_router.strategies.task_aware.doubt import fit_doubt
from foresail_router.strategies.task_aware.mixing import fit_scale
from foresail_router.strategies.task_aware.token_lengths import fit_lengths

Floats = NDArray[np.float32]
# The pool's variance counts for as much as this many outcomes of a model.
_POOL_OUTCOMES = 2.0
_LOSS_PENALTY = 100.0
# With fewer outcomes of a model they vary at least as all models' do.
_FEW = 50


def fit_parts(training: TrainingSet, settings: FusedSettings, *, seed: int, progress: Progress) -> Parts:
    """Return a fitted strategy's parts; raises `ValueError` when the prompts cannot be learned from."""
    problem = shared_problem(training)
    fitted = fit_components(problem, settings, seed=seed, progress=progress)
    progress("calibrating")
    joint, quality = _join(problem, fitted, settings)
    score, targets = training.outcomes.score, problem.targets
    known = np.isfinite(score)
    noise = _noise(score - quality)
    alone = {name: targets.mean + part[:, 1:] for name, part in fitted.foreseen.items()}
    figures = {f"utility.{name}": routed_score(score, estimate) for name, estimate in alone.items()}
    return Parts(
        problem.view,
        problem.centre,
        problem.size,
        fitted.linear,
        fitted.smoother,
        fitted.networks,
        fitted.labels,
        fitted.levels,
        tuple(fitted.foreseen),
        joint,
        fit_doubt(problem.features, noise, known, settings.penalty),
        fit_lengths(training.outcomes, problem.ridge, problem.features.shape[1]),
        fitted.tasks,
        figures | {"utility": routed_score(score, quality)},
    )


def _join(problem: Problem, fitted: Fitted, settings: FusedSettings) -> tuple[Joint, Array]:
    """Return how components are joined, and the quality that is foreseen of inner folds (prompts x models)."""
    score, targets = problem.training.outcomes.score, problem.targets
    foreseen = np.stack(list(fitted.foreseen.values()))
    ease = foreseen[:, :, :1].mean(axis=0)
    if settings.weights == "equal":
        mixed = foreseen[:, :, 1:].mean(axis=0)
        weights = np.full(len(foreseen), fit_scale(targets.advantage, mixed) / len(foreseen))
    else:
        weights = competitive_weights(targets.advantage, foreseen[:, :, 1:], targets.mean)
    advantage = np.tensordot(weights, foreseen[:, :, 1:], axes=1)
    if settings.caution:
        share = kept_share(score, targets.mean, advantage)
        weights, advantage = share * weights, share * advantage
    scale = fit_scale(targets.ease, ease)
    quality = np.clip(targets.mean + scale * ease + advantage, 0.0, 1.0)
    loss = _loss(score, quality)
    loss_weights, loss_bias = problem.ridge.fit(loss[:, None], _LOSS_PENALTY)
    joint = Joint(_floats(targets.mean), scale, _floats(weights), _floats(loss_weights[:, 0]), float(loss_bias[0]))
    return joint, quality


def _loss(score: Array, quality: Array) -> Array:
    """Return what the choice loses of each prompt against the best model (prompts), its mean being 1; NaN with fewer than two outcomes."""
    known = np.isfinite(score)
    chosen = np.where(known, quality, -np.inf).argmax(axis=1)
    best = np.where(known, score, -np.inf).max(axis=1)
    compared = known.sum(axis=1) > 1
    loss = np.where(compared, best - score[np.arange(len(score)), chosen], np.nan)
    usual = float(np.nanmean(loss)) if compared.any() else 0.0
    return loss / usual if usual > 0 else np.ones(len(score))


def _noise(errors: Array) -> Array:
    """Return the variance of each model's outcomes around what was foreseen of them (prompts x models, NaN where unknown)."""
    known = np.isfinite(errors)
    squares, outcomes = np.square(np.where(known, errors, 0.0)).sum(axis=0), known.sum(axis=0)
    usual = squares.sum() / outcomes.sum()
    noise = (squares + _POOL_OUTCOMES * usual) / (outcomes + _POOL_OUTCOMES)
    # A short run of luck looks like certainty.
    return np.asarray(np.where(outcomes < _FEW, np.maximum(noise, usual), noise))


def _floats(array: NDArray[Any]) -> Floats:
    return np.asarray(array, dtype=np.float32)

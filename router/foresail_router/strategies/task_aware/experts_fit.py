"""Trains the mixture of experts in two phases: trunk and general head on all prompts, then the tasks' heads on their prompts.

Plain numpy: two layers need no automatic gradients, and so no library of networks is needed for training. It must not know folds or how
memberships came about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.task_aware.experts import Array, Experts, Floats
from foresail_router.strategies.task_aware.ridge import Linear

Gradients = Callable[[NDArray[np.int64]], list[Floats]]
_HIDDEN = 64
_BATCH = 256
_DROPOUT = 0.5


@dataclass(frozen=True, slots=True)
class ExpertData:
    """What experts learn from: features (prompts x width), targets (prompts x outputs, NaN where unknown), memberships (prompts x tasks)."""

    features: Floats
    targets: Array
    members: Array


@dataclass(frozen=True, slots=True)
class _Phase:
    """How long and how fast a phase learns, and how strongly its weights are drawn to 0."""

    epochs: int
    rate: float
    decay: float


_GENERAL = _Phase(epochs=6, rate=2e-3, decay=0.05)
_TASKS = _Phase(epochs=4, rate=5e-3, decay=0.2)


def train_experts(data: ExpertData, start: Linear, heads: NDArray[np.bool_], *, rank: int, seed: int) -> Experts:
    """Return trained experts.

    `start` is the ridge solution that the general head starts from: the trunk learns what is not linear. `heads` (tasks x outputs)
    says which outputs a task's head changes.
    """
    generator = np.random.default_rng(seed)
    known = np.isfinite(data.targets)
    linear = data.features.astype(np.float64) @ start[0] + start[1]
    residual = np.where(known, data.targets - linear, 0.0).astype(np.float32)
    trunk, trunk_bias, general = _train_general(data.features, residual, known, generator)
    hidden = np.maximum(data.features @ trunk + trunk_bias, 0.0)
    rest = np.where(known, residual - hidden @ general, 0.0).astype(np.float32)
    down, up = _train_tasks(hidden, rest, known, data.members.astype(np.float32), heads, rank, generator)
    return Experts(
        trunk,
        trunk_bias,
        np.asarray(start[0], dtype=np.float32),
        general,
        np.asarray(start[1], dtype=np.float32),
        down,
        up,
    )


def _train_general(
    features: Floats, residual: Floats, known: NDArray[np.bool_], generator: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    trunk = (generator.standard_normal((features.shape[1], _HIDDEN)) * np.sqrt(2.0)).astype(np.float32)
    trunk_bias = np.zeros(_HIDDEN, dtype=np.float32)
    general = np.zeros((_HIDDEN, residual.shape[1]), dtype=np.float32)

    def gradients(part: NDArray[np.int64]) -> list[Floats]:
        kept = (generator.random((len(part), _HIDDEN)) >= _DROPOUT).astype(np.float32) / np.float32(1.0 - _DROPOUT)
        before = features[part] @ trunk + trunk_bias
        hidden = np.maximum(before, 0.0) * kept
        error = _error(hidden @ general - residual[part], known[part])
        back = (error @ general.T) * kept * (before > 0)
        return [features[part].T @ back, back.sum(axis=0), hidden.T @ error]

    _descend([trunk, trunk_bias, general], gradients, len(features), _GENERAL, generator)
    return trunk, trunk_bias, general


def _train_tasks(
    hidden: Floats,
    rest: Floats,
    known: NDArray[np.bool_],
    members: Floats,
    heads: NDArray[np.bool_],
    rank: int,
    generator: np.random.Generator,
) -> tuple[Floats, Floats]:
    tasks, outputs = heads.shape
    # All tasks' low-rank factors side by side: one product for all of them.
    down = (generator.standard_normal((_HIDDEN, tasks * rank)) / np.sqrt(_HIDDEN)).astype(np.float32)
    up = np.zeros((tasks * rank, outputs), dtype=np.float32)
    allowed = np.repeat(heads, rank, axis=0).astype(np.float32)

    def gradients(part: NDArray[np.int64]) -> list[Floats]:
        shares = np.repeat(members[part], rank, axis=1)
        inner = (hidden[part] @ down) * shares
        error = _error(inner @ up - rest[part], known[part])
        return [hidden[part].T @ ((error @ up.T) * shares), (inner.T @ error) * allowed]

    if tasks:
        _descend([down, up], gradients, len(hidden), _TASKS, generator)
    split_down = np.ascontiguousarray(down.reshape(_HIDDEN, tasks, rank).transpose(1, 0, 2))
    return split_down, up.reshape(tasks, rank, outputs)


def _error(difference: Floats, known: NDArray[np.bool_]) -> Floats:
    """Return the gradient of the mean squared error over what is known."""
    scale = np.float32(2.0 / max(int(known.sum()), 1))
    return np.where(known, difference, np.float32(0.0)) * scale


def _descend(
    weights: list[Floats], gradients: Gradients, prompts: int, phase: _Phase, generator: np.random.Generator
) -> None:
    """Change the weights in place by AdamW with a rate that falls to 0."""
    first = [np.zeros_like(weight) for weight in weights]
    second = [np.zeros_like(weight) for weight in weights]
    batches = max(1, prompts // _BATCH)
    steps = phase.epochs * batches
    step = 0
    for _ in range(phase.epochs):
        for part in np.array_split(generator.permutation(prompts), batches):
            rate = phase.rate * (1.0 - step / steps)
            step += 1
            for weight, gradient, mean, square in zip(weights, gradients(part), first, second, strict=True):
                mean += np.float32(0.1) * (gradient - mean)
                square += np.float32(0.001) * (np.square(gradient) - square)
                size = np.sqrt(square / np.float32(1.0 - 0.999**step)) + np.float32(1e-8)
                weight *= np.float32(1.0 - rate * phase.decay)
                weight -= np.float32(rate / (1.0 - 0.9**step)) * mean / size

"""What a fitted fused strategy consists of, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import Array
from foresail_router.strategies.fused.labels import LabelClassifier
from foresail_router.strategies.fused.memberships import Level
from foresail_router.strategies.fused.smoother import Smoother
from foresail_router.strategies.lookahead.network import Networks
from foresail_router.strategies.task_aware.doubt import Doubt
from foresail_router.strategies.task_aware.tasks import TaskFacts
from foresail_router.strategies.task_aware.token_lengths import TokenLengths
from foresail_router.strategies.views import View

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear smoother of deviations: `weights` (features x 1 + models), `bias`."""

    weights: Floats
    bias: Floats


@dataclass(frozen=True, slots=True)
class Joint:
    """How components become quality: `mean` (models) is added to the components' mean ease times `ease_scale`, and to
    their advantages, each times its weight (components).

    `loss_weights` (features) and `loss_bias` foresee how much the choice loses against the best model, as a multiple of what it usually does.
    """

    mean: Floats
    ease_scale: float
    weights: Floats
    loss_weights: Floats
    loss_bias: float


@dataclass(frozen=True, slots=True)
class Discovered:
    """The discovered tasks as such: the groups of that level which routes best alone, for a person to look at.

    `quality` (tasks x models) is what each model scores on each task, shrunk to its mean.
    """

    level: str
    facts: tuple[TaskFacts, ...]
    quality: Floats


@dataclass(frozen=True, slots=True)
class Parts:
    """All that a fitted strategy consists of; a component that was left out is None, or no level; `tasks` is None where none was discovered."""

    view: View
    centre: Floats
    size: float
    linear: Linear | None
    smoother: Smoother | None
    networks: Networks | None
    labels: LabelClassifier | None
    levels: Mapping[str, Level]
    components: tuple[str, ...]
    joint: Joint
    doubt: Doubt
    lengths: TokenLengths
    tasks: Discovered | None
    figures: Mapping[str, float]


def deviations(quality: Array, mean: Array) -> Array:
    """Return ease and advantages (prompts x 1 + models) of qualities (prompts x models) around the models' means."""
    apart = quality - mean
    ease = apart.mean(axis=1, keepdims=True)
    return np.concatenate([ease, apart - ease], axis=1)

"""What every strategy is: fitted on features and outcomes, applied to features, saved as arrays and plain configuration.

It must not know any strategy but by the registry's names, nor where features, outcomes and state are kept.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from foresail_router.data.matrix import OutcomeMatrix

Array = NDArray[np.float64]
Progress = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Features:
    """What is seen of some prompts: their texts and one embedding of unit length per text (prompts x width)."""

    texts: Sequence[str]
    embeddings: NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Prompts with their outcomes, in the same order, and the fold of each, so that same texts are never told apart."""

    features: Features
    outcomes: OutcomeMatrix
    folds: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Predictions:
    """Estimates for prompts (rows) and models (columns).

    `quality` in [0, 1]; `quality_std` is what is not known of it; `output_tokens` is an expectation, with its 5 % and 95 % quantiles.
    """

    quality: Array
    quality_std: Array
    output_tokens: Array
    output_tokens_p05: Array
    output_tokens_p95: Array


@dataclass(frozen=True, slots=True)
class State:
    """A fitted strategy as plain data: named arrays, and configuration that JSON can hold."""

    arrays: Mapping[str, NDArray[Any]]
    config: Mapping[str, Any]


class Strategy(Protocol):
    """A fitted strategy. Pure: the same features give the same predictions, however they are batched."""

    @classmethod
    def fit(cls, training: TrainingSet, *, seed: int, progress: Progress) -> Self:
        """Fit on the training side alone, what is chosen or calibrated included; `progress` is told what is being done."""
        ...

    def predict(self, features: Features) -> Predictions:
        """Return estimates for each prompt, for the training set's models in their order."""
        ...

    def state(self) -> State:
        """Return all that `from_state` needs."""
        ...

    @classmethod
    def from_state(cls, state: State, *, models: int, width: int) -> Self:
        """Rebuild from `state` for so many models and so wide embeddings; raises `ValueError` when the state is not of this strategy."""
        ...


# Named, not imported: a sidecar that serves one strategy must not load what another one needs.
_STRATEGIES = {"knn": "foresail_router.strategies.knn:KnnStrategy"}


def strategy_names() -> tuple[str, ...]:
    """Return the names under which strategies are registered."""
    return tuple(_STRATEGIES)


def find_strategy(name: str) -> type[Strategy]:
    """Return the strategy of that name; raises `KeyError` for an unknown one."""
    module, _, attribute = _STRATEGIES[name].partition(":")
    strategy: type[Strategy] = getattr(importlib.import_module(module), attribute)
    return strategy

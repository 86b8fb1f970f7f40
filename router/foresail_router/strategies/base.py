"""What every strategy is: fitted on features and outcomes, applied to features, saved as arrays and plain configuration.

It must not know any strategy but by the registry's names, nor where features, outcomes and state are kept.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.features.lexical import LexicalCounts, count_lexical

Array = NDArray[np.float64]
Progress = Callable[[str], object]
Settings = Mapping[str, Any]


class Features:
    """What is seen of some prompts: their texts, one embedding of unit length per text (prompts x width), and what is derived of both.

    Lexical features are counted on first use and kept, so that all strategies that want them share the work.
    """

    def __init__(self, texts: Sequence[str], embeddings: NDArray[np.floating[Any]]) -> None:
        self.texts = texts
        self.embeddings = embeddings
        self._lexical: LexicalCounts | None = None

    @property
    def lexical(self) -> LexicalCounts:
        """Hashed counts of words, character n-grams and structure."""
        if self._lexical is None:
            self._lexical = count_lexical(self.texts)
        return self._lexical

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Features:
        """Return the features of some prompts, by mask or by index."""
        numbers = np.arange(len(self.texts))[chosen]
        part = Features([self.texts[number] for number in numbers], self.embeddings[numbers])
        if self._lexical is not None:
            part._lexical = self._lexical.rows(numbers)
        return part


@dataclass(frozen=True, slots=True)
class AnswerEmbeddings:
    """The embedding of the opening of each model's answer (prompts x models x width, float16; 0 where there is no answer)."""

    vectors: NDArray[np.float16]
    known: NDArray[np.bool_]

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> AnswerEmbeddings:
        """Return the answers to some prompts, by mask or by index."""
        return AnswerEmbeddings(self.vectors[chosen], self.known[chosen])


@dataclass(frozen=True, slots=True)
class DescriptionEmbeddings:
    """The embedding of what a model wrote of each prompt's task (prompts x width, unit length; 0 where it wrote nothing)."""

    vectors: NDArray[np.float16]
    known: NDArray[np.bool_]

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> DescriptionEmbeddings:
        """Return the descriptions of some prompts, by mask or by index."""
        return DescriptionEmbeddings(self.vectors[chosen], self.known[chosen])


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Prompts with their outcomes, in the same order, and the fold of each, so that same texts are never told apart.

    A prompt's source label is `outcomes.prompts[i].task`: seen in training alone. `answers` is None where no answer is recorded,
    `descriptions` where no task was described.
    """

    features: Features
    outcomes: OutcomeMatrix
    folds: NDArray[np.int64]
    answers: AnswerEmbeddings | None = None
    descriptions: DescriptionEmbeddings | None = None

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> TrainingSet:
        """Return some of the prompts, by mask or by index."""
        answers = None if self.answers is None else self.answers.rows(chosen)
        descriptions = None if self.descriptions is None else self.descriptions.rows(chosen)
        return TrainingSet(
            self.features.rows(chosen), self.outcomes.rows(chosen), self.folds[chosen], answers, descriptions
        )


@dataclass(frozen=True, slots=True)
class Predictions:
    """Estimates for prompts (rows) and models (columns).

    `quality` in [0, 1]; `quality_std` is what is not known of it; `output_tokens` is an expectation, with its quantiles in percent.
    """

    quality: Array
    quality_std: Array
    output_tokens: Array
    output_tokens_p05: Array
    output_tokens_p50: Array
    output_tokens_p90: Array
    output_tokens_p95: Array


@dataclass(frozen=True, slots=True)
class State:
    """A fitted strategy as plain data: named arrays, and configuration that JSON can hold."""

    arrays: Mapping[str, NDArray[Any]]
    config: Mapping[str, Any]


class Strategy(Protocol):
    """A fitted strategy. Pure: the same features give the same predictions, however they are batched."""

    # What may be tuned: at most three configurations, the first of which is the default. `settings` of `fit` is one of them, or
    # one with changes for an ablation.
    configurations: ClassVar[tuple[Settings, ...]]
    # Whether `fit` learns from `TrainingSet.answers` where they are recorded; a strategy that does not say so is given none.
    uses_answers: ClassVar[bool] = False
    # Whether `fit` learns from `TrainingSet.descriptions` where they are written; likewise.
    uses_descriptions: ClassVar[bool] = False
    # Whether `fit` and `predict` give the same bytes on every CPU: not so with decompositions and solvers, whose last bits differ.
    reproducible: ClassVar[bool] = False

    @classmethod
    def fit(cls, training: TrainingSet, *, seed: int, progress: Progress, settings: Settings | None = None) -> Self:
        """Fit on the training side alone, what is chosen or calibrated included; `progress` is told what is being done.

        Raises `ValueError` when the prompts cannot be learned from, or for a setting that the strategy does not know.
        """
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
_STRATEGIES = {
    "knn": "foresail_router.strategies.knn:KnnStrategy",
    "random": "foresail_router.strategies.baselines.constant:RandomBaseline",
    "cheapest": "foresail_router.strategies.baselines.constant:CheapestBaseline",
    "best-single": "foresail_router.strategies.baselines.constant:BestSingleBaseline",
    "kmeans": "foresail_router.strategies.baselines.clusters:KMeansBaseline",
    "uniroute": "foresail_router.strategies.baselines.clusters:UniRouteBaseline",
    "ridge": "foresail_router.strategies.baselines.linear:RidgeBaseline",
    "logistic": "foresail_router.strategies.baselines.linear:LogisticBaseline",
    "mlp": "foresail_router.strategies.baselines.absolute:MlpBaseline",
    "matrix-factorisation": "foresail_router.strategies.baselines.absolute:MatrixFactorisationBaseline",
    "mirt": "foresail_router.strategies.baselines.absolute:MirtBaseline",
    "ipr": "foresail_router.strategies.baselines.absolute:IprBaseline",
    "routerdc": "foresail_router.strategies.baselines.relative:RouterDcBaseline",
    "zooter": "foresail_router.strategies.baselines.relative:ZooterBaseline",
    "multilabel": "foresail_router.strategies.baselines.relative:MultiLabelBaseline",
    "smoothie": "foresail_router.strategies.baselines.neighbours:SmoothieBaseline",
    "carrot-knn": "foresail_router.strategies.baselines.neighbours:CarrotKnnBaseline",
    "carrot-linear": "foresail_router.strategies.baselines.linear:CarrotLinearBaseline",
    "latent-lookahead": "foresail_router.strategies.lookahead.latent:LatentStrategy",
    "fused": "foresail_router.strategies.fused.strategy:FusedStrategy",
    "task-aware": "foresail_router.strategies.task_aware.strategy:TaskAwareStrategy",
}


def strategy_names() -> tuple[str, ...]:
    """Return the names under which strategies are registered."""
    return tuple(_STRATEGIES)


def find_strategy(name: str) -> type[Strategy]:
    """Return the strategy of that name; raises `KeyError` for an unknown one."""
    module, _, attribute = _STRATEGIES[name].partition(":")
    strategy: type[Strategy] = getattr(importlib.import_module(module), attribute)
    return strategy


def uses_answers(strategy: type[Strategy], settings: Settings | None = None) -> bool:
    """Return whether a strategy learns from answers, always or with these settings, so that they are worth embedding."""
    return bool(getattr(strategy, "uses_answers", False) or (settings or {}).get("answers", False))


def uses_descriptions(strategy: type[Strategy]) -> bool:
    """Return whether a strategy learns from descriptions of prompts' tasks."""
    return bool(getattr(strategy, "uses_descriptions", False))


def is_reproducible(strategy: type[Strategy]) -> bool:
    """Return whether a strategy learns the same bytes from the same features on every CPU."""
    return bool(getattr(strategy, "reproducible", False))

"""Baselines that learn nothing of prompts: random, the cheapest model, the best single one. Quality comes from the models' means."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import Array, Features, Predictions, Progress, Settings, State, TrainingSet
from foresail_router.strategies.baselines.learning import chosen_settings, known_models, shrunken_means, taken
from foresail_router.strategies.lengths import MarginalLengths

# By how much the model that such a baseline is to choose exceeds its equals.
_EDGE = 1e-4


class BestSingleBaseline:
    """Every prompt gets each model's mean training score: without weight on cost, the best single model is chosen."""

    configurations: ClassVar[tuple[Settings, ...]] = ({},)
    uses_answers: ClassVar[bool] = False

    def __init__(
        self, quality: NDArray[np.float32], spread: NDArray[np.float32], lengths: MarginalLengths, seed: int
    ) -> None:
        self._quality = quality
        self._spread = spread
        self._lengths = lengths
        self._seed = seed

    @classmethod
    def fit(cls, training: TrainingSet, *, seed: int, progress: Progress, settings: Settings | None = None) -> Self:
        """Take means; see `Strategy.fit`."""
        chosen_settings(cls.configurations, settings)
        known_models(training)
        score = training.outcomes.score
        quality = cls.quality(training, shrunken_means(score))
        spread = np.sqrt(np.nanvar(score) / np.isfinite(score).sum(axis=0))
        return cls(quality.astype(np.float32), spread.astype(np.float32), MarginalLengths.fit(training.outcomes), seed)

    @classmethod
    def quality(cls, training: TrainingSet, means: Array) -> Array:
        """Return each model's quality."""
        return means

    def predict(self, features: Features) -> Predictions:
        """Return the same for each prompt."""
        prompts = len(features.texts)
        quality, spread = (
            np.repeat(part[None].astype(np.float64), prompts, axis=0) for part in (self._quality, self._spread)
        )
        return Predictions(self._picked(features, quality), spread, *self._lengths.predict(prompts))

    def _picked(self, features: Features, quality: Array) -> Array:
        return np.clip(quality, 0.0, 1.0)

    def state(self) -> State:
        """Return the means as arrays, the seed as configuration."""
        arrays: dict[str, NDArray[Any]] = {"quality": self._quality, "spread": self._spread, **self._lengths.arrays()}
        return State(arrays, {"seed": self._seed})

    @classmethod
    def from_state(cls, state: State, *, models: int, width: int) -> Self:
        """See `Strategy.from_state`."""
        arrays = taken(state.arrays, {"quality": (models,), "spread": (models,)})
        seed = state.config.get("seed")
        if not isinstance(seed, int):
            raise ValueError("its seed is not a number")
        lengths = MarginalLengths.from_arrays(state.arrays, models=models)
        return cls(arrays["quality"], arrays["spread"], lengths, seed)


class CheapestBaseline(BestSingleBaseline):
    """Always the model of the lowest mean training cost: all models are said to be as good as it is, and it by a hair better."""

    @classmethod
    def quality(cls, training: TrainingSet, means: Array) -> Array:
        """Return the cheapest model's mean for all; raises `ValueError` where no cost is recorded."""
        cost = training.outcomes.cost_usd
        known = np.isfinite(cost)
        if not known.any():
            raise ValueError("no outcome has a cost, so no model is the cheapest")
        count = known.sum(axis=0)
        mean = np.where(count > 0, np.where(known, cost, 0.0).sum(axis=0) / np.maximum(count, 1), np.inf)
        cheapest = int(mean.argmin())
        quality = np.full(len(means), means[cheapest] - _EDGE)
        quality[cheapest] = means[cheapest]
        return quality


class RandomBaseline(BestSingleBaseline):
    """All models are said to be equally good; without weight on cost a hash of seed and text decides, the same every time."""

    @classmethod
    def quality(cls, training: TrainingSet, means: Array) -> Array:
        """Return the models' common mean."""
        return np.full(len(means), means.mean())

    def _picked(self, features: Features, quality: Array) -> Array:
        models = quality.shape[1]
        for row, text in enumerate(features.texts):
            content = f"{self._seed} {text}".encode("utf-8", "surrogatepass")
            number = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") % models
            quality[row, np.arange(models) != number] -= _EDGE
        return np.clip(quality, 0.0, 1.0)

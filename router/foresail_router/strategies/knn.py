"""Kernel nearest neighbours on sentence embeddings: a prompt will fare as the most similar prompts of the training set fared.

Quality is a model's mean, plus how much easier than usual such prompts are for all models, plus how much better than the others this
one does on them. The last two are neighbours' means with kernels of their own: difficulty is a matter of few near prompts, while
differences between models are small and want many. Output length likewise, of its logarithm. It must not know how prompts are embedded.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import Array, Features, Predictions, Progress, Settings, State, TrainingSet
from foresail_router.strategies.kernels import Alikeness, Evidence, Floats, Kernel, weigh

# The 5 % steps of the standardised error of log lengths: enough for quantiles and for the mean of a skewed length.
LENGTH_LEVELS = np.arange(0.05, 0.951, 0.05)
# Below a spread of 2 % a standardised error means nothing.
_LEAST_LENGTH_VARIANCE = 0.02**2


@dataclass(frozen=True, slots=True)
class KnnSettings:
    """One kernel per target, chosen inside the training side, and what counts as alike there."""

    difficulty: Kernel
    advantage: Kernel
    length: Kernel
    alikeness: Alikeness

    @property
    def kernels(self) -> tuple[Kernel, Kernel, Kernel]:
        """All kernels."""
        return self.difficulty, self.advantage, self.length


@dataclass(frozen=True, slots=True)
class KnnPriors:
    """Per model (difficulty: once): means without regard to the prompt; noise is what neighbours leave, spread what lies between prompts.

    `length_errors` holds the standardised errors of log lengths at `LENGTH_LEVELS` (levels x models), `length_ratio` actual over expected.
    """

    quality: Array
    difficulty_noise: Array
    difficulty_spread: Array
    advantage_noise: Array
    advantage_spread: Array
    length: Array
    length_variance: Array
    length_errors: Array
    length_ratio: Array


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """Training outcomes side by side, one row per prompt: difficulty, advantages and log lengths (with squares), each with what is known."""

    values: NDArray[np.float32]
    models: int

    def columns(self, rows: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats, Floats]:
        """Split gathered rows (... x columns): difficulty and known, advantage and known, length, known and square."""
        edges = np.cumsum([1, 1, *[self.models] * 4])
        parts = np.split(rows, edges, axis=-1)
        return parts[0], parts[1], parts[2], parts[3], parts[4], parts[5], parts[6]


class KnnStrategy:
    """See the module."""

    reproducible: ClassVar[bool] = True

    def __init__(
        self, embeddings: NDArray[np.float16], table: OutcomeTable, settings: KnnSettings, priors: KnnPriors
    ) -> None:
        self._stored_embeddings = embeddings
        self._embeddings = embeddings.astype(np.float32)
        self._table = table
        self._settings = settings
        self._priors = priors
        self._neighbours = max(
            kernel.neighbours for kernel in (settings.difficulty, settings.advantage, settings.length)
        )

    # How many neighbours speak for differences between models: as many as cross-fitted error wants, or so many.
    configurations: ClassVar[tuple[Settings, ...]] = ({}, {"neighbours": 100}, {"neighbours": 250})

    @classmethod
    def fit(cls, training: TrainingSet, *, seed: int, progress: Progress, settings: Settings | None = None) -> Self:
        """Choose kernels by cross-fitted squared error, then keep the whole training side; nothing in it is random."""
        from foresail_router.strategies.knn_fit import fit_knn

        changes = dict(settings or {})
        neighbours = changes.pop("neighbours", None)
        if changes or not (neighbours is None or (isinstance(neighbours, int) and neighbours > 0)):
            raise ValueError("its one setting is `neighbours`, a number above 0")
        return cls(*fit_knn(training, progress, neighbours))

    def predict(self, features: Features) -> Predictions:
        """Return estimates for each prompt; each is worked out alone, so they do not depend on what else is asked."""
        rows = [self._predict_one(vector) for vector in np.asarray(features.embeddings, dtype=np.float32)]
        stacked = np.stack(rows) if rows else np.empty((0, 7, self._table.models))
        return Predictions(*(stacked[:, index] for index in range(7)))

    def _predict_one(self, vector: NDArray[np.float32]) -> Array:
        similarity = self._embeddings @ vector
        last = len(similarity) - self._neighbours
        chosen = np.argpartition(similarity, last)[last:] if last > 0 else np.arange(len(similarity))
        chosen = chosen[np.argsort(-similarity[chosen], kind="stable")]
        nearest = similarity[chosen].astype(np.float64)[None]
        difficulty, advantage, length = gather_evidence(
            self._settings, self._table, nearest, self._table.values[chosen][None]
        )
        quality, quality_std = quality_estimate(difficulty, advantage, self._priors)
        tokens = length_tokens(*length_estimate(length, self._priors), self._priors)
        return np.concatenate([quality, quality_std, *(part[None] if part.ndim == 1 else part for part in tokens)])

    def state(self) -> State:
        """Return embeddings, outcome table and priors as arrays, the kernels as configuration."""
        arrays: dict[str, NDArray[Any]] = {"embeddings": self._stored_embeddings, "outcomes": self._table.values}
        arrays |= {f"prior.{name}": value.astype(np.float32) for name, value in asdict(self._priors).items()}
        return State(arrays, asdict(self._settings))

    @classmethod
    def from_state(cls, state: State, *, models: int, width: int) -> Self:
        """Rebuild; raises `ValueError` when an array is missing, not finite, or of another shape than the rest."""
        try:
            embeddings, values = state.arrays["embeddings"], state.arrays["outcomes"]
            priors = {name: state.arrays[f"prior.{name}"].astype(np.float64) for name in KnnPriors.__slots__}
            kernels = {name: Kernel(**state.config[name]) for name in ("difficulty", "advantage", "length")}
            settings = KnnSettings(**kernels, alikeness=Alikeness(**state.config["alikeness"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"the state of the strategy lacks {error}") from error
        _check_shapes(embeddings, values, priors, models, width)
        _check_settings(settings, len(embeddings))
        table = OutcomeTable(values.astype(np.float32, copy=False), models)
        return cls(embeddings.astype(np.float16, copy=False), table, settings, KnnPriors(**priors))


def gather_evidence(
    settings: KnnSettings, table: OutcomeTable, similarity: Array, rows: Floats
) -> tuple[Evidence, Evidence, Evidence]:
    """Return what neighbours (prompts x k, nearest first; their table rows prompts x k x columns) say of difficulty, advantage and length."""
    difficulty, has_difficulty, advantage, has_advantage, length, has_length, squares = table.columns(rows)
    alike = settings.alikeness.of(similarity)
    return (
        weigh(settings.difficulty, similarity, alike, difficulty, has_difficulty),
        weigh(settings.advantage, similarity, alike, advantage, has_advantage),
        weigh(settings.length, similarity, alike, length, has_length, squares),
    )


def quality_estimate(difficulty: Evidence, advantage: Evidence, priors: KnnPriors) -> tuple[Array, Array]:
    """Return quality and its standard deviation: the neighbours' sampling error, and the spread between prompts where they say little."""
    quality = priors.quality + difficulty.share * difficulty.mean + advantage.share * advantage.mean
    variance = _unknown(difficulty, priors.difficulty_noise, priors.difficulty_spread)
    variance = variance + _unknown(advantage, priors.advantage_noise, priors.advantage_spread)
    return np.clip(quality, 0.0, 1.0), np.sqrt(variance)


def length_estimate(length: Evidence, priors: KnnPriors) -> tuple[Array, Array]:
    """Return the expectation and the standard deviation of log(1 + output tokens) of one answer."""
    mean = length.share * length.mean + (1 - length.share) * priors.length
    local = np.maximum(length.square - np.square(length.mean), 0.0)
    variance = length.share * local + (1 - length.share) * priors.length_variance
    return mean, np.sqrt(np.maximum(variance, _LEAST_LENGTH_VARIANCE))


def length_tokens(mean: Array, std: Array, priors: KnnPriors) -> tuple[Array, Array, Array, Array, Array]:
    """Return expected tokens and their 5, 50, 90 and 95 % quantiles, from the errors that were seen in cross-fitting."""
    levels = np.maximum(np.expm1(mean + priors.length_errors[:, None, :] * std), 0.0)
    return levels.mean(axis=0) * priors.length_ratio, levels[0], levels[9], levels[17], levels[18]


def _unknown(evidence: Evidence, noise: Array, spread: Array) -> Array:
    variance: Array = (
        np.square(evidence.share) * noise / np.maximum(evidence.count, 1.0) + np.square(1 - evidence.share) * spread
    )
    return variance


def _check_shapes(
    embeddings: NDArray[Any], values: NDArray[Any], priors: dict[str, NDArray[np.float64]], models: int, width: int
) -> None:
    if embeddings.ndim != 2 or embeddings.shape[1] != width or values.shape != (len(embeddings), 2 + 5 * models):
        raise ValueError("its embeddings and outcomes do not fit the encoder and the models")
    once = ("difficulty_noise", "difficulty_spread")
    shapes = {name: [1 if name in once else models] for name in priors} | {
        "length_errors": [len(LENGTH_LEVELS), models]
    }
    if any(list(priors[name].shape) != shape for name, shape in shapes.items()):
        raise ValueError("its priors do not fit the models")
    if not all(np.isfinite(value).all() for value in (embeddings, values, *priors.values())):
        raise ValueError("its arrays hold numbers that are not finite")


def _check_settings(settings: KnnSettings, prompts: int) -> None:
    alikeness = settings.alikeness
    positive = [number for kernel in settings.kernels for number in (kernel.temperature, kernel.shrinkage)]
    if not all(isinstance(number, int | float) for number in (*positive, alikeness.unlike, alikeness.alike)):
        raise ValueError("its settings are not numbers")
    if not all(0 < number < np.inf for number in positive) or not -1 <= alikeness.unlike < alikeness.alike <= 1:
        raise ValueError("its settings are out of range")
    if not all(isinstance(kernel.neighbours, int) and 1 <= kernel.neighbours <= prompts for kernel in settings.kernels):
        raise ValueError("its kernels look at more neighbours than there are prompts")

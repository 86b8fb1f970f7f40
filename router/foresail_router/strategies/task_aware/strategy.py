"""Task-aware routing as a strategy: the prompt's own estimate by a mixture of experts, mixed with what models score on its task.

Quality is `alpha * own + (1 - alpha) * task`, with an alpha per task; where no task fits, the general head alone speaks. Each prompt is
worked out alone, with numpy, so that estimates do not depend on what else is asked. It must not know how anything was learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import Array, Features, Predictions, Progress, Settings, State, TrainingSet
from foresail_router.strategies.task_aware.classifier import TaskClassifier
from foresail_router.strategies.task_aware.doubt import Doubt
from foresail_router.strategies.task_aware.experts import Experts
from foresail_router.strategies.task_aware.tasks import TaskFacts, read_facts
from foresail_router.strategies.task_aware.token_lengths import TokenLengths
from foresail_router.strategies.views import View

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Mixture:
    """How estimates are put together.

    `scores` and `scores_std` (tasks of all levels x 1 + models: ease, advantages) are the tasks' shrunken scores; `alphas` (tasks) weigh
    the prompt's own estimate against them. `mean` (models) is what is added to both; `scale` (ease, advantages) corrects their slope.
    """

    scores: Floats
    scores_std: Floats
    alphas: Floats
    mean: Floats
    scale: Floats


@dataclass(frozen=True, slots=True)
class Parts:
    """All that a fitted strategy consists of. `centre` and `size` standardise the view."""

    view: View
    centre: Floats
    size: float
    classifier: TaskClassifier
    experts: Experts
    mixture: Mixture
    doubt: Doubt
    lengths: TokenLengths
    tasks: tuple[TaskFacts, ...]
    figures: Mapping[str, float]


class TaskAwareStrategy:
    """See the module."""

    configurations: ClassVar[tuple[Settings, ...]] = ({},)
    uses_descriptions: ClassVar[bool] = True

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @property
    def tasks(self) -> tuple[TaskFacts, ...]:
        """The discovered tasks, largest first."""
        return self._parts.tasks

    @property
    def task_scores(self) -> Array:
        """What each model scores on each task, shrunk (tasks x models)."""
        classifier = self._parts.classifier
        before = sum(classifier.sizes[: classifier.main])
        scores = self._parts.mixture.scores[before : before + classifier.tasks].astype(np.float64)
        quality: Array = np.clip(self._parts.mixture.mean + scores[:, :1] + scores[:, 1:], 0.0, 1.0)
        return quality

    @classmethod
    def fit(cls, training: TrainingSet, *, seed: int, progress: Progress, settings: Settings | None = None) -> Self:
        """Discover tasks, then train classifier, experts and mixture on the training side alone; raises `ValueError` as the protocol says."""
        from foresail_router.strategies.task_aware.fit import fit_parts
        from foresail_router.strategies.task_aware.settings import read_settings

        return cls(fit_parts(training, read_settings(settings), seed=seed, progress=progress))

    def predict(self, features: Features) -> Predictions:
        """Return estimates for each prompt; each is worked out alone."""
        rows = [self._predict_one(row) for row in self._features(features)]
        stacked = np.stack(rows) if rows else np.empty((0, 7, len(self._parts.mixture.mean)))
        return Predictions(*(stacked[:, index] for index in range(7)))

    def memberships(self, features: Features) -> Array:
        """Return each prompt's memberships (prompts x tasks), which sum to 1, or are all 0 where no task fits."""
        rows = [self._parts.classifier.assign(row)[0] for row in self._features(features)]
        return np.stack(rows) if rows else np.empty((0, self._parts.classifier.tasks))

    def _features(self, features: Features) -> Floats:
        view = self._parts.view.apply(features)
        return ((view - self._parts.centre) * np.float32(self._parts.size)).astype(np.float32)

    def _predict_one(self, row: Floats) -> Array:
        parts, mixture = self._parts, self._parts.mixture
        members, of_all_levels = parts.classifier.assign(row)
        estimate = parts.experts.foresee(row, members)
        variance = parts.doubt.variance(row)
        if members.any():
            alpha = float(members @ mixture.alphas)
            of_task = of_all_levels @ mixture.scores
            apart = np.square(mixture.scores - of_task) + np.square(mixture.scores_std)
            estimate = alpha * estimate + (1.0 - alpha) * of_task
            unknown = of_all_levels @ apart
            variance = alpha**2 * variance + (1.0 - alpha) ** 2 * (unknown[0] + unknown[1:])
        quality = mixture.mean + mixture.scale[0] * estimate[0] + mixture.scale[1] * estimate[1:]
        return np.concatenate(
            [np.clip(quality, 0.0, 1.0)[None], np.sqrt(variance)[None], parts.lengths.foresee(row)]
        ).astype(np.float64)

    def state(self) -> State:
        """Return weights, tables and the view as arrays, tasks and single numbers as configuration."""
        parts = self._parts
        arrays: dict[str, NDArray[Any]] = {
            **parts.view.arrays(),
            **parts.experts.arrays(),
            **parts.lengths.arrays(),
            "features.centre": parts.centre,
            "doubt.precision": parts.doubt.precision,
            "doubt.noise": parts.doubt.noise,
            "doubt.outcomes": parts.doubt.outcomes,
        }
        for name in ("weights", "bias", "centres"):
            arrays[f"classifier.{name}"] = getattr(parts.classifier, name)
        for name in Mixture.__slots__:
            arrays[f"mixture.{name}"] = getattr(parts.mixture, name)
        config = {
            "size": parts.size,
            "sizes": list(parts.classifier.sizes),
            "sharpness": list(parts.classifier.sharpness),
            "main": parts.classifier.main,
            "least_cosine": parts.classifier.least_cosine,
            "least_membership": parts.classifier.least_membership,
            "prompts": parts.doubt.prompts,
            "penalty": parts.doubt.penalty,
            "figures": dict(parts.figures),
            "tasks": [task.plain() for task in parts.tasks],
        }
        return State(arrays, config)

    @classmethod
    def from_state(cls, state: State, *, models: int, width: int) -> Self:
        """Rebuild; raises `ValueError` when an array is missing, not finite, or of another shape than the rest."""
        arrays, config = state.arrays, state.config
        try:
            classifier = TaskClassifier(
                weights=_floats(arrays["classifier.weights"]),
                bias=_floats(arrays["classifier.bias"]),
                centres=_floats(arrays["classifier.centres"]),
                sizes=tuple(int(size) for size in config["sizes"]),
                sharpness=tuple(float(value) for value in config["sharpness"]),
                main=int(config["main"]),
                least_cosine=_number(config, "least_cosine"),
                least_membership=_number(config, "least_membership"),
            )
            mixture = Mixture(*(_floats(arrays[f"mixture.{name}"]) for name in Mixture.__slots__))
            doubt = Doubt(
                precision=_floats(arrays["doubt.precision"]),
                noise=_floats(arrays["doubt.noise"]),
                outcomes=_floats(arrays["doubt.outcomes"]),
                prompts=_number(config, "prompts"),
                penalty=_number(config, "penalty"),
            )
            parts = Parts(
                View.from_arrays(arrays),
                _floats(arrays["features.centre"]),
                _number(config, "size"),
                classifier,
                Experts.from_arrays(arrays),
                mixture,
                doubt,
                TokenLengths.from_arrays(arrays),
                read_facts(config["tasks"], models=models),
                {str(name): float(value) for name, value in config["figures"].items()},
            )
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"the state of the strategy lacks {error}") from error
        _check_levels(classifier, len(parts.tasks))
        _check_shapes(state, len(parts.tasks), sum(classifier.sizes), models=models, width=width)
        return cls(parts)


def _floats(array: NDArray[Any]) -> Floats:
    return array.astype(np.float32, copy=False)


def _number(config: Mapping[str, Any], name: str) -> float:
    value = config[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError(f"its {name} is not a number")
    return float(value)


def _check_levels(classifier: TaskClassifier, tasks: int) -> None:
    sizes, sharpness = classifier.sizes, classifier.sharpness
    if len(sizes) != len(sharpness) or not all(0 < value < np.inf for value in sharpness):
        raise ValueError("its sharpness is not a number above 0 for each level")
    if not 0 <= classifier.main < len(sizes) or sizes[classifier.main] != tasks or min(sizes) < 0:
        raise ValueError("its levels do not fit the tasks")


def _check_shapes(state: State, tasks: int, of_all_levels: int, *, models: int, width: int) -> None:
    arrays = state.arrays
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("its arrays hold numbers that are not finite")
    inputs, outputs = len(arrays["features.centre"]), 1 + models
    hidden, rank = arrays["experts.trunk"].shape[-1], arrays["experts.down"].shape[-1]
    shapes = {
        "classifier.weights": (inputs, of_all_levels),
        "classifier.bias": (of_all_levels,),
        "classifier.centres": (tasks, inputs),
        "mixture.scores": (of_all_levels, outputs),
        "mixture.scores_std": (of_all_levels, outputs),
        "mixture.alphas": (tasks,),
        "mixture.mean": (models,),
        "mixture.scale": (2,),
        "doubt.precision": (inputs, inputs),
        "doubt.noise": (models,),
        "doubt.outcomes": (models,),
        "experts.trunk": (inputs, hidden),
        "experts.trunk_bias": (hidden,),
        "experts.direct": (inputs, outputs),
        "experts.general": (hidden, outputs),
        "experts.bias": (outputs,),
        "experts.down": (tasks, hidden, rank),
        "experts.up": (tasks, rank, outputs),
        "lengths.weights": (inputs, models),
        "lengths.bias": (models,),
        "lengths.errors": (4, models),
        "lengths.ratio": (models,),
    }
    wrong = [name for name, shape in shapes.items() if arrays[name].shape != shape]
    if wrong or inputs < width:
        raise ValueError(f"its {wrong[0] if wrong else 'features'} do not fit the encoder, the models and the tasks")

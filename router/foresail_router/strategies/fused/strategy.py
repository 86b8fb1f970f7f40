"""The fused strategy applied: the components' estimates weighed as held-out prompts asked for, with lengths and doubt.

Each prompt is worked out alone, with numpy, so that estimates do not depend on what else is asked. It must not know how anything was
learned.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import Array, Features, Predictions, Progress, Settings, State, TrainingSet
from foresail_router.strategies.fused.parts import Parts, deviations
from foresail_router.strategies.fused.stacked import stack_groups, stack_maps
from foresail_router.strategies.fused.state import read_parts
from foresail_router.strategies.task_aware.tasks import TaskFacts

Floats = NDArray[np.float32]
# How much more or less than usual may be lost by an error: what is foreseen of that is itself an estimate.
_LOSS_BOUNDS = (0.05, 4.0)


class FusedStrategy:
    """A fitted fused strategy."""

    configurations: ClassVar[tuple[Settings, ...]] = (
        {},
        {"neighbours": 120},
        {"neighbours": 400},
    )
    # Learning to foresee answers earned nothing on the two pools where it was tried, and takes an embedding of each answer: only the
    # setting `answers` asks for it.
    uses_answers: ClassVar[bool] = False

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._maps = stack_maps(parts)
        self._groups = stack_groups(parts.labels, list(parts.levels.values()))

    @property
    def tasks(self) -> tuple[TaskFacts, ...]:
        """The discovered tasks, of the resolution that routes best alone; none where none were found or looked for."""
        return () if self._parts.tasks is None else self._parts.tasks.facts

    @property
    def task_scores(self) -> Array:
        """What each model scores on each task, shrunk (tasks x models)."""
        found = self._parts.tasks
        return np.empty((0, len(self._parts.joint.mean))) if found is None else found.quality.astype(np.float64)

    @classmethod
    def fit(cls, training: TrainingSet, *, seed: int, progress: Progress, settings: Settings | None = None) -> Self:
        """Fit all components and join them by what each foresaw of inner folds; raises `ValueError` as the protocol says."""
        from foresail_router.strategies.fused.fit import fit_parts
        from foresail_router.strategies.fused.settings import read_settings

        return cls(fit_parts(training, read_settings(settings), seed=seed, progress=progress))

    def predict(self, features: Features) -> Predictions:
        """Return estimates for each prompt; each is worked out alone."""
        view = self._parts.view.apply(features)
        rows = [self._predict_one(features, number, seen) for number, seen in enumerate(view)]
        stacked = np.stack(rows) if rows else np.empty((0, 7, len(self._parts.joint.mean)))
        return Predictions(*(stacked[:, index] for index in range(7)))

    def memberships(self, features: Features) -> Array:
        """Return each prompt's memberships in the discovered tasks (prompts x tasks), which sum to 1."""
        found = self._parts.tasks
        if found is None:
            return np.empty((len(features.texts), 0))
        level = self._parts.levels[found.level]
        rows = [level.assign(self._row(seen)) for seen in self._parts.view.apply(features)]
        return np.stack(rows) if rows else np.empty((0, len(found.facts)))

    def _row(self, seen: Floats) -> Floats:
        """Return one prompt's features from its view, centred and scaled."""
        return np.asarray((seen - self._parts.centre) * np.float32(self._parts.size), dtype=np.float32)

    def _predict_one(self, features: Features, number: int, seen: Floats) -> Array:
        parts, joint = self._parts, self._parts.joint
        row = self._row(seen)
        mapped = self._maps.apply(row)
        estimates = self._components(features, number, mapped)
        ease = joint.ease_scale * estimates[:, 0].mean()
        quality = np.minimum(np.maximum(joint.mean + ease + joint.weights @ estimates[:, 1:], 0.0), 1.0)
        # An error matters where models differ, and where that is can be foreseen: all right or all wrong, nothing is lost.
        least, most = _LOSS_BOUNDS
        loss = min(max(float(mapped[self._maps.loss]), least), most)
        std = loss * np.sqrt(parts.doubt.variance_of(row, mapped[self._maps.precision]))
        return np.concatenate([quality[None], std[None], parts.lengths.of_logs(mapped[self._maps.lengths])])

    def _components(self, features: Features, number: int, mapped: Floats) -> Array:
        """Return each component's deviations (components x 1 + models): ease, advantages."""
        parts, maps = self._parts, self._maps
        found: dict[str, NDArray[Any]] = {}
        if parts.linear is not None:
            found["linear"] = mapped[maps.linear]
        if parts.smoother is not None:
            found["neighbours"] = parts.smoother.foresee(mapped[maps.reduced])
        if parts.networks is not None:
            quality = parts.networks.judged(mapped[maps.hidden].reshape(parts.networks.trunk_bias.shape))
            found["networks"] = deviations(
                quality.mean(axis=0, dtype=np.float64)[None], parts.joint.mean.astype(np.float64)
            )[0]
        if self._groups is not None:
            margins = mapped[maps.groups]
            if parts.labels is not None:
                margins[: len(parts.labels.bias)] += parts.labels.margins_of_words(features.lexical, number)
            found["labels"], found["tasks"] = self._groups.foresee(margins)
        return np.array([found[name] for name in parts.components], dtype=np.float64)

    def state(self) -> State:
        """Return weights, points, tables and the view as arrays, tasks and single numbers as configuration."""
        parts = self._parts
        arrays: dict[str, NDArray[Any]] = {
            **parts.view.arrays(),
            **parts.lengths.arrays(),
            "features.centre": parts.centre,
            "doubt.precision": parts.doubt.precision,
            "doubt.noise": parts.doubt.noise,
            "doubt.outcomes": parts.doubt.outcomes,
            "joint.mean": parts.joint.mean,
            "joint.weights": parts.joint.weights,
            "joint.loss_weights": parts.joint.loss_weights,
        }
        config: dict[str, Any] = {
            "size": parts.size,
            "prompts": parts.doubt.prompts,
            "penalty": parts.doubt.penalty,
            "components": list(parts.components),
            "ease_scale": parts.joint.ease_scale,
            "loss_bias": parts.joint.loss_bias,
            "sharpness": {name: level.sharpness for name, level in parts.levels.items()},
            "figures": dict(parts.figures),
            "tasks": [task.plain() for task in self.tasks],
        }
        if parts.linear is not None:
            arrays |= {"linear.weights": parts.linear.weights, "linear.bias": parts.linear.bias}
        if parts.smoother is not None:
            arrays |= parts.smoother.arrays()
            config["neighbours"], config["temperature"] = parts.smoother.neighbours, parts.smoother.temperature
        if parts.networks is not None:
            arrays |= parts.networks.arrays()
        if parts.labels is not None:
            arrays |= parts.labels.arrays()
            config["label_sharpness"] = parts.labels.sharpness
        for name, level in parts.levels.items():
            arrays |= level.arrays(name)
        if parts.tasks is not None:
            arrays["tasks.quality"] = parts.tasks.quality
            config["tasks_level"] = parts.tasks.level
        return State(arrays, config)

    @classmethod
    def from_state(cls, state: State, *, models: int, width: int) -> Self:
        """Rebuild; raises `ValueError` when an array is missing, not finite, or of another shape than the rest."""
        return cls(read_parts(state, models=models, width=width))

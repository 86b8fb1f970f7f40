"""Reads the fused strategy's parts back from arrays and configuration, checked against one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import State
from foresail_router.strategies.fused.labels import LabelClassifier
from foresail_router.strategies.fused.memberships import Level
from foresail_router.strategies.fused.parts import Discovered, Joint, Linear, Parts
from foresail_router.strategies.fused.smoother import Smoother
from foresail_router.strategies.lookahead.network import Networks
from foresail_router.strategies.task_aware.doubt import Doubt
from foresail_router.strategies.task_aware.tasks import read_facts
from foresail_router.strategies.task_aware.token_lengths import TokenLengths
from foresail_router.strategies.views import View

Floats = NDArray[np.float32]
_MOST_LEVELS = 16


def read_parts(state: State, *, models: int, width: int) -> Parts:
    """Return the parts; raises `ValueError` when an array is missing, not finite, or of another shape than the rest."""
    arrays, config = state.arrays, state.config
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("its arrays hold numbers that are not finite")
    try:
        inputs = len(arrays["features.centre"])
        doubt = Doubt(
            precision=_shaped(arrays, "doubt.precision", inputs, inputs),
            noise=_shaped(arrays, "doubt.noise", models),
            outcomes=_shaped(arrays, "doubt.outcomes", models),
            prompts=_number(config, "prompts"),
            penalty=_number(config, "penalty"),
        )
        parts = Parts(
            View.from_arrays(arrays),
            arrays["features.centre"].astype(np.float32, copy=False),
            _number(config, "size"),
            _linear(arrays, inputs, models),
            _smoother(state, inputs, models),
            Networks.from_arrays(arrays, models=models) if "networks.trunk" in arrays else None,
            _labels(state, width, models),
            _levels(state, inputs, models),
            tuple(str(name) for name in config["components"]),
            Joint(
                _shaped(arrays, "joint.mean", models),
                _number(config, "ease_scale"),
                _shaped(arrays, "joint.weights", len(config["components"])),
                _shaped(arrays, "joint.loss_weights", inputs),
                _number(config, "loss_bias"),
            ),
            doubt,
            _lengths(arrays, inputs, models),
            _tasks(state, models),
            {str(name): float(value) for name, value in config["figures"].items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the state of the strategy lacks {error}") from error
    if inputs != width + parts.view.width_beside_embedding:
        raise ValueError("its features do not fit the encoder")
    if parts.networks is not None and parts.networks.trunk.shape[1] != inputs:
        raise ValueError("its networks do not fit the features")
    held = {"linear": parts.linear, "neighbours": parts.smoother, "networks": parts.networks, "labels": parts.labels}
    there = {name for name, part in held.items() if part is not None} | ({"tasks"} if parts.levels else set())
    # Tasks are told from what labels foresee, so labels may be there that are no component.
    if (
        not parts.components
        or not set(parts.components) <= there
        or ("label_sharpness" in config) != bool(parts.labels)
    ):
        raise ValueError("its components are not all there")
    if parts.doubt.penalty <= 0:
        raise ValueError("its penalty is not above 0")
    return parts


def _labels(state: State, width: int, models: int) -> LabelClassifier | None:
    if "labels.bias" not in state.arrays:
        return None
    sharpness = _number(state.config, "label_sharpness")
    return LabelClassifier.from_arrays(state.arrays, sharpness=sharpness, columns=1 + models, width=width)


def _linear(arrays: Mapping[str, NDArray[Any]], inputs: int, models: int) -> Linear | None:
    if "linear.weights" not in arrays:
        return None
    return Linear(_shaped(arrays, "linear.weights", inputs, 1 + models), _shaped(arrays, "linear.bias", 1 + models))


def _smoother(state: State, inputs: int, models: int) -> Smoother | None:
    arrays = state.arrays
    if "smoother.points" not in arrays:
        return None
    if arrays["smoother.points"].ndim != 2:
        raise ValueError("its smoother.points do not fit the other arrays")
    prompts, reduced = arrays["smoother.points"].shape
    neighbours, temperature = state.config["neighbours"], _number(state.config, "temperature")
    if not isinstance(neighbours, int) or not 1 <= neighbours <= prompts or temperature <= 0:
        raise ValueError("its smoother looks at more neighbours than there are prompts, or at none")
    return Smoother(
        directions=_shaped(arrays, "smoother.directions", inputs, reduced),
        points=_shaped(arrays, "smoother.points", prompts, reduced),
        values=_shaped(arrays, "smoother.values", prompts, 1 + models),
        known=_shaped(arrays, "smoother.known", prompts, 1 + models),
        neighbours=neighbours,
        temperature=temperature,
    )


def _levels(state: State, inputs: int, models: int) -> dict[str, Level]:
    sharpness = state.config["sharpness"]
    if len(sharpness) > _MOST_LEVELS:
        raise ValueError("it has more levels of tasks than can be")
    levels = {}
    for name in sharpness:
        groups = len(state.arrays[f"{name}.bias"])
        levels[str(name)] = Level(
            weights=_shaped(state.arrays, f"{name}.weights", inputs, groups),
            bias=_shaped(state.arrays, f"{name}.bias", groups),
            table=_shaped(state.arrays, f"{name}.table", groups, 1 + models),
            sharpness=_number(sharpness, name),
        )
    return levels


def _tasks(state: State, models: int) -> Discovered | None:
    facts = read_facts(state.config["tasks"], models=models)
    if not facts:
        return None
    level, quality = state.config["tasks_level"], _shaped(state.arrays, "tasks.quality", len(facts), models)
    if level not in state.config["sharpness"] or len(state.arrays[f"{level}.bias"]) != len(facts):
        raise ValueError("its tasks are of no level that it has")
    return Discovered(level, facts, quality)


def _lengths(arrays: Mapping[str, NDArray[Any]], inputs: int, models: int) -> TokenLengths:
    lengths = TokenLengths.from_arrays(arrays)
    shapes = ((lengths.weights, (inputs, models)), (lengths.bias, (models,)), (lengths.ratio, (models,)))
    if any(array.shape != shape for array, shape in shapes) or lengths.errors.shape != (4, models):
        raise ValueError("its lengths do not fit the features or the models")
    return lengths


def _shaped(arrays: Mapping[str, NDArray[Any]], name: str, *shape: int) -> Floats:
    array = arrays[name]
    if array.shape != shape:
        raise ValueError(f"its {name} does not fit the encoder, the models or the other arrays")
    return array.astype(np.float32, copy=False)


def _number(config: Mapping[str, Any], name: str) -> float:
    value = config[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ValueError(f"its {name} is not a number")
    return float(value)

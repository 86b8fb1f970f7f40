"""A trained lookahead model as files: what was trained in `weights.safetensors`, all else in `model.json`; the backbone is found by name.

It must not know how models are trained or what serves requests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from foresail_api.errors import UserError
from foresail_router.lookahead.checkpoints import read_tensors, write_tensors
from foresail_router.lookahead.examples import Example, prompt_tokens
from foresail_router.lookahead.networks import LookaheadNetwork, build_network
from foresail_router.lookahead.quality import Quality
from foresail_router.lookahead.recipe import Recipe

FORMAT = "foresail-lookahead/1"
_MODEL, _WEIGHTS = "model.json", "weights.safetensors"


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A network with the names of the models it chooses from and their calibration."""

    network: LookaheadNetwork
    models: tuple[str, ...]
    quality: Quality

    def predict(
        self, texts: Sequence[str], tick: Callable[[int], object] = lambda rows: None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return logits and expected scores (texts x models)."""
        recipe = self.network.core.recipe
        nothing = (float("nan"),) * len(self.models)
        examples = [
            Example(tokens, (), nothing, False) for tokens in prompt_tokens(self.network.tokenizer, texts, recipe)
        ]
        self.network.prepare(examples, answers=False)
        logits = self.network.all_logits(examples, tick=tick)
        return logits, self.quality.predict(logits)


def save_model(directory: Path, model: TrainedModel) -> None:
    """Write a trained model."""
    directory.mkdir(parents=True, exist_ok=True)
    trained = {name: part.float() for name, part in model.network.named_parameters() if part.requires_grad}
    write_tensors(directory / _WEIGHTS, trained, {})
    content = {
        "format": FORMAT,
        "models": model.models,
        "recipe": model.network.core.recipe.model_dump(mode="json"),
        "quality": model.quality.to_json(),
    }
    write_json(directory / _MODEL, content)


def open_model(directory: Path, *, device: torch.device, states: Path) -> TrainedModel:
    """Read a trained model; raise `UserError` where it is missing, damaged or its backbone cannot be loaded."""
    path = directory / _MODEL
    content = read_json(path)
    try:
        if content["format"] != FORMAT:
            raise ValueError("unknown format")
        models = tuple(map(str, content["models"]))
        recipe = Recipe.model_validate(content["recipe"])
        quality = Quality.from_json(content["quality"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: is not a lookahead model of format {FORMAT}; give a directory that `foresail lookahead train` wrote"
        ) from error
    network = build_network(recipe, len(models), device=device, states=states)
    tensors, _ = read_tensors(directory / _WEIGHTS, device)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not parameter.requires_grad:
                continue
            if name not in tensors or tensors[name].shape != parameter.shape:
                raise UserError(f"{directory / _WEIGHTS}: does not fit backbone {recipe.backbone_name}; train again")
            parameter.copy_(tensors[name])
    return TrainedModel(network, models, quality)


def write_json(path: Path, content: object) -> None:
    """Write JSON whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON file; raise `UserError`."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: is missing or damaged; give a directory that a finished training wrote") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: is not a mapping; give a directory that a finished training wrote")
    return content

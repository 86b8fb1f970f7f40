"""What a training of a lookahead model is told: a frozen recipe, read from YAML or JSON and written beside the weights.

Owns the names, bounds and defaults, which are the paper's. It must not know networks or data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from foresail_api.errors import UserError

_Count = Annotated[int, Field(ge=1)]
_Share = Annotated[float, Field(gt=0, le=1)]
_DEFAULT_BACKBONES = {"causal": "HuggingFaceTB/SmolLM2-135M", "masked": "answerdotai/ModernBERT-base"}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Curriculum(_Frozen):
    """Which of an answer's tokens a masked model is shown: a share `start` is masked at first, all from `full_at` of training on.

    `kind` is the end of the answer from which tokens are masked; `none` masks all from the first step.
    """

    kind: Literal["none", "end", "start", "random"] = "end"
    start: Annotated[float, Field(ge=0, le=1)] = 0.3
    full_at: _Share = 0.2


class Lora(_Frozen):
    """Low-rank adapters on every linear layer of the backbone, which is itself frozen."""

    rank: _Count = 16
    alpha: _Count = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Recipe(_Frozen):
    """One training. Lengths in tokens, `data_share` and `label_threshold` as shares, `learning_rate` at its peak.

    `backbone` is a name or path that transformers can load, or `package:DISTRIBUTION/FILE` for a folder or a GGUF file in an
    installed Python package. `frozen_layers` are the lowest ones; they see neither gradients nor model tokens, and their output
    is kept on disk. `tokens_per_pass` bounds the memory of one pass, not the batch;
    `warmup` is the share of training in which the learning rate rises.
    """

    variant: Literal["causal", "masked"]
    backbone: str = ""
    frozen_layers: Annotated[int, Field(ge=0)] = 0
    freeze_embeddings: bool = False
    lora: Lora | None = None
    answer_tokens: _Count = 64
    prompt_tokens: _Count = 1721
    response_weight: Annotated[float, Field(ge=0)] = 0.5
    labels: Literal["dataset", "prompt"] = "dataset"
    label_threshold: _Share = 0.8
    curriculum: Curriculum = Curriculum()
    joint: bool = True
    restart_positions: bool = True
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    gradient_norm: Annotated[float, Field(gt=0)] = 1.0
    batch: _Count = 64
    tokens_per_pass: _Count = 16384
    epochs: _Count = 2
    evaluations_per_epoch: _Count = 1
    patience: _Count | None = None
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    quality: Literal["platt", "isotonic"] = "platt"
    training_prompts: _Count | None = None
    data_share: _Share = 1.0
    validation_prompts: _Count = 500
    calibration_prompts: _Count = 500
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.variant == "masked" and self.frozen_layers:
            raise ValueError("frozen_layers: only a causal model's lower layers see no model token; set it to 0")
        if self.lora is not None and self.frozen_layers:
            raise ValueError("lora: adapts all layers, so frozen_layers must be 0")
        return self

    @property
    def backbone_name(self) -> str:
        """The backbone, or the paper's for the variant where none is named."""
        return self.backbone or _DEFAULT_BACKBONES[self.variant]


def load_recipe(path: Path) -> Recipe:
    """Read a recipe from a YAML or JSON file; raise `UserError` naming the field that is wrong."""
    return parse_recipe(read_mapping(path), str(path))


def parse_recipe(content: dict[str, object], where: str) -> Recipe:
    """Return the recipe in a mapping; raise `UserError` naming `where` and the field that is wrong."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{where}: {validation_message(error)}") from error


def validation_message(error: ValidationError) -> str:
    """Return the first fault that pydantic found, in one line: the field, and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"])) or "recipe"
    return f"{field}: {first['msg']}"


def read_mapping(path: Path) -> dict[str, object]:
    """Return the mapping in a YAML or JSON file; raise `UserError`."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(
            f"{path}: cannot be read as YAML or JSON ({type(error).__name__}); give a readable file"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: is not a mapping of fields to values; begin with a line like 'variant: causal'")
    return content

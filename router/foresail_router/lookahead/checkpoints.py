"""Tensors and a little JSON in one safetensors file, written whole or not at all.

It must not know what the tensors are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from foresail_api.errors import UserError

_STATE = "state"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write named tensors and a mapping that JSON can hold."""
    partial = path.with_suffix(".partial")
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, partial, metadata={_STATE: json.dumps(state)})
    partial.replace(path)


def read_tensors(path: Path, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what `write_tensors` wrote; raise `UserError` where the file is missing or damaged."""
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            state: dict[str, Any] = json.loads(file.metadata()[_STATE])
            return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: is missing or damaged ({type(error).__name__}); remove the directory and train again"
        ) from error


def remove(*paths: Path) -> None:
    """Remove files, those that are already gone too."""
    for path in paths:
        path.unlink(missing_ok=True)

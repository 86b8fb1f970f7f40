"""Cells on disk: the out-of-fold predictions of one fit, or why it failed, each in a file of its own that is whole or absent.

It must not know how a cell is worked out.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from foresail_api.errors import UserError
from foresail_router.evaluation.benchmark.grid import Cell
from foresail_router.strategies.base import Predictions

_PARTS = tuple(field.name for field in fields(Predictions))


@dataclass(frozen=True, slots=True)
class CellFacts:
    """What a fit took. Times in seconds, latencies in milliseconds per prompt after the encoder, memory in MiB.

    `error` says why it failed; a `defect` is one that no strategy should have, and such a cell is never kept.
    """

    fit_seconds: float = 0.0
    fit_cpu_seconds: float = 0.0
    predict_seconds: float = 0.0
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    state_bytes: int = 0
    peak_memory_mib: float = 0.0
    error: str | None = None
    defect: bool = False


@dataclass(frozen=True, slots=True)
class StoredCell:
    """A cell that is done: facts, and its predictions for the fold's prompts unless it failed."""

    facts: CellFacts
    predictions: Predictions | None


def cell_path(directory: Path, cell: Cell, key: str) -> Path:
    """Return where a cell lies."""
    name = f"{cell.configuration}-{cell.seed}-{cell.fold}-{key[:24]}.safetensors"
    return directory / "cells" / _folder(cell.pool) / _folder(cell.variant) / name


def _folder(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".") or "_"


def write_cell(path: Path, facts: CellFacts, predictions: Predictions | None) -> None:
    """Write a cell, whole or not at all; raises `UserError` when that cannot be."""
    arrays = {} if predictions is None else {name: getattr(predictions, name).astype(np.float32) for name in _PARTS}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            temporary,
            {"facts": json.dumps(asdict(facts))},
        )
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}; choose another directory") from None
    finally:
        # Where the directory is none, there is nothing to remove either.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_cell(path: Path) -> StoredCell | None:
    """Return a cell, or None when it is absent or unreadable, and so to be worked out again."""
    try:
        with safe_open(path, framework="numpy") as file:
            facts = CellFacts(**json.loads((file.metadata() or {})["facts"]))
            names = set(file.keys())
            arrays = {name: file.get_tensor(name).astype(np.float64) for name in _PARTS if name in names}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    if facts.error is not None:
        return StoredCell(facts, None)
    return StoredCell(facts, Predictions(**arrays)) if len(arrays) == len(_PARTS) else None

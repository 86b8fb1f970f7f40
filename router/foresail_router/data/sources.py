"""Directories of long-form sources: one parquet file per source with a row per (query, model), and the pools of models in `pools.json`.

Owns how `DATA`, `--source` and `--pool` become a matrix. It must not know encoders or strategies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foresail_api.errors import UserError
from foresail_router.data.matrix import OutcomeMatrix, build_matrix, load_directory
from foresail_router.data.records import OUTCOME_COLUMNS, PROMPT_COLUMNS, Outcome, Prompt, name, text
from foresail_router.data.rows import Column, Row, cell_error, read_rows

PRICED_POOL = "priced"
DEFAULT_POOL = "default"
_COST_COLUMNS = ("cost_usd", "cost_est_usd")
_LONG_COLUMNS = {
    "query_id": Column(name, required=True),
    "model": OUTCOME_COLUMNS["model"],
    # Sources keep rows of answers that nobody graded: they hold no outcome.
    "score": Column(OUTCOME_COLUMNS["score"].parse),
    # A query without its text cannot be routed by anything, so its rows are passed over.
    "prompt": Column(text),
    "task": PROMPT_COLUMNS["task"],
    "benchmark": Column(name),
    "input_tokens": OUTCOME_COLUMNS["input_tokens"],
    "output_tokens": OUTCOME_COLUMNS["output_tokens"],
    **dict.fromkeys(_COST_COLUMNS, OUTCOME_COLUMNS["cost_usd"]),
}


@dataclass(frozen=True, slots=True)
class Pool:
    """A choice out of a source; empty means all."""

    models: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ()
    priced: bool = False


def load_data(directory: Path, source: str | None = None, pool: str = DEFAULT_POOL) -> OutcomeMatrix:
    """Read a data directory, or of a directory of long-form sources the rows of `source` that `pool` chooses.

    Raises `UserError` for whatever is wrong with the directory, the names or the data.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory")
    if source is not None:
        return _load_source(directory, source, pool)
    if not any((directory / f"prompts.{suffix}").exists() for suffix in ("jsonl", "parquet")) and (
        found := sources(directory)
    ):
        raise UserError(f"{directory}: holds long-form sources; choose one with --source: {', '.join(found)}")
    if pool == PRICED_POOL:
        return _priced(load_directory(directory), str(directory))
    if pool != DEFAULT_POOL:
        raise UserError(
            f"--pool {pool}: goes with --source; a data directory has only the pools {DEFAULT_POOL} and {PRICED_POOL}"
        )
    return load_directory(directory)


def sources(directory: Path) -> list[str]:
    """Return the names of the long-form sources in a directory."""
    return sorted(path.stem for path in directory.glob("*.parquet") if "." not in path.stem)


def _load_source(directory: Path, source: str, pool_name: str) -> OutcomeMatrix:
    found = sources(directory)
    if source not in found:
        raise UserError(
            f"--source {source}: {directory} has no {source}.parquet; it holds: {', '.join(found) or 'no source'}"
        )
    pool = _find_pool(directory / "pools.json", source, pool_name)
    path = directory / f"{source}.parquet"
    prompts: dict[str, Prompt] = {}
    outcomes = list(_long_outcomes(path, pool, prompts))
    matrix = build_matrix(prompts.values(), outcomes, name=f"{path}, pool {pool_name}")
    absent = sorted(set(pool.models) - set(matrix.models))
    if absent:
        raise UserError(
            f"{directory / 'pools.json'}: pool {pool_name} of {source} names a model without outcomes: {absent[0]!r}"
        )
    return _priced(matrix, f"{path}") if pool.priced else matrix


def _long_outcomes(path: Path, pool: Pool, prompts: dict[str, Prompt]) -> Iterator[Outcome]:
    """Yield the outcomes that the pool chooses, and gather their prompts in `prompts` on the way."""
    seen: set[tuple[str, str]] = set()
    for row in read_rows(path, _LONG_COLUMNS, other_columns=True):
        cells = row.cells
        if (pool.models and cells["model"] not in pool.models) or (
            pool.benchmarks and cells["benchmark"] not in pool.benchmarks
        ):
            continue
        if cells["score"] is None or cells["prompt"] is None or not cells["prompt"].strip():
            continue
        key = (cells["query_id"], cells["model"])
        if key in seen:
            raise cell_error(path, row.place, "model", f"{key[1]!r} answers query {key[0]!r} twice; keep one row")
        seen.add(key)
        _gather_prompt(path, row, prompts)
        costs = [cells[column] for column in _COST_COLUMNS if cells[column] is not None]
        yield Outcome(
            *key,
            cells["score"],
            input_tokens=cells["input_tokens"],
            output_tokens=cells["output_tokens"],
            cost_usd=costs[0] if costs else None,
        )


def _gather_prompt(path: Path, row: Row, prompts: dict[str, Prompt]) -> None:
    key, content = row.cells["query_id"], row.cells["prompt"]
    known = prompts.setdefault(key, Prompt(key, content, task=row.cells["task"] or row.cells["benchmark"]))
    if known.prompt != content:
        raise cell_error(
            path, row.place, "prompt", f"query {key!r} had another text in an earlier row; a query has one text"
        )


def _find_pool(path: Path, source: str, pool_name: str) -> Pool:
    """Return the pool of that name: `priced` is the default one without unpriced models, unless `pools.json` says otherwise."""
    entries = _pool_entries(path, source)
    if pool_name in entries:
        return entries[pool_name]
    default = entries.get(DEFAULT_POOL, Pool())
    if pool_name == DEFAULT_POOL:
        return default
    if pool_name == PRICED_POOL:
        return replace(default, priced=True)
    known = sorted({DEFAULT_POOL, PRICED_POOL, *entries})
    raise UserError(f"--pool {pool_name}: {path} has no such pool of {source}; choose one of: {', '.join(known)}")


def _pool_entries(path: Path, source: str) -> dict[str, Pool]:
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_bytes()).get(source, {})
        return {
            pool_name: Pool(models=_strings(entry.get("models", [])), benchmarks=_strings(entry.get("benchmarks", [])))
            for pool_name, entry in entries.items()
        }
    except (OSError, ValueError, AttributeError) as error:
        shape = '{"<source>": {"<pool>": {"models": [...], "benchmarks": [...]}}}'
        raise UserError(f"{path}: is not of the form {shape}; mend or remove it") from error


def _strings(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("not a list of strings")
    return tuple(value)


def _priced(matrix: OutcomeMatrix, where: str) -> OutcomeMatrix:
    priced: NDArray[np.bool_] = np.asarray(np.isfinite(matrix.cost_usd).any(axis=0))
    if not priced.any():
        raise UserError(f"--pool {PRICED_POOL}: {where} has no costs; leave the option out")
    kept = matrix.columns([model for model, has_cost in zip(matrix.models, priced, strict=True) if has_cost])
    return kept.rows(np.asarray(np.isfinite(kept.score).any(axis=1)))

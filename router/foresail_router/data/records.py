"""The data format: what a prompt and an outcome are, and files of them as JSONL or parquet.

A data directory holds `prompts.jsonl|parquet` and `outcomes.jsonl|parquet`. It must not know matrices, splits or strategies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from foresail_api.errors import UserError
from foresail_router.data.rows import Column, cell_error, find_table, json_line, read_rows, write_rows

MAX_TOKENS = 2**40
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of a data set.

    `task` groups prompts in reports, `split` overrides the split by text, `grader` and `reference` tell `collect` how to grade answers.
    """

    id: str
    prompt: str
    task: str | None = None
    split: str | None = None
    grader: str | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model made of one prompt: `score` in [0, 1], token counts as billed (None if unknown), the cost of the call in US dollars."""

    id: str
    model: str
    score: float
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    answer: str | None = None


def text(value: object) -> str:
    """Parse a cell of any text."""
    if not isinstance(value, str):
        raise ValueError(f"is a {_kind(value)}; expected a string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("holds a lone surrogate, which is not valid Unicode text; remove it") from error
    return value


def name(value: object) -> str:
    """Parse a cell that identifies something: text that is not blank, at most 512 characters."""
    parsed = text(value)
    if not parsed.strip():
        raise ValueError("is blank; expected a non-empty string")
    if len(parsed) > 512:
        raise ValueError(f"has {len(parsed)} characters; at most 512 are allowed")
    return parsed


def _content(value: object) -> str:
    parsed = text(value)
    if not parsed.strip():
        raise ValueError("is blank; leave the prompt out")
    return parsed


def _split(value: object) -> str:
    parsed = text(value)
    if parsed not in SPLITS:
        raise ValueError(f"{parsed[:40]!r} is not one of {', '.join(SPLITS)}")
    return parsed


def _score(value: object) -> float:
    number = _number(value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{number} is outside [0, 1]; scale the scores to that range")
    return number


def _tokens(value: object) -> int:
    number = _number(value)
    if number != int(number) or not 0 <= number <= MAX_TOKENS:
        raise ValueError(f"{value!r} is not a count of tokens; expected a whole number from 0 to {MAX_TOKENS}")
    return int(number)


def _cost(value: object) -> float:
    number = _number(value)
    if number < 0:
        raise ValueError(f"{number} is negative; expected US dollars, 0 or more")
    return number


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"is a {_kind(value)}; expected a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(
            f"{number} is not a finite number; leave an unknown value out (null), or the row if it has no score"
        )
    return number


def _kind(value: object) -> str:
    names = {
        bool: "boolean",
        int: "number",
        float: "number",
        str: "string",
        list: "list",
        dict: "object",
        bytes: "byte string",
    }
    return names.get(type(value), type(value).__name__)


PROMPT_COLUMNS = {
    "id": Column(name, required=True),
    "prompt": Column(_content, required=True),
    "task": Column(name),
    "split": Column(_split),
    "grader": Column(name),
    "reference": Column(text),
}
OUTCOME_COLUMNS = {
    "id": Column(name, required=True),
    "model": Column(name, required=True),
    "score": Column(_score, required=True),
    "input_tokens": Column(_tokens),
    "output_tokens": Column(_tokens),
    "cost_usd": Column(_cost),
    "answer": Column(text),
}
_ARROW_TYPES = {"score": "float64", "input_tokens": "int64", "output_tokens": "int64", "cost_usd": "float64"}


def read_prompts(path: Path, *, other_columns: bool = False) -> Iterator[Prompt]:
    """Yield the prompts of a JSONL or parquet file; raise `UserError` at the first fault, also for an id that comes twice.

    `other_columns` allows columns that the format does not know, as in files made for something else; only id and prompt are then read.
    """
    wanted = {key: PROMPT_COLUMNS[key] for key in ("id", "prompt")} if other_columns else PROMPT_COLUMNS
    seen: dict[str, str] = {}
    for row in read_rows(path, wanted, other_columns=other_columns):
        prompt = Prompt(**row.cells)
        if prompt.id in seen:
            raise cell_error(
                path, row.place, "id", f"{prompt.id!r} comes twice, first in {seen[prompt.id]}; ids are unique"
            )
        seen[prompt.id] = row.place
        yield prompt


def read_outcomes(path: Path, *, prompt_ids: Iterable[str] | None = None) -> Iterator[Outcome]:
    """Yield the outcomes of a JSONL or parquet file; raise `UserError` at the first fault.

    Faults are also a pair of prompt and model that comes twice and, where `prompt_ids` is given, an id that is not among them.
    """
    known = None if prompt_ids is None else frozenset(prompt_ids)
    seen: dict[tuple[str, str], str] = {}
    for row in read_rows(path, OUTCOME_COLUMNS):
        outcome = Outcome(**row.cells)
        if known is not None and outcome.id not in known:
            raise cell_error(
                path, row.place, "id", f"{outcome.id!r} is not the id of any prompt; add the prompt or drop the row"
            )
        key = (outcome.id, outcome.model)
        if key in seen:
            reason = f"{outcome.model!r} answers prompt {outcome.id!r} twice, first in {seen[key]}; keep one row (or the mean score)"
            raise cell_error(path, row.place, "model", reason)
        seen[key] = row.place
        yield outcome


def write_prompts(path: Path, prompts: Iterable[Prompt]) -> None:
    """Write prompts to a new `.jsonl` or `.parquet` file, whole or not at all."""
    write_rows(path, (_cells(prompt) for prompt in prompts), dict.fromkeys(PROMPT_COLUMNS, "string"))


def write_outcomes(path: Path, outcomes: Iterable[Outcome]) -> None:
    """Write outcomes to a new `.jsonl` or `.parquet` file, whole or not at all."""
    schema = {key: _ARROW_TYPES.get(key, "string") for key in OUTCOME_COLUMNS}
    write_rows(path, (_cells(outcome) for outcome in outcomes), schema)


def record_line(record: Prompt | Outcome) -> str:
    """Return one record as a line of JSONL, newline included, for a writer that appends as records come."""
    return json_line(_cells(record))


def prompts_path(directory: Path) -> Path:
    """Return the file of prompts in a data directory, or raise `UserError`."""
    return find_table(directory, "prompts")


def outcomes_path(directory: Path) -> Path:
    """Return the file of outcomes in a data directory, or raise `UserError`."""
    return find_table(directory, "outcomes")


def _cells(record: Prompt | Outcome) -> dict[str, Any]:
    cells = {field.name: getattr(record, field.name) for field in fields(record)}
    columns = PROMPT_COLUMNS if isinstance(record, Prompt) else OUTCOME_COLUMNS
    for key, column in columns.items():
        if cells[key] is None and not column.required:
            continue
        try:
            cells[key] = column.parse(cells[key])
        except ValueError as error:
            raise UserError(f'{type(record).__name__.lower()} {record.id[:80]!r}, column "{key}": {error}') from error
    return cells

"""Rows of a JSONL or parquet file, one at a time, each cell validated and every fault located by file, row and column.

It must not know what the columns mean: a table of columns with their parsers comes from the caller.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foresail_api.errors import UserError

MAX_LINE_BYTES = 64 * 2**20
_BATCH_ROWS = 4096

Parser = Callable[[object], object]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: `parse` turns a present, non-null cell into its value or raises `ValueError` with the reason."""

    parse: Parser
    required: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """The parsed cells of one row, and the words that locate it: `line 3` in JSONL, `row 3` in parquet, both from 1."""

    place: str
    cells: dict[str, Any]


def find_table(directory: Path, stem: str) -> Path:
    """Return `<stem>.jsonl` or `<stem>.parquet` in `directory`; raise `UserError` when there is none or both."""
    found = [path for suffix in (".jsonl", ".parquet") if (path := directory / f"{stem}{suffix}").is_file()]
    if not found:
        raise UserError(f"{directory}: holds neither {stem}.jsonl nor {stem}.parquet; add one of them")
    if len(found) == 2:
        raise UserError(f"{directory}: holds both {stem}.jsonl and {stem}.parquet; remove the one that is out of date")
    return found[0]


def read_rows(path: Path, columns: Mapping[str, Column], *, other_columns: bool = False) -> Iterator[Row]:
    """Yield the rows of a JSONL or parquet file, told apart by the name's ending.

    Absent and null cells of optional columns are None. `other_columns` allows, and leaves out, columns that are not in `columns`.
    Raises `UserError` at the first fault, also where the file holds no row at all.
    """
    if path.suffix not in (".jsonl", ".parquet"):
        raise UserError(f"{path}: unknown kind of file {path.suffix!r}; give a .jsonl or a .parquet file")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    raw_rows = _jsonl_rows(path) if path.suffix == ".jsonl" else _parquet_rows(path, columns, other_columns)
    empty = True
    for place, raw in raw_rows:
        empty = False
        yield Row(place, _parse_row(path, place, raw, columns, other_columns))
    if empty:
        raise UserError(f"{path}: holds no rows; expected at least one with {_names(columns, required=True)}")


def cell_error(path: Path, place: str, column: str, reason: str) -> UserError:
    """Return the error for one cell, in the one form that all of them have."""
    return UserError(f'{path}, {place}, column "{column}": {reason}')


def drop_torn_end(path: Path) -> int:
    """Cut an unfinished last line, as a killed writer leaves it, off a JSONL file; return how many bytes went."""
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)
        return size - end


def write_rows(path: Path, rows: Iterable[Mapping[str, object]], schema: Mapping[str, str]) -> None:
    """Write rows to a new JSONL or parquet file, whole or not at all.

    `schema` maps each column to its Arrow type by name (`string`, `int64`, `float64`); nulls are left out of JSONL.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.suffix == ".jsonl":
            with temporary.open("w", encoding="utf-8") as file:
                file.writelines(json_line(row) for row in rows)
        elif path.suffix == ".parquet":
            _write_parquet(temporary, rows, schema)
        else:
            raise UserError(f"{path}: unknown kind of file {path.suffix!r}; name it .jsonl or .parquet")
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def json_line(row: Mapping[str, object]) -> str:
    """Return a row as one line of JSONL, newline included, without its null cells."""
    present = {name: value for name, value in row.items() if value is not None}
    return json.dumps(present, ensure_ascii=False, allow_nan=False) + "\n"


def _jsonl_rows(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    number = 0
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            place = f"line {number}"
            if len(line) > MAX_LINE_BYTES:
                raise UserError(
                    f"{path}, {place}: is longer than {MAX_LINE_BYTES} bytes; JSONL holds one object per line"
                )
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield place, _json_object(path, place, line)


def _json_object(path: Path, place: str, line: bytes) -> dict[str, object]:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}, {place}: byte {error.start + 1} is not UTF-8; save the file as UTF-8") from error
    except (json.JSONDecodeError, RecursionError) as error:
        where = f" at character {error.pos + 1}: {error.msg}" if isinstance(error, json.JSONDecodeError) else ""
        raise UserError(f"{path}, {place}: is not a JSON object{where}; write one object per line") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}, {place}: is a JSON {type(value).__name__}, not an object; write one object per line")
    return value


def _parquet_rows(
    path: Path, columns: Mapping[str, Column], other_columns: bool
) -> Iterator[tuple[str, dict[str, object]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            present = file.schema_arrow.names
            if not other_columns:
                _refuse_unknown(f"{path}", present, columns)
            for name, column in columns.items():
                if column.required and name not in present:
                    raise UserError(f'{path}: column "{name}" is missing; it holds {", ".join(present) or "no column"}')
            number = 0
            for batch in file.iter_batches(
                batch_size=_BATCH_ROWS, columns=[name for name in columns if name in present]
            ):
                for raw in batch.to_pylist():
                    number += 1
                    yield f"row {number}", raw
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path}: is not a readable parquet file (truncated or damaged?); write or copy it again"
        ) from error


def _write_parquet(path: Path, rows: Iterable[Mapping[str, object]], schema: Mapping[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow_schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in schema.items()])
    with pq.ParquetWriter(path, arrow_schema, compression="zstd") as writer:
        batch: list[dict[str, object]] = []
        for row in rows:
            batch.append({name: row.get(name) for name in schema})
            if len(batch) == _BATCH_ROWS:
                writer.write_table(pa.Table.from_pylist(batch, schema=arrow_schema))
                batch = []
        writer.write_table(pa.Table.from_pylist(batch, schema=arrow_schema))


def _parse_row(
    path: Path, place: str, raw: Mapping[str, object], columns: Mapping[str, Column], other_columns: bool
) -> dict[str, Any]:
    if not other_columns:
        _refuse_unknown(f"{path}, {place}", raw, columns)
    cells: dict[str, Any] = {}
    for name, column in columns.items():
        value = raw.get(name)
        if value is None:
            if column.required:
                reason = "is null" if name in raw else "is missing"
                raise cell_error(path, place, name, f"{reason}; every row needs {_names(columns, required=True)}")
            cells[name] = None
            continue
        try:
            cells[name] = column.parse(value)
        except ValueError as error:
            raise cell_error(path, place, name, str(error)) from error
    return cells


def _refuse_unknown(where: str, present: Iterable[str], columns: Mapping[str, Column]) -> None:
    for name in present:
        if name not in columns:
            close = difflib.get_close_matches(name, columns, n=1)
            remedy = f'did you mean "{close[0]}"?' if close else f"known columns: {_names(columns)}"
            raise UserError(f'{where}: unknown column "{name[:80]}"; {remedy}')


def _names(columns: Mapping[str, Column], *, required: bool = False) -> str:
    return ", ".join(name for name, column in columns.items() if column.required or not required)

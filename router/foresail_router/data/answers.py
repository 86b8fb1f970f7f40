"""The answers that models gave, beside the matrix of their outcomes: read for training alone, and never shown to a router.

In a data directory they are the column `answer` of its outcomes, of a long-form source the file `<source>.responses.parquet`. Use:

    answers = load_answers(directory, source, matrix)      # the same rows and columns as the matrix
    training_answers = answers.rows(mask)                   # as OutcomeMatrix.rows
    embedded = embed_answers(training_answers, encoder)     # strategies/lookahead/answers.py -> base.AnswerEmbeddings
    TrainingSet(features, outcomes, folds, embedded)        # for a strategy whose `uses_answers` is true

It must not know encoders or strategies, nor log or repeat what an answer says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foresail_api.errors import UserError
from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.data.records import OUTCOME_COLUMNS, name, outcomes_path, text
from foresail_router.data.rows import Column, cell_error, read_rows

# Far more than the opening tokens that are ever embedded; the rest of a long answer would only fill the memory.
OPENING_CHARACTERS = 2048
_NO_ANSWER = -1
_DIRECTORY_COLUMNS = {key: OUTCOME_COLUMNS[key] for key in ("id", "model", "answer")}
_SOURCE_COLUMNS = {
    "query_id": Column(name, required=True),
    "model": OUTCOME_COLUMNS["model"],
    "response": Column(text),
}


@dataclass(frozen=True, slots=True)
class Answers:
    """The opening of each model's (column) answer to each prompt (row): numbers of `texts`, which are all different; -1 for no answer."""

    texts: tuple[str, ...]
    index: NDArray[np.int32]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which model's answer to which prompt is recorded (prompts x models)."""
        return np.asarray(self.index != _NO_ANSWER)

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Answers:
        """Return the answers to some prompts, by mask or by index, without the texts that only others had."""
        return _compact(self.texts, self.index[chosen])

    def columns(self, chosen: Sequence[int]) -> Answers:
        """Return the answers of some models, by index and in that order."""
        return _compact(self.texts, self.index[:, list(chosen)])


def load_answers(directory: Path, source: str | None, matrix: OutcomeMatrix) -> Answers:
    """Read the answers to the matrix's prompts by its models; where none is recorded, all are unknown.

    `directory` and `source` are those that the matrix was loaded from. Raises `UserError` at the first fault of a file.
    """
    rows = {prompt.id: number for number, prompt in enumerate(matrix.prompts)}
    columns = {model: number for number, model in enumerate(matrix.models)}
    index = np.full((len(rows), len(columns)), _NO_ANSWER, dtype=np.int32)
    numbers: dict[str, int] = {}
    for path, place, (query, model, answer) in _recorded(directory, source):
        row, column = rows.get(query), columns.get(model)
        if row is None or column is None:
            continue
        if index[row, column] != _NO_ANSWER:
            raise cell_error(path, place, "model", f"{model!r} answers {query!r} twice; keep one row")
        index[row, column] = numbers.setdefault(answer[:OPENING_CHARACTERS], len(numbers))
    return Answers(tuple(numbers), index)


def _recorded(directory: Path, source: str | None) -> Iterator[tuple[Path, str, tuple[str, str, str]]]:
    """Yield file, place, and prompt, model and answer of each row that holds an answer."""
    if source is None:
        path, columns = outcomes_path(directory), _DIRECTORY_COLUMNS
    else:
        path, columns = directory / f"{source}.responses.parquet", _SOURCE_COLUMNS
        if not path.exists():
            return
        _check_columns(path)
    for row in read_rows(path, columns, other_columns=True):
        query, model, answer = row.cells.values()
        if answer is not None:
            yield path, row.place, (query, model, answer)


def _check_columns(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        present = pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path}: is not a readable parquet file (truncated or damaged?); write, copy or remove it"
        ) from error
    if "response" not in present:
        raise UserError(f'{path}: column "response" is missing; add it, or remove the file to train without answers')


def _compact(texts: tuple[str, ...], index: NDArray[np.int32]) -> Answers:
    used, compact = np.unique(index, return_inverse=True)
    compact = compact.reshape(index.shape).astype(np.int32)
    if len(used) and used[0] == _NO_ANSWER:
        used, compact = used[1:], compact - 1
    return Answers(tuple(texts[number] for number in used), compact.astype(np.int32))

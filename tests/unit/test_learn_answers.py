"""Recorded answers lie beside the matrix, cut, each once, from data directories and from long-form sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.support.learning import make_matrix, write_data

from foresail_api.errors import UserError
from foresail_router.data.answers import OPENING_CHARACTERS, Answers, load_answers
from foresail_router.data.matrix import OutcomeMatrix, build_matrix
from foresail_router.data.records import Outcome, Prompt, write_outcomes, write_prompts
from foresail_router.features.encoder import Progress, Vectors
from foresail_router.strategies.lookahead.answers import embed_answers

PROMPTS = [Prompt("a", "One"), Prompt("b", "Two")]
OUTCOMES = [
    Outcome("a", "m", 1.0, answer="yes"),
    Outcome("a", "n", 0.0),
    Outcome("b", "m", 0.0, answer="no"),
    Outcome("b", "n", 1.0, answer="yes"),
]
RESPONSES = {
    "query_id": ["b", "a", "b", "a", "z"],
    "model": ["n", "m", "m", "other", "m"],
    "response": ["yes", "yes", None, "foreign", "unasked"],
    "n_chars": [3, 3, 0, 7, 7],
}


class LengthEncoder:
    """Embeds a text as its length, and remembers what it was asked."""

    key = "length"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: tuple[str, ...], progress: Progress | None = None) -> Vectors:
        self.asked.extend(texts)
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


def matrix() -> OutcomeMatrix:
    return build_matrix(PROMPTS, OUTCOMES, name="x")


def write_source(directory: Path, **changes: list[object]) -> Path:
    pq.write_table(pa.table(RESPONSES | changes), directory / "s.responses.parquet")
    return directory


def said(answers: Answers) -> list[list[str | None]]:
    return [[answers.texts[number] if number >= 0 else None for number in row] for row in answers.index.tolist()]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_the_answers_of_a_data_directory_lie_beside_its_outcomes(tmp_path: Path, suffix: str) -> None:
    write_prompts(tmp_path / f"prompts.{suffix}", PROMPTS)
    write_outcomes(tmp_path / f"outcomes.{suffix}", OUTCOMES)
    answers = load_answers(tmp_path, None, matrix())
    assert said(answers) == [["yes", None], ["no", "yes"]]
    assert sorted(answers.texts) == ["no", "yes"]
    np.testing.assert_array_equal(answers.known, [[True, False], [True, True]])


def test_a_source_brings_only_answers_of_the_pool_to_prompts_of_the_pool(tmp_path: Path) -> None:
    answers = load_answers(write_source(tmp_path), "s", matrix())
    assert said(answers) == [["yes", None], [None, "yes"]]
    assert answers.texts == ("yes",)


def test_a_source_without_answers_has_none(tmp_path: Path) -> None:
    answers = load_answers(tmp_path, "s", matrix())
    assert not answers.known.any()
    assert embed_answers(answers, LengthEncoder()) is None


def test_rows_and_columns_keep_only_their_own_texts() -> None:
    answers = Answers(("one", "two", "three"), np.array([[0, -1], [2, 1]], dtype=np.int32))
    second = answers.rows(np.array([False, True]))
    assert said(second) == [["three", "two"]]
    assert sorted(second.texts) == ["three", "two"]
    assert said(answers.columns([1])) == [[None], ["two"]]
    assert answers.columns([1]).texts == ("two",)
    assert said(answers.rows(np.array([1, 0]))) == [["three", "two"], ["one", None]]


def test_only_the_opening_of_a_long_answer_is_kept(tmp_path: Path) -> None:
    long = ["x" * 10_000, "x" * 20_000, None, None, None]
    answers = load_answers(write_source(tmp_path, response=long), "s", matrix())
    assert [len(text) for text in answers.texts] == [OPENING_CHARACTERS]


def test_each_different_answer_is_embedded_once_and_unknown_ones_are_zero() -> None:
    encoder = LengthEncoder()
    answers = Answers(("yes", "no"), np.array([[0, -1], [1, 0]], dtype=np.int32))
    embedded = embed_answers(answers, encoder)
    assert embedded is not None
    assert encoder.asked == ["yes", "no"]
    assert embedded.vectors.dtype == np.float16
    np.testing.assert_array_equal(embedded.vectors, [[[3, 1], [0, 0]], [[2, 1], [3, 1]]])
    np.testing.assert_array_equal(embedded.known, answers.known)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_id": ["a", "a", "b", "a", "z"], "model": ["m", "m", "m", "m", "m"]}, "row 2, .*'m' answers 'a' twice"),
        ({"model": ["", "m", "m", "m", "m"]}, 'row 1, column "model": is blank'),
        ({"response": [1, 2, 3, 4, 5]}, 'row 1, column "response": is a number; expected a string'),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, changes: dict[str, list[object]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_answers(write_source(tmp_path, **changes), "s", matrix())


def test_a_file_that_holds_no_responses_is_named(tmp_path: Path) -> None:
    columns = {key: value for key, value in RESPONSES.items() if key != "response"}
    pq.write_table(pa.table(columns), tmp_path / "s.responses.parquet")
    with pytest.raises(UserError, match=r's\.responses\.parquet: column "response" is missing; add it, or remove'):
        load_answers(tmp_path, "s", matrix())
    (tmp_path / "s.responses.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(UserError, match="is not a readable parquet file"):
        load_answers(tmp_path, "s", matrix())


def test_the_shared_data_set_has_an_answer_for_every_outcome(tmp_path: Path) -> None:
    answers = load_answers(write_data(tmp_path / "data", 9), None, make_matrix(9))
    assert answers.known.all()
    assert answers.texts == ("an answer",)

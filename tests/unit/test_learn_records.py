"""Files of prompts and outcomes: what is written is read back, and every fault names file, row, column, value and remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foresail_api.errors import UserError
from foresail_router.data.records import (
    Outcome,
    Prompt,
    outcomes_path,
    prompts_path,
    read_outcomes,
    read_prompts,
    record_line,
    write_outcomes,
    write_prompts,
)
from foresail_router.data.rows import drop_torn_end

PROMPTS = [
    Prompt("a", "What is 2 + 2?", task="sum", split="test", grader="numeric", reference="4"),
    Prompt("b", "Größe 🙂?"),
]
OUTCOMES = [
    Outcome("a", "small", 1.0, input_tokens=9, output_tokens=3, cost_usd=0.000125, answer="4"),
    Outcome("a", "large", 0.25, input_tokens=9),
    Outcome("b", "large", 0.0),
]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str) -> None:
    write_prompts(tmp_path / f"prompts.{suffix}", PROMPTS)
    write_outcomes(tmp_path / f"outcomes.{suffix}", OUTCOMES)
    assert list(read_prompts(prompts_path(tmp_path))) == PROMPTS
    assert list(read_outcomes(outcomes_path(tmp_path), prompt_ids=["a", "b"])) == OUTCOMES
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"outcomes.{suffix}", f"prompts.{suffix}"]


def test_records_may_be_appended_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    path.write_text("".join(record_line(outcome) for outcome in OUTCOMES), encoding="utf-8")
    assert list(read_outcomes(path)) == OUTCOMES


@pytest.mark.parametrize("whole", ["", '{"id": "a"}\n', '{"id": "a"}\n{"id": "b"}\n'])
@pytest.mark.parametrize("torn", ["", '{"id": "c", "mo', "x" * 200_000])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, whole: str, torn: str) -> None:
    path = tmp_path / "outcomes.jsonl"
    path.write_text(whole + torn)
    assert drop_torn_end(path) == len(torn)
    assert path.read_text() == whole


def test_byte_order_mark_blank_lines_and_whole_floats_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"id": "a", "model": "m", "score": 1, "input_tokens": 7.0}\n\n')
    assert list(read_outcomes(path)) == [Outcome("a", "m", 1.0, input_tokens=7)]


GOOD = {"id": "a", "model": "m", "score": 0.5}
OUTCOME_FAULTS = [
    ({"score": 1.5}, 'column "score": 1.5 is outside [0, 1]; scale the scores'),
    ({"score": -0.01}, 'column "score": -0.01 is outside [0, 1]'),
    ({"score": float("nan")}, 'column "score": nan is not a finite number; leave an unknown value out'),
    ({"score": "0.5"}, 'column "score": is a string; expected a number'),
    ({"score": True}, 'column "score": is a boolean; expected a number'),
    ({"score": None}, 'column "score": is null; every row needs id, model, score'),
    ({"id": 7}, 'column "id": is a number; expected a string'),
    ({"model": "  "}, 'column "model": is blank'),
    ({"model": "m" * 600}, 'column "model": has 600 characters; at most 512'),
    ({"input_tokens": 1.5}, 'column "input_tokens": 1.5 is not a count of tokens'),
    ({"output_tokens": -1}, 'column "output_tokens": -1 is not a count of tokens'),
    ({"output_tokens": 10**400}, 'column "output_tokens": inf is not a finite number'),
    ({"cost_usd": -0.5}, 'column "cost_usd": -0.5 is negative; expected US dollars'),
    ({"answer": ["x"]}, 'column "answer": is a list; expected a string'),
    ({"ouput_tokens": 3}, 'unknown column "ouput_tokens"; did you mean "output_tokens"?'),
    ({"zzz": 3}, 'unknown column "zzz"; known columns: id, model, score'),
]


@pytest.mark.parametrize(("change", "message"), OUTCOME_FAULTS)
def test_a_bad_cell_of_a_line_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "outcomes.jsonl"
    path.write_text(json.dumps({**GOOD, "id": "z"}) + "\n" + json.dumps(GOOD | change) + "\n")
    with pytest.raises(UserError) as raised:
        list(read_outcomes(path))
    assert str(raised.value).startswith(f"{path}, line 2")
    assert message in str(raised.value)


def test_a_missing_cell_is_told_from_a_null_one(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    path.write_text('{"id": "a", "score": 1}\n')
    with pytest.raises(UserError, match='line 1, column "model": is missing; every row needs id, model, score'):
        list(read_outcomes(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no rows; expected at least one with id, model, score"),
        (b"\n \n", "holds no rows"),
        (b'{"id": "a", \n', "line 1: is not a JSON object at character"),
        (b"[1]\n", "line 1: is a JSON list, not an object"),
        (b'{"id": "\xff"}\n', "line 1: byte 9 is not UTF-8; save the file as UTF-8"),
        (b"[" * 100_000, "line 1: is not a JSON object"),
        (b'{"id": "\\ud800", "model": "m", "score": 1}\n', 'column "id": holds a lone surrogate'),
    ],
)
def test_a_broken_jsonl_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "outcomes.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        list(read_outcomes(path))
    assert str(raised.value).startswith(str(path))
    assert message in str(raised.value)


def write_table(path: Path, columns: dict[str, list[object]]) -> None:
    pq.write_table(pa.table(columns), path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a"], "score": [1.0]}, ': column "model" is missing; it holds id, score'),
        (
            {"id": ["a", "b"], "model": ["m", "m"], "score": [0.0, 2.0]},
            ', row 2, column "score": 2.0 is outside [0, 1]',
        ),
        ({"id": ["a"], "model": ["m"], "score": ["high"]}, ', row 1, column "score": is a string; expected a number'),
        ({"id": [b"a"], "model": ["m"], "score": [1.0]}, ', row 1, column "id": is a byte string; expected a string'),
        (
            {"id": ["a"], "model": ["m"], "score": [1.0], "cost": [1.0]},
            ': unknown column "cost"; did you mean "cost_usd"?',
        ),
    ],
)
def test_a_bad_cell_of_a_parquet_file_is_named(tmp_path: Path, columns: dict[str, list[object]], message: str) -> None:
    path = tmp_path / "outcomes.parquet"
    write_table(path, columns)
    with pytest.raises(UserError) as raised:
        list(read_outcomes(path))
    assert str(raised.value).startswith(str(path) + message)


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_a_truncated_parquet_file_is_named(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "outcomes.parquet"
    write_outcomes(path, [Outcome(str(number), "m", 0.5) for number in range(10_000)])
    data = path.read_bytes()
    path.write_bytes(data[: int(keep if keep != 0.5 else len(data) / 2)])
    with pytest.raises(UserError, match="is not a readable parquet file"):
        list(read_outcomes(path))


def test_damage_inside_a_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.parquet"
    write_outcomes(path, [Outcome(str(number), "m", 0.5) for number in range(10_000)])
    data = bytearray(path.read_bytes())
    data[100:5000] = bytes(4900)
    path.write_bytes(data)
    with pytest.raises(UserError, match="is not a readable parquet file"):
        list(read_outcomes(path))


def test_a_prompt_id_comes_once(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(record_line(Prompt(key, "Hi")) for key in ("a", "b", "a")))
    with pytest.raises(UserError, match="line 3, column \"id\": 'a' comes twice, first in line 1"):
        list(read_prompts(path))


def test_a_model_answers_a_prompt_once(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    path.write_text(
        "".join(record_line(Outcome(key, model, 1.0)) for key, model in [("a", "m"), ("a", "n"), ("a", "m")])
    )
    with pytest.raises(UserError, match="line 3, column \"model\": 'm' answers prompt 'a' twice, first in line 1"):
        list(read_outcomes(path))


def test_an_outcome_needs_its_prompt(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    path.write_text(record_line(Outcome("ghost", "m", 1.0)))
    with pytest.raises(UserError, match="line 1, column \"id\": 'ghost' is not the id of any prompt"):
        list(read_outcomes(path, prompt_ids=["a"]))


def test_an_error_never_holds_the_prompt(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"id": "a", "prompt": ["my secret"]}\n')
    with pytest.raises(UserError, match='column "prompt": is a list') as raised:
        list(read_prompts(path))
    assert "secret" not in str(raised.value)


def test_a_split_is_one_of_three(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"id": "a", "prompt": "Hi", "split": "dev"}\n')
    with pytest.raises(UserError, match="'dev' is not one of train, val, test"):
        list(read_prompts(path))


def test_prompts_of_a_foreign_file_are_read_beside_other_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "other.parquet", {"id": ["a"], "extra": [1], "prompt": ["Hi"], "split": ["odd"]})
    assert list(read_prompts(tmp_path / "other.parquet", other_columns=True)) == [Prompt("a", "Hi")]


def test_a_directory_holds_one_file_of_each(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds neither prompts.jsonl nor prompts.parquet; add one"):
        prompts_path(tmp_path)
    write_prompts(tmp_path / "prompts.jsonl", PROMPTS)
    write_prompts(tmp_path / "prompts.parquet", PROMPTS)
    with pytest.raises(UserError, match="holds both"):
        prompts_path(tmp_path)


@pytest.mark.parametrize(
    ("path", "message"),
    [("prompts.csv", "unknown kind of file '.csv'; give a .jsonl or a .parquet file"), ("no.jsonl", "no such file")],
)
def test_an_unusable_path_is_named(tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(read_prompts(tmp_path / path))


def test_nothing_is_left_of_a_failed_write(tmp_path: Path) -> None:
    bad = [OUTCOMES[0], Outcome("b", "m", 3.0)]
    for name in ("outcomes.jsonl", "outcomes.parquet"):
        with pytest.raises(UserError, match=r"outcome 'b', column .score.: 3\.0 is outside"):
            write_outcomes(tmp_path / name, bad)
    assert list(tmp_path.iterdir()) == []

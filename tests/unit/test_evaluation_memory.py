"""The memory of a run is that of all its processes, and pools are prepared where their encoders do not stay."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foresail_api.errors import UserError
from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.data.records import Prompt
from foresail_router.evaluation.benchmark.memory import (
    MemoryWatch,
    cpu_seconds,
    give_back_memory,
    held_together_mib,
    peak_mib,
    resident_mib,
)
from foresail_router.evaluation.benchmark.prepared import (
    PreparedPool,
    prepare,
    read_answers,
    read_outcomes,
    read_scores,
    write_pool,
)
from foresail_router.evaluation.benchmark.preparing import prepare_pools
from foresail_router.strategies.base import AnswerEmbeddings

HELD_BY_CHILD_MIB = 64
COUNT = 40


def embeddings(data: OutcomeMatrix) -> AnswerEmbeddings:
    known = np.ones(data.score.shape, dtype=np.bool_)
    known[:, 1] = False
    known[: COUNT // 2, 0] = False
    vectors = np.random.default_rng(0).standard_normal((*known.shape, 3)).astype(np.float16)
    return AnswerEmbeddings(vectors, known)


def load(name: str) -> PreparedPool:
    """Stands where the benchmark command has encoders: a pool whose size follows from its name."""
    if name == "absent":
        raise UserError("--pools absent: no such source")
    if name == "too large":
        os._exit(9)
    prompts = tuple(Prompt(f"p{number}", f"question {number} of {os.getpid()}", task="t") for number in range(COUNT))
    score = np.tile([1.0, 0.0], (COUNT, 1))
    data = OutcomeMatrix(prompts, ("a", "b"), score, score, score, score)
    answers: Callable[[OutcomeMatrix], AnswerEmbeddings | None] = embeddings if name == "answered" else (lambda _: None)
    return prepare(
        name, data, lambda texts: np.ones((len(texts), 2), dtype=np.float32), answers, folds=2, folds_by="text"
    )


def test_what_a_child_holds_counts() -> None:
    before = held_together_mib(os.getpid())
    program = f"held = b'x' * {HELD_BY_CHILD_MIB * 2**20}; print('ready', flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        with MemoryWatch() as watch:
            pass
    finally:
        child.communicate("\n", timeout=20)
    after = held_together_mib(os.getpid())
    assert before
    assert after
    assert watch.peak_mib
    assert watch.peak_mib > before + HELD_BY_CHILD_MIB
    assert after < before + HELD_BY_CHILD_MIB


def test_a_process_that_has_ended_holds_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(20)
    assert held_together_mib(child.pid) is None


def test_a_peak_is_one_of_this_process_and_memory_that_is_free_goes_back() -> None:
    assert peak_mib() >= resident_mib() > 0
    assert cpu_seconds() > 0
    # Large arrays go back by themselves; these small ones stay until they are asked back.
    held = [np.ones(4000) for _ in range(4000)]
    full = resident_mib()
    del held
    give_back_memory()
    assert resident_mib() < full - 60


def test_pools_are_prepared_in_one_other_process(tmp_path: Path) -> None:
    said: list[str] = []
    wanted = frozenset({False, True})
    found = prepare_pools(["answered", "plain"], load, tmp_path, with_answers=wanted, say=said.append)
    assert said == ["preparing answered", "preparing plain"]
    texts = {name: read_outcomes(file.path)[0].texts for name, file in found.items()}
    assert texts["answered"] == texts["plain"]
    assert not texts["answered"][0].endswith(f"of {os.getpid()}")
    assert (found["answered"].answered_outcomes, found["answered"].answered_models) == (0.25, 0.5)
    assert (found["plain"].answered_outcomes, found["plain"].answered_models) == (0.0, 0.0)
    assert found["answered"].fingerprints[False] != found["answered"].fingerprints[True]
    assert found["answered"].fingerprints[False] == found["plain"].fingerprints[True]


def test_shares_of_answers_are_unknown_where_nobody_asks_for_answers(tmp_path: Path) -> None:
    found = prepare_pools(["plain"], load, tmp_path, with_answers=frozenset({False}), say=len)
    assert (found["plain"].answered_outcomes, found["plain"].answered_models) == (None, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent", "no such source"), ("too large", "too large: the process that prepares it was ended")],
)
def test_a_pool_that_cannot_be_prepared_is_named(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare_pools([name], load, tmp_path, with_answers=frozenset({False}), say=len)


def test_parts_of_a_prepared_pool_can_be_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foresail_router.evaluation.benchmark.prepared._ROWS_AT_ONCE", 7)
    pool = load("answered")
    write_pool(tmp_path / "pool.safetensors", pool)
    outcomes, folds = read_outcomes(tmp_path / "pool.safetensors")
    assert outcomes.prompts == pool.outcomes.prompts
    np.testing.assert_array_equal(folds, pool.folds)
    score, again = read_scores(tmp_path / "pool.safetensors")
    np.testing.assert_array_equal(score, pool.outcomes.score)
    np.testing.assert_array_equal(again, pool.folds)
    rows = np.flatnonzero(pool.folds == 1)
    answers = read_answers(tmp_path / "pool.safetensors", rows)
    assert answers
    assert pool.answers
    np.testing.assert_array_equal(answers.vectors, pool.answers.vectors[rows])
    np.testing.assert_array_equal(answers.known, pool.answers.known[rows])
    write_pool(tmp_path / "plain.safetensors", load("plain"))
    assert read_answers(tmp_path / "plain.safetensors", rows) is None

"""A pool ready to be learned from, in memory and as two files that worker processes read. It must not know strategies or cells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.data.records import Prompt
from foresail_router.data.splits import fold_of
from foresail_router.strategies.base import AnswerEmbeddings, DescriptionEmbeddings, Features, TrainingSet

# Answers are read in parts, so that only those that are asked for are held.
_ROWS_AT_ONCE = 512
_MATRICES = ("score", "input_tokens", "output_tokens", "cost_usd")
FoldsBy = str
FOLDS_BY = ("text", "task")


@dataclass(frozen=True, slots=True)
class PreparedPool:
    """A pool's complete prompts with embeddings (float16) and folds; `answers` is None where no strategy of the run looks at them.

    `descriptions` is None where the run has none.
    """

    name: str
    outcomes: OutcomeMatrix
    embeddings: NDArray[np.float16]
    folds: NDArray[np.int64]
    answers: AnswerEmbeddings | None
    descriptions: DescriptionEmbeddings | None = None

    def training_set(self, features: Features, *, with_answers: bool) -> TrainingSet:
        """Return all of it as a training set; `features` are this pool's, kept by the caller so that they are counted once."""
        answers = self.answers if with_answers else None
        return TrainingSet(features, self.outcomes, self.folds, answers, self.descriptions)

    def features(self) -> Features:
        """Return the features of all prompts."""
        return Features(self.outcomes.texts, self.embeddings.astype(np.float32))

    def fingerprint(self, *, with_answers: bool) -> str:
        """Return a digest of all that a strategy may learn from here."""
        digest = hashlib.sha256(self.outcomes.fingerprint().encode())
        digest.update(json.dumps([prompt.task for prompt in self.outcomes.prompts]).encode())
        digest.update(self.embeddings.tobytes() + self.folds.tobytes())
        if with_answers and self.answers is not None:
            digest.update(self.answers.vectors.tobytes() + self.answers.known.tobytes())
        if self.descriptions is not None:
            digest.update(self.descriptions.vectors.tobytes() + self.descriptions.known.tobytes())
        return digest.hexdigest()


def prepare(
    name: str,
    data: OutcomeMatrix,
    encode: Callable[[tuple[str, ...]], NDArray[np.float32]],
    answers: Callable[[OutcomeMatrix], AnswerEmbeddings | None],
    *,
    folds: int,
    folds_by: FoldsBy,
    descriptions: Callable[[OutcomeMatrix], DescriptionEmbeddings | None] | None = None,
) -> PreparedPool:
    """Return the complete prompts of `data` with what strategies see of them; raises `ValueError` when folds cannot be made."""
    complete = data.rows(data.complete)
    if not complete.prompts:
        raise ValueError("no prompt has an outcome of every model; choose a pool of fewer models")
    numbers = np.array([_fold(prompt, folds, folds_by) for prompt in complete.prompts], dtype=np.int64)
    empty = sorted(set(range(folds)) - set(numbers.tolist()))
    if empty:
        raise ValueError(f"fold {empty[0]} of {folds} is empty; ask for fewer folds, or add prompts")
    vectors = encode(complete.texts).astype(np.float16)
    described = None if descriptions is None else descriptions(complete)
    return PreparedPool(name, complete, vectors, numbers, answers(complete), described)


def write_pool(path: Path, pool: PreparedPool) -> None:
    """Write a pool for workers: `path` and, with answers, a second file beside it."""
    arrays: dict[str, NDArray[Any]] = {name: getattr(pool.outcomes, name) for name in _MATRICES}
    arrays |= {"embeddings": pool.embeddings, "folds": pool.folds}
    if pool.descriptions is not None:
        arrays |= {"descriptions": pool.descriptions.vectors, "described": pool.descriptions.known.astype(np.uint8)}
    prompts = json.dumps([asdict(prompt) for prompt in pool.outcomes.prompts]).encode()
    arrays["prompts"] = np.frombuffer(prompts, dtype=np.uint8)
    arrays["models"] = np.frombuffer(json.dumps(pool.outcomes.models).encode(), dtype=np.uint8)
    save_file({key: np.ascontiguousarray(array) for key, array in arrays.items()}, path)
    if pool.answers is not None:
        known = pool.answers.known.astype(np.uint8)
        save_file({"vectors": np.ascontiguousarray(pool.answers.vectors), "known": known}, _answers_path(path))


def read_pool(path: Path, name: str, *, with_answers: bool) -> PreparedPool:
    """Read a pool that `write_pool` wrote."""
    arrays = load_file(path)
    outcomes = _outcomes(arrays)
    answers = read_answers(path, np.arange(len(outcomes.prompts))) if with_answers else None
    descriptions = None
    if "descriptions" in arrays:
        descriptions = DescriptionEmbeddings(arrays["descriptions"], arrays["described"].astype(np.bool_))
    return PreparedPool(name, outcomes, arrays["embeddings"], arrays["folds"], answers, descriptions)


def read_outcomes(path: Path) -> tuple[OutcomeMatrix, NDArray[np.int64]]:
    """Read the outcomes and the folds alone of a pool that `write_pool` wrote."""
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in (*_MATRICES, "prompts", "models", "folds")}
    return _outcomes(arrays), arrays["folds"]


def read_scores(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Read the scores (prompts x models) and the folds alone of a pool that `write_pool` wrote."""
    with safe_open(path, framework="numpy") as file:
        return file.get_tensor("score"), file.get_tensor("folds")


def read_answers(path: Path, rows: NDArray[np.int64]) -> AnswerEmbeddings | None:
    """Read the answers to some prompts of a pool that `write_pool` wrote, by index; None where it has none."""
    if not _answers_path(path).exists():
        return None
    with safe_open(_answers_path(path), framework="numpy") as file:
        known = file.get_tensor("known").astype(np.bool_)[rows]
        stored = file.get_slice("vectors")
        vectors = np.empty((len(rows), *stored.get_shape()[1:]), dtype=np.float16)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = rows[start : start + _ROWS_AT_ONCE]
            first = int(part.min())
            vectors[start : start + len(part)] = stored[first : int(part.max()) + 1][part - first]
    return AnswerEmbeddings(vectors, known)


def _outcomes(arrays: Mapping[str, NDArray[Any]]) -> OutcomeMatrix:
    prompts = tuple(Prompt(**prompt) for prompt in json.loads(arrays["prompts"].tobytes()))
    models = tuple(json.loads(arrays["models"].tobytes()))
    return OutcomeMatrix(prompts, models, *(arrays[key] for key in _MATRICES))


def _answers_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.answers{path.suffix}")


def _fold(prompt: Prompt, folds: int, by: FoldsBy) -> int:
    if by == "text":
        return fold_of(prompt.prompt, folds)
    if prompt.task is None:
        raise ValueError(f"prompt {prompt.id!r} has no task; folds by task need one of every prompt")
    return fold_of(prompt.task, folds)

"""What is to be foreseen of an answer: a few numbers that say how it differs from the other models' answers to the same prompt.

What all answers to a prompt share is its subject, which the prompt itself shows; left in, it would be all that is learned. It must not
know networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import AnswerEmbeddings

Target = Literal["difference", "answer"]
_MOST_ANSWERS = 20_000
_BLOCK_ROWS = 1024
_LEAST_SPREAD = 1e-3


@dataclass(frozen=True, slots=True)
class AnswerTargets:
    """Standardised figures of each model's answer (prompts x models x figures), and which of them are known; unknown ones are 0."""

    figures: NDArray[np.float32]
    known: NDArray[np.bool_]

    @property
    def models(self) -> int:
        """How many models have an answer to learn from."""
        return int(self.known.any(axis=0).sum())


def answer_targets(answers: AnswerEmbeddings, target: Target, width: int) -> AnswerTargets:
    """Return the principal components, as many as `width`, of the answers or of their differences from a prompt's mean answer.

    A difference takes two answers: a prompt that only one model has answered shows none. Each figure has mean 0 and spread 1 over the
    known answers of a model.
    """
    known = answers.known & (answers.known.sum(axis=1, keepdims=True) >= 2) if target == "difference" else answers.known
    directions = _directions(answers, known, target, width)
    figures = np.zeros((*known.shape, directions.shape[1]), dtype=np.float32)
    for rows in _blocks(len(known)):
        figures[rows] = _compared(answers, rows, target) @ directions
    for model in range(known.shape[1]):
        own = figures[known[:, model], model]
        if len(own):
            figures[:, model] = (figures[:, model] - own.mean(axis=0)) / np.maximum(own.std(axis=0), _LEAST_SPREAD)
    figures[~known] = 0.0
    return AnswerTargets(figures, np.asarray(known))


def _directions(answers: AnswerEmbeddings, known: NDArray[np.bool_], target: Target, width: int) -> NDArray[np.float32]:
    """Return the leading directions (embedding width x `width`) of answers, or of some prompts' where there are very many."""
    size = answers.vectors.shape[2]
    count, total, square = 0, np.zeros(size), np.zeros((size, size))
    step = max(1, int(known.sum()) // _MOST_ANSWERS)
    for rows in _blocks(len(known), step):
        part = _compared(answers, rows, target)[known[rows]].astype(np.float64)
        count, total, square = count + len(part), total + part.sum(axis=0), square + part.T @ part
    mean = total / max(count, 1)
    _, vectors = np.linalg.eigh(square / max(count, 1) - np.outer(mean, mean))
    return np.asarray(vectors[:, ::-1][:, :width], dtype=np.float32)


def _compared(answers: AnswerEmbeddings, rows: slice, target: Target) -> NDArray[np.float32]:
    vectors, known = answers.vectors[rows].astype(np.float32), answers.known[rows]
    if target == "answer":
        return vectors
    count = np.maximum(known.sum(axis=1), 1)[:, None]
    mean = np.where(known[:, :, None], vectors, 0.0).sum(axis=1) / count
    return np.asarray(vectors - mean[:, None, :], dtype=np.float32)


def _blocks(rows: int, step: int = 1) -> list[slice]:
    return [slice(start, min(start + _BLOCK_ROWS * step, rows), step) for start in range(0, rows, _BLOCK_ROWS * step)]

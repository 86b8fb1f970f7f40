"""Outcomes as dense matrices, prompts by models, from any of the directories that hold them.

Owns the one in-memory form that strategies and evaluation read. It must not know encoders or strategies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foresail_api.errors import UserError
from foresail_router.data.records import Outcome, Prompt, outcomes_path, prompts_path, read_outcomes, read_prompts
from foresail_router.data.splits import split_of

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OutcomeMatrix:
    """What each model (column) made of each prompt (row); NaN where that is not known.

    `score` in [0, 1], token counts as billed, `cost_usd` of the one call. Models are sorted by name.
    """

    prompts: tuple[Prompt, ...]
    models: tuple[str, ...]
    score: Matrix
    input_tokens: Matrix
    output_tokens: Matrix
    cost_usd: Matrix

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> OutcomeMatrix:
        """Return the matrix of some rows, by mask or by index."""
        numbers = np.arange(len(self.prompts))[chosen]
        matrices = (matrix[numbers] for matrix in (self.score, self.input_tokens, self.output_tokens, self.cost_usd))
        return OutcomeMatrix(tuple(self.prompts[number] for number in numbers), self.models, *matrices)

    def columns(self, models: Sequence[str]) -> OutcomeMatrix:
        """Return the matrix of some models, in that order; a model without outcomes has a column of NaN."""
        known = {model: number for number, model in enumerate(self.models)}
        matrices = []
        for matrix in (self.score, self.input_tokens, self.output_tokens, self.cost_usd):
            wanted = np.full((len(self.prompts), len(models)), np.nan)
            for number, model in enumerate(models):
                if model in known:
                    wanted[:, number] = matrix[:, known[model]]
            matrices.append(wanted)
        return OutcomeMatrix(self.prompts, tuple(models), *matrices)

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Which prompts have a score of every model."""
        return np.logical_not(np.isnan(self.score).any(axis=1))

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompts' texts."""
        return tuple(prompt.prompt for prompt in self.prompts)

    def side(self, *splits: str) -> NDArray[np.bool_]:
        """Which prompts lie on one of these sides: `train`, `val`, `test`, by their own `split` or else by their text."""
        return np.array(
            [(prompt.split or split_of(prompt.prompt)) in splits for prompt in self.prompts], dtype=np.bool_
        )

    def fingerprint(self) -> str:
        """Return the SHA-256 of all prompts and numbers, the same for the same data in any order."""
        lines = sorted(
            repr(
                (
                    prompt.id,
                    prompt.prompt,
                    prompt.split,
                    [_numbers(self, row, column) for column in range(len(self.models))],
                )
            )
            for row, prompt in enumerate(self.prompts)
        )
        return f"sha256:{hashlib.sha256(repr((self.models, lines)).encode('utf-8', 'surrogatepass')).hexdigest()}"


def load_directory(directory: Path) -> OutcomeMatrix:
    """Read a data directory of prompts and outcomes; raise `UserError` at its first fault."""
    prompts = list(read_prompts(prompts_path(directory)))
    outcomes = read_outcomes(outcomes_path(directory), prompt_ids=[prompt.id for prompt in prompts])
    return build_matrix(prompts, outcomes, name=str(directory))


def build_matrix(prompts: Iterable[Prompt], outcomes: Iterable[Outcome], *, name: str) -> OutcomeMatrix:
    """Return the matrix of prompts, sorted by id, and their outcomes; prompts without any outcome are left out.

    Raises `UserError`, naming the data set `name`, when nothing is left.
    """
    by_id = {prompt.id: prompt for prompt in prompts}
    answers: dict[str, dict[str, Outcome]] = {}
    models: set[str] = set()
    for outcome in outcomes:
        answers.setdefault(outcome.id, {})[outcome.model] = outcome
        models.add(outcome.model)
    if not answers:
        raise UserError(f"{name}: no prompt has an outcome; check the models and the pool that were asked for")
    rows, columns = sorted(answers), sorted(models)
    index = {model: number for number, model in enumerate(columns)}
    values = np.full((4, len(rows), len(columns)), np.nan)
    for row, key in enumerate(rows):
        for model, outcome in answers[key].items():
            cells = (outcome.score, outcome.input_tokens, outcome.output_tokens, outcome.cost_usd)
            values[:, row, index[model]] = [np.nan if cell is None else cell for cell in cells]
    return OutcomeMatrix(tuple(by_id[key] for key in rows), tuple(columns), *values)


def _numbers(matrix: OutcomeMatrix, row: int, column: int) -> list[float]:
    return [
        float(part[row, column]) for part in (matrix.score, matrix.input_tokens, matrix.output_tokens, matrix.cost_usd)
    ]

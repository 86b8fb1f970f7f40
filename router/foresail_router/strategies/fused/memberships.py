"""The task view: source labels and discovered tasks as soft memberships of a prompt, and what models score on them.

What a model scores is global, then by source label, then by discovered task: each level is shrunken to the one above. Labels are seen in
training alone; a prompt's label is foreseen. It must not know how a task was discovered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.task_aware.classifier import sharpen
from foresail_router.strategies.task_aware.discovery import SHARPNESSES, cross_fitted_table, one_hot
from foresail_router.strategies.task_aware.ridge import FoldedRidge
from foresail_router.strategies.task_aware.tables import shrunken_table

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
_PENALTY = 1.0
_FEWEST_OF_LABEL = 10


@dataclass(frozen=True, slots=True)
class Level:
    """A linear classifier (`weights` features x groups, `bias`), sharpened to memberships, and the groups' `table` (groups x columns)."""

    weights: Floats
    bias: Floats
    table: Floats
    sharpness: float

    def foresee(self, row: Floats) -> Array:
        """Return what one prompt's groups add (columns)."""
        shares = sharpen((row @ self.weights + self.bias)[None], self.sharpness)[0]
        return np.asarray(shares @ self.table, dtype=np.float64)

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Return the arrays under names of their own."""
        return {f"{name}.weights": self.weights, f"{name}.bias": self.bias, f"{name}.table": self.table}


def label_groups(labels: list[str | None]) -> NDArray[np.int64]:
    """Return the number of each prompt's source label, -1 where it has none or one of very few prompts."""
    counts: dict[str, int] = {}
    for label in labels:
        if label is not None:
            counts[label] = counts.get(label, 0) + 1
    usual = sorted(label for label, count in counts.items() if count >= _FEWEST_OF_LABEL)
    numbers = {label: number for number, label in enumerate(usual)}
    return np.array([-1 if label is None else numbers.get(label, -1) for label in labels], dtype=np.int64)


def fit_level(
    group: NDArray[np.int64], targets: Array, ridge: FoldedRidge, folds: NDArray[np.int64]
) -> tuple[Level, Array] | None:
    """Return the level of these groups and what other folds' level foresees of each row; None with fewer than two groups.

    `targets` (prompts x columns, NaN where unknown) are deviations: of what levels above foresee, where there are any.
    """
    groups = int(group.max()) + 1 if len(group) else 0
    if groups < 2:
        return None
    wanted = one_hot(group, groups)
    raw = ridge.cross_fit(wanted, _PENALTY)
    best: tuple[float, float, Array, Array] | None = None
    for sharpness in SHARPNESSES:
        members = sharpen(raw, sharpness)
        foreseen = cross_fitted_table(members, targets, folds)
        error = round(float(np.nansum(np.square(targets[:, 1:] - foreseen[:, 1:]))), 6)
        if best is None or error < best[0]:
            best = (error, sharpness, members, foreseen)
    if best is None:
        raise AssertionError("at least one sharpness is tried")
    _, sharpness, members, foreseen = best
    weights, bias = ridge.fit(wanted, _PENALTY)
    table = shrunken_table(members, targets).mean
    return Level(_floats(weights), _floats(bias), _floats(table), sharpness), foreseen


def _floats(array: NDArray[Any]) -> Floats:
    return np.asarray(array, dtype=np.float32)

"""Levels of tasks: soft memberships of a prompt in groups, and what models score on a group beyond what the levels above say.

Applying a level is numpy alone. It must not know how groups were found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.task_aware.classifier import sharpen
from foresail_router.strategies.task_aware.discovery import CLASSIFIER_PENALTY, cross_fitted_table, one_hot
from foresail_router.strategies.task_aware.ridge import FoldedRidge
from foresail_router.strategies.task_aware.tables import shrunken_table

Array = NDArray[np.float64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Level:
    """A linear classifier (`weights` features x groups, `bias`), sharpened to memberships, and the groups' `table` (groups x columns)."""

    weights: Floats
    bias: Floats
    table: Floats
    sharpness: float

    def assign(self, row: Floats) -> Array:
        """Return one prompt's memberships in the groups, which sum to 1."""
        return np.asarray(sharpen((row @ self.weights + self.bias)[None], self.sharpness)[0], dtype=np.float64)

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Return the arrays under names of their own."""
        return {f"{name}.weights": self.weights, f"{name}.bias": self.bias, f"{name}.table": self.table}


def level_name(number: int) -> str:
    """Return what the level of that number is called in a state."""
    return f"level{number}"


@dataclass(frozen=True, slots=True)
class Table:
    """A group's shrunken means (groups x columns), the sharpness of memberships, and what other folds' tables foresee of each prompt."""

    mean: Array
    sharpness: float
    cross_fitted: Array


def fit_table(margins: Array, targets: Array, folds: NDArray[np.int64], sharpnesses: tuple[float, ...]) -> Table:
    """Return the table at the sharpness of least cross-fitted error of advantages.

    `margins` (prompts x groups) are cross-fitted; `targets` (prompts x 1 + models: ease, advantages; NaN where unknown) are deviations
    from what levels above foresee.
    """
    best: tuple[float, float, Array, Array] | None = None
    for sharpness in sharpnesses:
        members = sharpen(margins, sharpness)
        foreseen = cross_fitted_table(members, targets, folds)
        error = round(float(np.nansum(np.square(targets[:, 1:] - foreseen[:, 1:]))), 6)
        if best is None or error < best[0]:
            best = (error, sharpness, members, foreseen)
    if best is None:
        raise AssertionError("at least one sharpness is tried")
    _, sharpness, members, foreseen = best
    return Table(shrunken_table(members, targets).mean, sharpness, foreseen)


def fit_level(
    group: NDArray[np.int64],
    members: Array,
    sharpness: float,
    targets: Array,
    ridge: FoldedRidge,
    folds: NDArray[np.int64],
) -> tuple[Level, Array]:
    """Return the level of discovered groups with cross-fitted memberships, and what other folds' tables foresee of each prompt."""
    weights, bias = ridge.fit(one_hot(group, members.shape[1]), CLASSIFIER_PENALTY)
    level = Level(_floats(weights), _floats(bias), _floats(shrunken_table(members, targets).mean), sharpness)
    return level, cross_fitted_table(members, targets, folds)


def _floats(array: NDArray[Any]) -> Floats:
    return np.asarray(array, dtype=np.float32)

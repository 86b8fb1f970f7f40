"""The training side in the forms that components learn from, and what is kept of it while its features live.

Configurations differ in how components are joined more than in the components: what was fitted for one is there for the next. It must
not know components.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import Features, TrainingSet
from foresail_router.strategies.task_aware.ridge import FoldedRidge
from foresail_router.strategies.task_aware.targets import Targets, split_score
from foresail_router.strategies.views import View, fit_view

Floats = NDArray[np.float32]
Part = TypeVar("Part")
# Where some models' outcomes are missing, a prompt's ease is foreseen with this penalty.
_EASE_PENALTY = 30.0


@dataclass(frozen=True, slots=True)
class Problem:
    """`seen` is the view as it is, `features` the same centred and scaled (both prompts x features); `kept` holds what was fitted."""

    training: TrainingSet
    view: View
    seen: Floats
    centre: Floats
    size: float
    features: Floats
    ridge: FoldedRidge
    targets: Targets
    kept: dict[Hashable, Any]

    def once(self, key: Hashable, fit: Callable[[], Part]) -> Part:
        """Return what was fitted under this key, or fit it."""
        if key not in self.kept:
            self.kept[key] = fit()
        found: Part = self.kept[key]
        return found


_Forms = tuple[View, Floats, Floats, float, Floats, FoldedRidge, Targets, dict[Hashable, Any]]
# What is kept must not refer to the features themselves: they would live as long as it, and it as long as they.
_kept: WeakKeyDictionary[Features, tuple[tuple[object, ...], _Forms]] = WeakKeyDictionary()


def shared_problem(training: TrainingSet) -> Problem:
    """Return the problem of a training side, with what was fitted for it before, as long as its features live.

    Only the same objects (features, scores, labels, folds and answers), which nobody changes, are the same side. Raises `ValueError` when all prompts lie in
    one fold or nothing is known of any.
    """
    outcomes = training.outcomes
    learned_from = (outcomes.score, outcomes.prompts, training.folds, training.answers)
    found = _kept.get(training.features)
    if found is not None and all(kept is given for kept, given in zip(found[0], learned_from, strict=True)):
        return Problem(training, *found[1])
    if not np.isfinite(outcomes.score).any():
        raise ValueError("no prompt of the training side has a score")
    view = fit_view(training)
    seen = view.apply(training.features)
    centre = seen.mean(axis=0)
    size = float(1.0 / np.sqrt(max(float(np.square(seen - centre).sum(axis=1).mean()), 1e-12)))
    features = ((seen - centre) * np.float32(size)).astype(np.float32)
    ridge = FoldedRidge(features, training.folds)
    targets = split_score(training.outcomes.score, lambda ease: ridge.cross_fit(ease, _EASE_PENALTY))
    forms: _Forms = (view, seen, centre, size, features, ridge, targets, {})
    _kept[training.features] = learned_from, forms
    return Problem(training, *forms)

"""How far a prompt's own estimate and how far its task's scores are believed: alpha, for all tasks and for each. Pure functions.

They must not know how either was foreseen; both must be cross-fitted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# An alpha is believed to lie within about this of the usual one, before any outcome speaks.
_ALPHA_SPREAD = 0.25
_USUAL_ALPHA = 0.5
_SHARES = (0.7, 0.5, 0.35)


def fit_alphas(actual: Array, own: Array, of_task: Array, members: Array) -> tuple[float, Array]:
    """Return the alpha of least squared error of `alpha * own + (1 - alpha) * of_task`, over all prompts, and per task shrunk to it.

    `actual` (NaN where unknown), `own` and `of_task` are prompts x models; `members` prompts x tasks.
    """
    known = np.isfinite(actual)
    difference = np.where(known, own - of_task, 0.0)
    wanted = np.where(known, actual - of_task, 0.0)
    noise = float(np.square(wanted).sum() / max(int(known.sum()), 1))
    prior = noise / _ALPHA_SPREAD**2
    agreement, size = (wanted * difference).sum(axis=1), np.square(difference).sum(axis=1)
    overall = float(np.clip((agreement.sum() + prior * _USUAL_ALPHA) / max(size.sum() + prior, 1e-12), 0.0, 1.0))
    per_task = (members.T @ agreement + prior * overall) / np.maximum(members.T @ size + prior, 1e-12)
    return overall, np.clip(per_task, 0.0, 1.0)


def fit_scale(actual: Array, foreseen: Array) -> float:
    """Return by what factor cross-fitted estimates of deviations are to be multiplied, between 0 and 1.25, so that their slope is right."""
    known = np.isfinite(actual)
    size = float(np.square(foreseen)[known].sum())
    return float(np.clip((actual * foreseen)[known].sum() / size, 0.0, 1.25)) if size > 1e-12 else 1.0


def cautious_share(score: Array, mean: Array, advantage: Array) -> float:
    """Return the share of cross-fitted advantages (prompts x models) to route by: all of them, unless less routes better beyond chance.

    Among many models of about equal means, the highest of many uncertain estimates is chosen for its error: the less is then the better.
    """
    known = np.isfinite(score)
    rows = known.any(axis=1)
    if not rows.any():
        return 1.0
    usual = _routed(score, mean + advantage, known)[rows]
    best, chosen = 0.0, 1.0
    for share in _SHARES:
        more = _routed(score, mean + share * advantage, known)[rows] - usual
        error = float(more.std() / np.sqrt(len(more)))
        if error > 0 and (certain := float(more.mean()) - error) > best:
            best, chosen = certain, share
    return chosen


def _routed(score: Array, estimate: Array, known: NDArray[np.bool_]) -> Array:
    """Return each prompt's score of the model of highest estimate among those known, 0 where none is."""
    choice = np.where(known, estimate, -np.inf).argmax(axis=1)
    routed: Array = np.nan_to_num(score[np.arange(len(score)), choice])
    return routed

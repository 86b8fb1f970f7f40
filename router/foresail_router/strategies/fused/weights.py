"""How much each component's advantages count: least squares where models compete, drawn to equal weights, and how much all of them do.

Pure functions. They must not know how components were fitted; what they are given must be cross-fitted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# A model whose mean is this far below the best counts e times less: where none competes, an error changes no choice.
_COMPETES_WITHIN = 0.03
_COMMON_SHARE = 0.5
# Equal weights count for as much as this share of the evidence.
_EQUAL_SHARE = 0.3
_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)


def competitive_weights(advantage: Array, foreseen: Array, mean: Array) -> Array:
    """Return a weight per component, none negative.

    `advantage` (prompts x models, NaN where unknown) is what was, `foreseen` (components x prompts x models) what each component said;
    compared are differences from the best single model by `mean` (of those with at least half as many outcomes as any), since a choice
    is one between models.
    """
    # A model that few prompts know would leave few to compare on, and its mean may be luck.
    outcomes = np.isfinite(advantage).sum(axis=0)
    best = int(np.argmax(np.where(outcomes >= _COMMON_SHARE * outcomes.max(), mean, -np.inf)))
    rivalry = np.sqrt(np.exp(np.minimum(mean - mean[best], 0.0) / _COMPETES_WITHIN))
    actual = (advantage - advantage[:, [best]]) * rivalry
    known = np.isfinite(actual)
    said = np.where(known, (foreseen - foreseen[:, :, [best]]) * rivalry, 0.0).reshape(len(foreseen), -1)
    gram = said @ said.T
    agreement = said @ np.where(known, actual, 0.0).ravel()
    components = len(foreseen)
    if gram.sum() <= 1e-12:
        return np.full(components, 1.0 / components)
    # The one weight for all components that fits best is what each is drawn to.
    equal = max(float(agreement.sum() / gram.sum()), 0.0)
    prior = _EQUAL_SHARE * float(np.trace(gram)) / components
    return _non_negative(gram + prior * np.eye(components), agreement + prior * equal)


def kept_share(score: Array, mean: Array, advantage: Array) -> float:
    """Return the largest share of the advantages (prompts x models, cross-fitted) whose promise is kept: what choices by it gain over the
    best single model by `mean` is at least what they were to gain.

    Least squares asks how right estimates are on average, a choice only how right the highest of them is, which errs upwards most
    often: among many models of about equal means, less is then believed. `score` is NaN where unknown.
    """
    known = np.isfinite(score)
    best = int(np.argmax(mean))
    rows = np.flatnonzero(known[:, best])
    for share in _SHARES:
        estimate = np.where(known, mean + share * advantage, -np.inf)[rows]
        chosen = estimate.argmax(axis=1)
        promised = estimate[np.arange(len(rows)), chosen] - estimate[:, best]
        kept = score[rows, chosen] - score[rows, best]
        if kept.sum() >= promised.sum():
            return share
    return _SHARES[-1]


def _non_negative(gram: Array, agreement: Array) -> Array:
    """Return the non-negative solution of least squares."""
    from scipy.optimize import nnls

    root = np.linalg.cholesky(gram)
    weights: Array = nnls(root.T, np.linalg.solve(root, agreement))[0]
    return weights

"""What is not known of an estimate: the spread of a ridge regression, which grows with distance from the training side and with few outcomes.

Numpy alone. It must not know how an estimate is made of its parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Doubt:
    """What is not known of an estimate: `precision` (width x width) is the inverse of what the features of the training side cover.

    `noise` (models) is the variance of an outcome, `outcomes` (models) the share of prompts with one, `prompts` how many there are, and
    `penalty` what the prior counts for.
    """

    precision: Floats
    noise: Floats
    outcomes: Floats
    prompts: float
    penalty: float

    def variance(self, features: Floats) -> Array:
        """Return the variance of the general head's estimates for one prompt (models): it grows with distance and with few outcomes."""
        return self.variance_of(features, self.precision @ features)

    def variance_of(self, features: Floats, by_precision: Floats) -> Array:
        """Return the same where the product of `precision` and the features is known already."""
        known = np.maximum(self.outcomes.astype(np.float64), 1e-6)
        covered = max(float(features @ by_precision), 0.0) / known
        most = float(features @ features) / self.penalty
        return self.noise * (np.minimum(covered, most) + 1.0 / (known * self.prompts + 2.0))


def fit_doubt(features: Floats, noise: Array, known: NDArray[np.bool_], penalty: float) -> Doubt:
    """Return the doubt of estimates that were learned from these features (prompts x width) with a ridge `penalty` above 0.

    `noise` (models) is the variance of each model's outcomes around what was foreseen, `known` (prompts x models) where there is one.
    """
    wide = features.astype(np.float64)
    precision = np.linalg.inv(wide.T @ wide + penalty * np.eye(features.shape[1]))
    shares = known.mean(axis=0).astype(np.float32)
    return Doubt(precision.astype(np.float32), noise.astype(np.float32), shares, float(len(features)), penalty)

"""One variant against all others on one pool, paired, with Holm's correction. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from foresail_router.evaluation.benchmark.pool import ScoredPool
from foresail_router.evaluation.benchmark.results import Comparison
from foresail_router.evaluation.metrics.resampling import estimate, holm, two_sided_p

Array = NDArray[np.float64]
HINDSIGHT = "best single (hindsight)"
IN_TRAINING = "best single (training)"


def compare(pool: ScoredPool, qualities: Mapping[str, Array], focus: str) -> tuple[Comparison, ...]:
    """Return the focus against every other variant and both best singles; empty where the focus has no figures.

    `qualities` holds each variant's realised quality per prompt at lambda 0.
    """
    if focus not in qualities:
        return ()
    score = pool.outcomes.score
    others = {HINDSIGHT: score[:, pool.hindsight], IN_TRAINING: pool.of_best(score)}
    others |= {name: quality for name, quality in qualities.items() if name != focus}
    differences = np.stack([100 * (qualities[focus] - quality) for quality in others.values()], axis=1)
    drawn = pool.resamples.means(differences)
    p_values = {name: two_sided_p(drawn[:, number]) for number, name in enumerate(others)}
    corrected = holm(p_values)
    return tuple(
        Comparison(
            focus, name, estimate(differences[:, number].mean(), drawn[:, number]), p_values[name], corrected[name]
        )
        for number, name in enumerate(others)
    )

"""Variants against one another on one pool, paired, with Holm's correction. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    return _compared(pool, {(focus, name): (qualities[focus], quality) for name, quality in others.items()})


def compare_pairs(
    pool: ScoredPool, qualities: Mapping[str, Array], pairs: Sequence[tuple[str, str]]
) -> tuple[Comparison, ...]:
    """Return the first variant of each pair against the second, corrected over these pairs; a pair that lacks figures is left out."""
    return _compared(
        pool,
        {(one, other): (qualities[one], qualities[other]) for one, other in pairs if {one, other} <= qualities.keys()},
    )


def _compared(pool: ScoredPool, pairs: Mapping[tuple[str, str], tuple[Array, Array]]) -> tuple[Comparison, ...]:
    if not pairs:
        return ()
    differences = np.stack([100 * (one - other) for one, other in pairs.values()], axis=1)
    drawn = pool.resamples.means(differences)
    p_values = {names: two_sided_p(drawn[:, number]) for number, names in enumerate(pairs)}
    corrected = holm(p_values)
    return tuple(
        Comparison(*names, estimate(differences[:, number].mean(), drawn[:, number]), p_values[names], corrected[names])
        for number, names in enumerate(pairs)
    )

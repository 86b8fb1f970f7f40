"""A variant's figures on one pool that need costs, on the prompts that have a cost of every model; trade-offs are chosen off-fold.

It must not know how figures are shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from foresail_router.evaluation.benchmark.pool import FoldFacts, Routed, ScoredPool
from foresail_router.evaluation.benchmark.quality import Figures
from foresail_router.evaluation.metrics.frontier import (
    mean_height,
    mixture_at_cost,
    mixture_at_quality,
    non_decreasing_hull,
)
from foresail_router.evaluation.metrics.resampling import Estimate, estimate
from foresail_router.evaluation.metrics.scores import arena_score

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
# Quality and cost of all prompts at a point that the prompts of the mask have chosen, or None to fall back on the best single model.
Pick = Callable[[FoldFacts, Mask], tuple[Array, Array] | None]
Scale = Callable[[Array], Array]
# Quality that may be lost and still count as matched.
TOLERANCE_POINTS = 1.0
# The area under a curve is worked out anew for each resample: this many suffice for its interval.
_AREA_RESAMPLES = 400


@dataclass(frozen=True, slots=True)
class Operated:
    """Quality and cost of each priced prompt at an operating point chosen off-fold; `fell_back` counts folds that found none."""

    quality: Array
    cost: Array
    fell_back: int = 0


def cost_figures(pool: ScoredPool, routed: Routed, *, arena: bool) -> tuple[Figures, Array]:
    """Return the cost figures of a variant, and its resampled cost to match for means over pools. The pool must have costs."""
    if routed.cost is None:
        raise ValueError("the pool has no costs")
    matched = _operate(pool, lambda fold, off: _largest_match(pool, routed, fold, off))
    budget = _operate(pool, lambda fold, off: _at_reference(pool, routed, fold, off))
    best = Operated(pool.of_best(pool.outcomes.score)[pool.priced], pool.of_best(pool.outcomes.cost_usd)[pool.priced])
    free = Operated(routed.quality[0][pool.priced], routed.cost[0][pool.priced])
    thrifty = _operate(pool, lambda fold, off: _best_arena(routed, fold, off))
    points = (best, matched, budget, free, thrifty)
    columns = np.column_stack([part for point in points for part in (point.quality, point.cost)])
    plain, drawn = columns.mean(axis=0), _spread(pool, columns)
    ratio = drawn[:, 3] / drawn[:, 1]
    figures = {
        "cost_ratio": estimate(plain[7] / plain[1], drawn[:, 7] / drawn[:, 1]),
        "match_cost_ratio": estimate(plain[3] / plain[1], ratio),
        "match_gain": estimate(100 * (plain[2] - plain[0]), 100 * (drawn[:, 2] - drawn[:, 0])),
        "match_fell_back": Estimate(float(matched.fell_back)),
        "quality_at_best_cost": estimate(plain[4], drawn[:, 4]),
        "gain_at_best_cost": estimate(100 * (plain[4] - plain[0]), 100 * (drawn[:, 4] - drawn[:, 0])),
        "cost_ratio_at_best_cost": Estimate(plain[5] / plain[1]),
    }
    low = figures["match_gain"].low
    figures["matched"] = Estimate(float(low is not None and low > -TOLERANCE_POINTS))
    if arena:
        figures["arena"] = estimate(
            float(arena_score(plain[8], 1000 * plain[9])), arena_score(drawn[:, 8], 1000 * drawn[:, 9])
        )
        figures["arena_free"] = estimate(
            float(arena_score(plain[6], 1000 * plain[7])), arena_score(drawn[:, 6], 1000 * drawn[:, 7])
        )
    return figures | _areas(pool, routed), ratio


def single_figures(pool: ScoredPool) -> Figures:
    """Return what single models achieve: the cheapest within 1 point of the best, and the hull of all at 1 point below it."""
    score, cost = pool.outcomes.score, pool.outcomes.cost_usd
    best = pool.of_best(cost)[pool.priced]
    result: Figures = {}
    for name, pick in (("cheapest_within_1_point", _cheapest_within), ("hull_of_singles_1_point_below", _hull_point)):
        point = _operate(pool, partial(pick, score, cost))
        columns = np.column_stack([point.quality - pool.of_best(score)[pool.priced], point.cost, best])
        plain, drawn = columns.mean(axis=0), _spread(pool, columns)
        result[f"{name}_cost_ratio"] = estimate(plain[1] / plain[2], drawn[:, 1] / drawn[:, 2])
        result[f"{name}_gain"] = estimate(100 * plain[0], 100 * drawn[:, 0])
    return result


def _operate(pool: ScoredPool, pick: Pick) -> Operated:
    """Apply `pick(fold, off)`, to each fold, where `off` masks the priced prompts of the other folds."""
    quality, cost = pool.of_best(pool.outcomes.score).copy(), pool.of_best(pool.outcomes.cost_usd).copy()
    fell_back = 0
    for fold in pool.folds:
        picked = pick(fold, pool.priced & ~fold.test)
        if picked is None:
            fell_back += 1
            continue
        quality[fold.test], cost[fold.test] = picked[0][fold.test], picked[1][fold.test]
    return Operated(quality[pool.priced], cost[pool.priced], fell_back)


def _largest_match(pool: ScoredPool, routed: Routed, fold: FoldFacts, off: Mask) -> tuple[Array, Array] | None:
    """The largest lambda whose quality off-fold is at least that of the best single model."""
    target = pool.outcomes.score[off, fold.best].mean()
    enough = np.flatnonzero(routed.quality[:, off].mean(axis=1) >= target - 1e-12)
    if not enough.size or routed.cost is None:
        return None
    return routed.quality[enough[-1]], routed.cost[enough[-1]]


def _at_reference(pool: ScoredPool, routed: Routed, fold: FoldFacts, off: Mask) -> tuple[Array, Array]:
    """The point of the off-fold hull that costs c_ref."""
    quality, cost = _with_cheapest(pool, routed, fold)
    point = mixture_at_cost(cost[:, off].mean(axis=1), quality[:, off].mean(axis=1), fold.reference_usd or 0.0)
    return _mix(quality, point.lower, point.upper, point.share), _mix(cost, point.lower, point.upper, point.share)


def _best_arena(routed: Routed, fold: FoldFacts, off: Mask) -> tuple[Array, Array] | None:
    if routed.cost is None:
        return None
    scores = arena_score(routed.quality[:, off].mean(axis=1), 1000 * routed.cost[:, off].mean(axis=1))
    number = int(np.argmax(np.round(scores, 12)))
    return routed.quality[number], routed.cost[number]


def _cheapest_within(score: Array, cost: Array, fold: FoldFacts, off: Mask) -> tuple[Array, Array]:
    means, costs = score[off].mean(axis=0), cost[off].mean(axis=0)
    enough = means >= means[fold.best] - TOLERANCE_POINTS / 100
    number = int(np.where(enough, costs, np.inf).argmin())
    return score[:, number], cost[:, number]


def _hull_point(score: Array, cost: Array, fold: FoldFacts, off: Mask) -> tuple[Array, Array] | None:
    means, costs = score[off].mean(axis=0), cost[off].mean(axis=0)
    point = mixture_at_quality(costs, means, float(means[fold.best]) - TOLERANCE_POINTS / 100)
    if point is None:
        return None
    return _mix(score.T, point.lower, point.upper, point.share), _mix(cost.T, point.lower, point.upper, point.share)


def _areas(pool: ScoredPool, routed: Routed) -> Figures:
    """Return AIQ over cost and over log cost; left out where the best single is the cheapest model, as there is no range."""
    figures: Figures = {}
    for name, scale in (("aiq", _plain), ("aiq_log", _logarithm)):
        total, weights = np.zeros(_AREA_RESAMPLES + 1), 0
        for fold in pool.folds:
            areas = _fold_areas(pool, routed, fold, scale)
            if areas is not None:
                count = int(np.count_nonzero(fold.test & pool.priced))
                total, weights = total + count * areas, weights + count
        if weights:
            figures[name] = estimate(total[0] / weights, total[1:] / weights)
    return figures


def _fold_areas(pool: ScoredPool, routed: Routed, fold: FoldFacts, scale: Scale) -> Array | None:
    quality, cost = _with_cheapest(pool, routed, fold)
    off, on = pool.priced & ~fold.test, pool.priced & fold.test
    if not on.any():
        return None
    off_cost = cost[:, off].mean(axis=1)
    low, high = (float(scale(np.array(value))) for value in (off_cost[-1], fold.reference_usd))
    if not np.isfinite(low) or high <= low:
        return None
    hull = non_decreasing_hull(scale(off_cost), quality[:, off].mean(axis=1))
    table = np.concatenate([cost[hull], quality[hull]]).T
    drawn = pool.resamples.means(table, rows=on)[:_AREA_RESAMPLES]
    rows = np.vstack([table[on].mean(axis=0), drawn])
    costs, qualities = np.split(rows, 2, axis=1)
    return np.array([mean_height(scale(x), y, low, high) for x, y in zip(costs, qualities, strict=True)])


def _with_cheapest(pool: ScoredPool, routed: Routed, fold: FoldFacts) -> tuple[Array, Array]:
    """Return the operating points of a router (points x prompts), the cheapest model alone as the last one, for anyone can ask just that."""
    if routed.cost is None or fold.cheapest is None:
        raise ValueError("the pool has no costs")
    quality = np.vstack([routed.quality, pool.outcomes.score[:, fold.cheapest]])
    return quality, np.vstack([routed.cost, pool.outcomes.cost_usd[:, fold.cheapest]])


def _spread(pool: ScoredPool, columns: Array) -> Array:
    """Return the resampled means of columns that have the priced prompts alone."""
    table = np.zeros((len(pool.priced), columns.shape[1]))
    table[pool.priced] = columns
    return pool.resamples.means(table, rows=pool.priced)


def _mix(values: Array, lower: int, upper: int, share: float) -> Array:
    return np.asarray((1 - share) * values[lower] + share * values[upper], dtype=np.float64)


def _plain(cost: Array) -> Array:
    return cost


def _logarithm(cost: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(cost), dtype=np.float64)

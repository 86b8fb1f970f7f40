"""Curves of quality over cost: the non-decreasing hull, the area under it, and points on it. Pure.

A curve is a set of operating points (cost, quality); between two of them lies what tossing a coin between both gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Mixture:
    """Two operating points, of which `upper` is taken with probability `share`."""

    lower: int
    upper: int
    share: float


def non_decreasing_hull(cost: Array, quality: Array) -> Numbers:
    """Return the points on the upper concave hull up to its highest one, cheapest first; of equal points the first."""
    vertices: list[int] = []
    for point in np.lexsort((-quality, cost)):
        if vertices and quality[point] <= quality[vertices[-1]]:
            continue
        while len(vertices) > 1 and _below(cost, quality, vertices[-2], vertices[-1], int(point)):
            vertices.pop()
        vertices.append(int(point))
    return np.array(vertices, dtype=np.int64)


def mean_height(cost: Array, quality: Array, low: float, high: float) -> float:
    """Return AIQ: the area under the lines between the points, from `low` to `high`, divided by `high - low`.

    The curve is flat before its cheapest and beyond its dearest point; points of the same cost count as their best.
    """
    order = np.lexsort((quality, cost))
    x, y = cost[order], quality[order]
    last = np.append(np.diff(x) > 0, True)
    x, y = x[last], y[last]
    inner = x[(x > low) & (x < high)]
    grid = np.concatenate([[low], inner, [high]])
    return float(np.trapezoid(np.interp(grid, x, y), grid) / (high - low))


def routerbench_aiq(curves: Sequence[tuple[Array, Array]]) -> list[float]:
    """Return AIQ exactly as RouterBench's code computes it (arXiv 2403.12031), for curves (cost, quality) that are compared.

    Each curve's hull is taken on the very points that are measured, is extended at its last quality to the largest cost of all hulls,
    and its area from its own cheapest cost on is divided by that largest cost: what lies below the cheapest cost counts as 0. A hull
    reaches to the dearest of the points that have the curve's best quality, unlike `non_decreasing_hull`, which ends at the cheapest.
    Where points of one curve cost the same, the best of them counts; the published code then takes whichever it meets first.
    """
    hulls = [
        (cost[chosen], quality[chosen]) for cost, quality in curves for chosen in [non_decreasing_hull(cost, quality)]
    ]
    largest = max(float(cost[quality == quality.max()].max()) for cost, quality in curves)
    if largest <= 0:
        return [float(quality[-1]) for _, quality in hulls]
    return [
        float(np.trapezoid(np.append(quality, quality[-1]), np.append(cost, largest)) / largest)
        for cost, quality in hulls
    ]


def mixture_at_cost(cost: Array, quality: Array, budget: float) -> Mixture:
    """Return the point of the hull that costs `budget`: its cheapest point where all cost more, its best where all cost less."""
    hull = non_decreasing_hull(cost, quality)
    return _mixture(hull, cost[hull], budget)


def mixture_at_quality(cost: Array, quality: Array, target: float) -> Mixture | None:
    """Return the cheapest point of the hull whose quality is `target`, or None where none reaches it."""
    hull = non_decreasing_hull(cost, quality)
    return None if quality[hull[-1]] < target else _mixture(hull, quality[hull], target)


def _mixture(hull: Numbers, values: Array, wanted: float) -> Mixture:
    above = int(np.searchsorted(values, wanted))
    if above == 0 or above == len(hull):
        end = int(hull[min(above, len(hull) - 1)])
        return Mixture(end, end, 0.0)
    share = float((wanted - values[above - 1]) / (values[above] - values[above - 1]))
    return Mixture(int(hull[above - 1]), int(hull[above]), share)


def _below(cost: Array, quality: Array, first: int, middle: int, last: int) -> bool:
    """Return whether the middle point lies on or below the line between the others."""
    rise = (quality[middle] - quality[first]) * (cost[last] - cost[first])
    return bool(rise <= (quality[last] - quality[first]) * (cost[middle] - cost[first]))

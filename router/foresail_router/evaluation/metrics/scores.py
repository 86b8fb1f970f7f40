"""Single-number scores that others publish: RouterArena's, and RouteLLM's for two models. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ARENA_BETA = 0.1
ARENA_COSTS = (0.0044, 200.0)


@dataclass(frozen=True, slots=True)
class StrongCalls:
    """RouteLLM's figures for a strong and a weak model.

    `apgr` is the mean of the performance gap recovered over all shares of calls to the strong model; `cpt50` and `cpt80` are the least
    share of such calls that recovers 50 % and 80 % of the gap.
    """

    apgr: float
    cpt50: float
    cpt80: float


def arena_score(quality: float | Array, cost_per_1000_usd: float | Array) -> Array:
    """Return RouterArena's score S = (1 + b) A C / (b A + C), A the quality, C how low the cost is on a log scale, b = 0.1.

    C = (log2 200 - log2 cost) / (log2 200 - log2 0.0044), with the cost per 1,000 queries clipped to [0.0044, 200] US dollars.
    """
    low, high = np.log2(ARENA_COSTS)
    thrift = (high - np.log2(np.clip(cost_per_1000_usd, *ARENA_COSTS))) / (high - low)
    total = ARENA_BETA * np.asarray(quality) + thrift
    return np.where(total > 0, (1 + ARENA_BETA) * quality * thrift / np.maximum(total, 1e-12), 0.0)


def strong_calls(preference: Array, strong: Array, weak: Array) -> StrongCalls | None:
    """Return APGR and CPT when prompts go to the strong model in order of `preference`, highest first; None without a gap.

    All have one entry per prompt. With a share s of calls to the strong model, the gap recovered is
    PGR(s) = (quality(s) - weak) / (strong - weak); APGR is its integral over s from 0 to 1, by trapezoids over every number of calls.
    """
    gap = float(strong.mean() - weak.mean())
    if gap <= 0:
        return None
    order = np.argsort(-preference, kind="stable")
    recovered = np.concatenate([[0.0], np.cumsum((strong - weak)[order])]) / len(order) / gap
    shares = np.arange(len(order) + 1) / len(order)
    least = [float(shares[np.argmax(recovered >= level - 1e-12)]) for level in (0.5, 0.8)]
    return StrongCalls(float(np.trapezoid(recovered, shares)), least[0], least[1])

"""A variant's figures on one pool that need no cost: quality, gain, gap closed, calibration, lengths, uncertainty.

It must not know how figures are shown.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from foresail_router.evaluation.benchmark.pool import Routed, ScoredPool
from foresail_router.evaluation.metrics.calibration import (
    ABSTENTIONS,
    Reliability,
    brier,
    chosen_error,
    regret_when_abstaining,
    reliability,
)
from foresail_router.evaluation.metrics.lengths import covered, pinball
from foresail_router.evaluation.metrics.resampling import Estimate, estimate
from foresail_router.evaluation.metrics.scores import strong_calls
from foresail_router.evaluation.metrics.singles import gap_closed, oracle, uniform_random
from foresail_router.strategies.base import Predictions

Array = NDArray[np.float64]
Figures = dict[str, Estimate]


def quality_figures(pool: ScoredPool, routed: Routed) -> tuple[Figures, Array]:
    """Return quality, gains in points and gap closed at lambda 0, and the resampled gap closed for means over pools."""
    score = pool.outcomes.score
    columns = np.stack(
        [routed.quality[0], pool.of_best(score), score[:, pool.hindsight], uniform_random(score), oracle(score)], axis=1
    )
    drawn = pool.resamples.means(columns)
    plain = columns.mean(axis=0)
    gap = gap_closed(drawn[:, 0], drawn[:, 3], drawn[:, 4])
    figures = {
        "quality": estimate(plain[0], drawn[:, 0]),
        "gain": estimate(100 * (plain[0] - plain[1]), 100 * (drawn[:, 0] - drawn[:, 1])),
        "gain_hindsight": estimate(100 * (plain[0] - plain[2]), 100 * (drawn[:, 0] - drawn[:, 2])),
    }
    if np.isfinite(gap).all():
        figures["gap_closed"] = estimate(float(gap_closed(plain[0], plain[3], plain[4])), gap)
    if len(pool.outcomes.models) == 2:
        figures |= _two_models(pool, routed.predictions)
    return figures, gap


def calibration_figures(pool: ScoredPool, routed: Routed) -> tuple[Figures, Reliability]:
    """Return ECE, Brier score against each model's training mean, and the chosen model's calibration; and the bins of the first seed."""
    score = pool.outcomes.score
    constant = np.empty_like(score)
    for fold in pool.folds:
        constant[fold.test] = fold.mean_score
    bins = [reliability(part.quality, score) for part in routed.predictions]
    models = score.shape[1]
    errors = np.mean([brier(part.quality, score) for part in routed.predictions], axis=0)
    flattery = np.mean(
        [
            chosen_error(part.quality, score, chosen)
            for part, chosen in zip(routed.predictions, routed.chosen, strict=True)
        ],
        axis=0,
    )
    columns = np.column_stack([errors, brier(constant, score), flattery, *(part.excess / models for part in bins)])
    plain, drawn = columns.mean(axis=0), pool.resamples.means(columns)
    width = bins[0].excess.shape[1]
    error = np.abs(drawn[:, 3:]).reshape(len(drawn), len(bins), width).sum(axis=2).mean(axis=1)
    figures = {
        "ece": estimate(float(np.mean([part.error for part in bins])), error),
        "brier": estimate(plain[0], drawn[:, 0]),
        "brier_gain": estimate(plain[1] - plain[0], drawn[:, 1] - drawn[:, 0]),
        "chosen_error": estimate(plain[2], drawn[:, 2]),
    }
    return figures, bins[0]


def length_figures(pool: ScoredPool, routed: Routed) -> tuple[Figures, list[float | None]]:
    """Return coverage of the 90 % quantile and its pinball loss against the marginal quantile; and the coverage of each model."""
    tokens = pool.outcomes.output_tokens
    known = np.isfinite(tokens)
    if not known.any():
        return {}, []
    marginal = np.empty_like(tokens)
    for fold in pool.folds:
        marginal[fold.test] = fold.length_quantile
    inside = np.mean([covered(tokens, part.output_tokens_p90) for part in routed.predictions], axis=0)
    loss = np.mean([pinball(tokens, part.output_tokens_p90) for part in routed.predictions], axis=0)
    usable = known & np.isfinite(marginal)
    sums = [
        np.where(rows, part, 0.0).sum(axis=1)
        for part, rows in ((inside, known), (known, known), (loss, usable), (pinball(tokens, marginal), usable))
    ]
    columns = np.stack(sums, axis=1)
    plain, drawn = columns.mean(axis=0), pool.resamples.means(columns)
    each = [
        float(np.nanmean(inside[:, column])) if known[:, column].any() else None for column in range(tokens.shape[1])
    ]
    some = [value for value in each if value is not None]
    figures = {
        "coverage": estimate(plain[0] / plain[1], drawn[:, 0] / drawn[:, 1]),
        "coverage_least": Estimate(min(some)),
        "coverage_most": Estimate(max(some)),
    }
    if plain[3] > 0:
        figures["pinball_gain"] = estimate(1 - plain[2] / plain[3], 1 - drawn[:, 2] / drawn[:, 3])
    return figures, each


def uncertainty_figures(pool: ScoredPool, routed: Routed) -> Figures:
    """Return regret (oracle minus realised) at lambda 0, and when the most uncertain 10, 20 and 30 % go to the best single or are left out."""
    score = pool.outcomes.score
    rows = np.arange(len(score))
    fallback = oracle(score) - pool.of_best(score)
    results = []
    for part, chosen in zip(routed.predictions, routed.chosen, strict=True):
        regret = oracle(score) - score[rows, chosen]
        results.append(regret_when_abstaining(regret, fallback, part.quality_std[rows, chosen]))
    figures = {"regret": Estimate(float((oracle(score) - routed.quality[0]).mean()))}
    for number, share in enumerate(ABSTENTIONS):
        replaced, kept = np.mean([result[number] for result in results], axis=0)
        figures[f"regret_fallback_{share:.0%}"] = Estimate(float(replaced))
        figures[f"regret_kept_{share:.0%}"] = Estimate(float(kept))
    return figures


def _two_models(pool: ScoredPool, predictions: Sequence[Predictions]) -> Figures:
    """Return APGR and CPT; prompts are ranked within their fold, as predictions of different fits need not be on one scale."""
    score = pool.outcomes.score
    strong = pool.hindsight
    results = []
    for part in predictions:
        difference = part.quality[:, strong] - part.quality[:, 1 - strong]
        rank = np.empty(len(score))
        for fold in pool.folds:
            places = np.argsort(np.argsort(difference[fold.test], kind="stable"), kind="stable")
            rank[fold.test] = (places + 0.5) / len(places)
        results.append(strong_calls(rank, score[:, strong], score[:, 1 - strong]))
    known = [result for result in results if result is not None]
    if not known:
        return {}
    return {
        name: Estimate(float(np.mean([getattr(result, name) for result in known])))
        for name in ("apgr", "cpt50", "cpt80")
    }

"""The benchmark's figures for one fitted router on prompts that it was not fitted on.

It must not know artifacts, nor how figures are shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.data.splits import fold_of
from foresail_router.evaluation.benchmark.money import cost_figures
from foresail_router.evaluation.benchmark.pool import FoldFacts, Routed, ScoredPool, route
from foresail_router.evaluation.benchmark.quality import (
    calibration_figures,
    length_figures,
    quality_figures,
    uncertainty_figures,
)
from foresail_router.evaluation.benchmark.results import PoolResult, Single, VariantResult
from foresail_router.evaluation.benchmark.summary import task_choices
from foresail_router.evaluation.costs import CostFacts, CostModel, cost_facts
from foresail_router.evaluation.metrics.lengths import marginal_quantile
from foresail_router.evaluation.metrics.resampling import Estimate, Resamples
from foresail_router.evaluation.metrics.singles import best_single
from foresail_router.evaluation.metrics.utility import choose, realised
from foresail_router.strategies.base import Predictions

Array = NDArray[np.float64]
ROUTER = "router"
# The figures of the benchmark that need a trade-off to be chosen on other prompts than it is measured on.
CARD_MONEY = ("match_cost_ratio", "match_gain", "matched", "match_fell_back", "aiq", "aiq_log")
_PARTS = 5


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the training side says of each model without regard to the prompt: mean quality, and the 90 % quantile of lengths or NaN.

    `costs` is what asking a model is expected to cost and `mean_cost_usd` the mean over prompts with a cost of every model; without
    them there are no figures of cost to match and AIQ.
    """

    quality: Array
    length_quantile: Array
    costs: tuple[CostFacts, ...] = ()
    mean_cost_usd: Array | None = None


def expectations(training: OutcomeMatrix) -> Expectations:
    """Return what a training side says of each model, from known cells alone."""
    known = np.isfinite(training.score)
    means = np.where(known, training.score, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    priced = np.isfinite(training.cost_usd).all(axis=1)
    costs = training.cost_usd[priced].mean(axis=0) if priced.any() else None
    return Expectations(means, marginal_quantile(training.output_tokens), cost_facts(training), costs)


def held_out_result(
    outcomes: OutcomeMatrix,
    predictions: Predictions,
    costs: CostModel | None,
    reference: int,
    known: Expectations | None,
    resamples: Resamples,
) -> PoolResult:
    """Return the figures on complete prompts; `reference` is the best single model of training.

    Without `known`, estimates are compared with the prompts' own means, which makes the comparison harder.
    """
    known = known or Expectations(outcomes.score.mean(axis=0), np.full(len(outcomes.models), np.nan))
    everything = np.ones(len(outcomes.prompts), dtype=np.bool_)
    priced: NDArray[np.bool_] = np.asarray(np.isfinite(outcomes.cost_usd).all(axis=1))
    fold = FoldFacts(everything, reference, known.quality, known.length_quantile, (), None, None)
    best = np.full(len(outcomes.prompts), reference, dtype=np.int64)
    hindsight = best_single(outcomes.score, outcomes.cost_usd)
    pool = ScoredPool("held out", outcomes, (fold,), resamples, priced, best, hindsight)
    routed = _route(outcomes, predictions, costs, priced)
    figures, _ = quality_figures(pool, routed)
    trust, bins = calibration_figures(pool, routed)
    lengths, coverage = length_figures(pool, routed)
    curve: list[tuple[float, float]] = []
    if routed.cost is not None:
        means = (routed.cost[:, priced].mean(axis=1), routed.quality[:, priced].mean(axis=1))
        curve = [(float(cost), float(quality)) for cost, quality in zip(*means, strict=True)]
    variant = VariantResult(
        ROUTER,
        ROUTER,
        False,
        figures=figures | trust | lengths | uncertainty_figures(pool, routed) | _money(pool, predictions, known),
        curve=tuple(curve),
        bins=tuple(zip(bins.predicted.tolist(), bins.realised.tolist(), bins.rows.tolist(), strict=True)),
        length_coverage=tuple(coverage),
        tasks=task_choices(pool, routed.chosen[0]),
    )
    paid = outcomes.cost_usd[priced].mean(axis=0) if priced.any() else None
    return PoolResult(
        name=pool.name,
        prompts=len(outcomes.prompts),
        priced_prompts=int(priced.sum()),
        groups=int(resamples.groups.max()) + 1,
        singles=tuple(
            Single(
                model,
                float(outcomes.score[:, column].mean()),
                None if paid is None else float(paid[column]),
                int(column == reference),
            )
            for column, model in enumerate(outcomes.models)
        ),
        best_single=outcomes.models[reference],
        hindsight_best=outcomes.models[hindsight],
        references={},
        variants=(variant,),
        comparisons=(),
    )


def _money(pool: ScoredPool, predictions: Predictions, known: Expectations) -> dict[str, Estimate]:
    """Return cost to match and AIQ, as the benchmark defines them: trade-offs are chosen on four fifths of the prompts, by their text.

    Best single, c_ref, the cheapest model and foreseen costs are those of training; empty where training or the prompts lack costs.
    """
    numbers = np.array([fold_of(text, _PARTS) for text in pool.outcomes.texts])
    present = [numbers == part for part in range(_PARTS) if (pool.priced & (numbers == part)).any()]
    reference = int(pool.best[0])
    if known.mean_cost_usd is None or not known.mean_cost_usd[reference] > 0 or len(present) < 2:
        return {}
    # The rest are prompts without costs: they belong to no part that is measured.
    present[0] = present[0] | ~np.any(present, axis=0)
    cheapest, paid = int(known.mean_cost_usd.argmin()), float(known.mean_cost_usd[reference])
    folds = tuple(
        FoldFacts(part, reference, known.quality, known.length_quantile, known.costs, paid, cheapest)
        for part in present
    )
    priced = replace(pool, folds=folds)
    figures, _ = cost_figures(priced, route(priced, (predictions,)), arena=False)
    return {name: figures[name] for name in CARD_MONEY if name in figures}


def _route(
    outcomes: OutcomeMatrix, predictions: Predictions, costs: CostModel | None, priced: NDArray[np.bool_]
) -> Routed:
    if costs is None or not priced.any():
        chosen = choose(predictions.quality, None, 1.0)
        return Routed((predictions,), (chosen[0],), realised(outcomes.score, chosen), None)
    chosen = choose(predictions.quality, costs.predicted_usd, costs.reference_usd)
    cost = realised(outcomes.cost_usd, chosen)
    return Routed((predictions,), (chosen[0],), realised(outcomes.score, chosen), cost)

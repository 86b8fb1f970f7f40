"""A pool as it is scored: its outcomes, and what the training side of each fold says without regard to the prompt.

It must not know strategies' internals or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.evaluation.costs import CostFacts, cost_facts, expected_costs, text_bytes
from foresail_router.evaluation.metrics.lengths import marginal_quantile
from foresail_router.evaluation.metrics.resampling import Resamples
from foresail_router.evaluation.metrics.singles import best_single
from foresail_router.evaluation.metrics.utility import choose, realised
from foresail_router.strategies.base import Predictions

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FoldFacts:
    """What is known before a fold is seen: best single, c_ref, the cheapest model, means, and the lengths' 90 % quantiles (models).

    Costs in US dollars are means over training prompts that have a cost of every model; None where there are none.
    """

    test: Mask
    best: int
    mean_score: Array
    length_quantile: Array
    costs: tuple[CostFacts, ...]
    reference_usd: float | None
    cheapest: int | None


@dataclass(frozen=True, slots=True)
class ScoredPool:
    """A pool's complete outcomes with folds. `priced` marks prompts with a cost of every model; `best` is each prompt's best single."""

    name: str
    outcomes: OutcomeMatrix
    folds: tuple[FoldFacts, ...]
    resamples: Resamples
    priced: Mask
    best: NDArray[np.int64]
    hindsight: int

    @property
    def has_costs(self) -> bool:
        """Whether cost metrics can be worked out."""
        return all(fold.reference_usd for fold in self.folds)

    def of_best(self, values: Array) -> Array:
        """Return the best single's cells of a matrix of prompts x models."""
        return np.asarray(values[np.arange(len(values)), self.best], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Routed:
    """What a variant would have chosen, out of fold: realised quality and cost (lambdas x prompts, means over seeds).

    `predictions` and `chosen` (lambda 0) have one entry per seed. `cost` is None without costs; there is then lambda 0 alone.
    """

    predictions: tuple[Predictions, ...]
    chosen: tuple[NDArray[np.int64], ...]
    quality: Array
    cost: Array | None


def score_pool(name: str, outcomes: OutcomeMatrix, numbers: NDArray[np.int64], folds: int) -> ScoredPool:
    """Return the pool of complete prompts, whose folds are `numbers`, ready to be scored."""
    priced: Mask = np.asarray(np.isfinite(outcomes.cost_usd).all(axis=1))
    facts = tuple(_fold(outcomes, numbers == fold, priced) for fold in range(folds))
    best = np.array([facts[number].best for number in numbers], dtype=np.int64)
    return ScoredPool(
        name,
        outcomes,
        facts,
        Resamples(outcomes.texts),
        priced,
        best,
        best_single(outcomes.score, outcomes.cost_usd),
    )


def route(pool: ScoredPool, predictions: tuple[Predictions, ...]) -> Routed:
    """Return what predictions, one per seed and of all prompts, choose at every lambda."""
    choices = [_choices(pool, part) for part in predictions]
    quality = np.mean([realised(pool.outcomes.score, chosen) for chosen in choices], axis=0)
    cost = np.mean([realised(pool.outcomes.cost_usd, chosen) for chosen in choices], axis=0) if pool.has_costs else None
    return Routed(predictions, tuple(chosen[0] for chosen in choices), quality, cost)


def _choices(pool: ScoredPool, predictions: Predictions) -> NDArray[np.int64]:
    if not pool.has_costs:
        return choose(predictions.quality, None, 1.0)
    costs = np.empty_like(predictions.quality)
    reference = np.empty(len(costs))
    size = text_bytes(pool.outcomes.texts)
    for fold in pool.folds:
        expected = expected_costs(fold.costs, size[fold.test], predictions.output_tokens[fold.test])
        if expected is None or fold.reference_usd is None:
            raise ValueError("a model without costs in a pool with costs")
        costs[fold.test], reference[fold.test] = expected, fold.reference_usd
    return choose(predictions.quality, costs, reference)


def _fold(outcomes: OutcomeMatrix, test: Mask, priced: Mask) -> FoldFacts:
    training = outcomes.rows(~test)
    best = best_single(training.score, training.cost_usd)
    paid = outcomes.cost_usd[~test & priced]
    means = paid.mean(axis=0) if len(paid) else None
    # A pool whose best single model is free has nothing to compare costs with.
    reference = float(means[best]) if means is not None and means[best] > 0 else None
    return FoldFacts(
        test,
        best,
        training.score.mean(axis=0),
        marginal_quantile(training.output_tokens),
        cost_facts(training),
        reference,
        None if means is None else int(means.argmin()),
    )

"""A fitted router on recorded outcomes that it was not fitted on: its table of cost and quality beside simple ways, and its figures.

It must not know how it is printed, nor where estimates come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.evaluation.benchmark.results import PoolResult
from foresail_router.evaluation.costs import CostModel
from foresail_router.evaluation.held_out import Expectations, held_out_result
from foresail_router.evaluation.metrics.resampling import Resamples, mean_estimate
from foresail_router.evaluation.tradeoff import pick
from foresail_router.strategies.base import Predictions

Array = NDArray[np.float64]
COST_WEIGHTS = (0, 10, 20, 30, 40, 50, 60, 70, 80, 100)


@dataclass(frozen=True, slots=True)
class Line:
    """One way to choose models: mean quality, mean cost in US dollars, against the best single model in points with a 95 % interval.

    `gap_closed` is the share of the way from the best single model to the oracle. None where there are no costs, or nothing to compare.
    """

    name: str
    detail: str
    quality: float
    cost_usd: float | None
    cost_ratio: float | None
    points: float | None = None
    points_low: float | None = None
    points_high: float | None = None
    gap_closed: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All lines, baselines first, and how good the estimates are as such.

    `prompts` had an outcome of every model, `priced_prompts` a cost too. `quality_error` and `prior_error` are mean squared errors of
    estimates and of the models' means; `length_coverage` is the share of answers inside the 5 % to 95 % interval. `pool` holds the
    figures of the benchmark that need no folds, with their intervals, for the router as its one variant.
    """

    prompts: int
    priced_prompts: int
    models: int
    lines: tuple[Line, ...]
    quality_error: float
    prior_error: float
    length_coverage: float | None
    pool: PoolResult

    def line(self, name: str) -> Line | None:
        """Return the line of that name, if there is one."""
        return next((line for line in self.lines if line.name == name), None)


class _Table:
    """Scores and costs of complete prompts, and the baselines' choices on them."""

    def __init__(self, outcomes: OutcomeMatrix) -> None:
        self.score = outcomes.score
        self.resamples = Resamples(outcomes.texts)
        priced = np.isfinite(outcomes.cost_usd).all(axis=1)
        self.cost = outcomes.cost_usd
        self.priced = priced
        means = self.score.mean(axis=0)
        self.mean_cost = self.cost[priced].mean(axis=0) if priced.any() else None
        order = self.mean_cost if self.mean_cost is not None else np.zeros(len(means))
        # Among equals the cheaper one, then the first by name.
        self.best = int(np.lexsort((order, -np.round(means, 12)))[0])
        tie = np.where(np.isfinite(self.cost), self.cost, np.inf)
        self.oracle = np.lexsort((tie, -self.score), axis=1)[:, 0] if priced.any() else self.score.argmax(axis=1)

    def line(self, name: str, detail: str, chosen: NDArray[np.int64], *, compare: bool = False) -> Line:
        rows = np.arange(len(self.score))
        return self._line(name, detail, self.score[rows, chosen], self.cost[rows, chosen], compare)

    def random(self) -> Line:
        return self._line("random", "every model equally often", self.score.mean(axis=1), self.cost.mean(axis=1), False)

    def _line(self, name: str, detail: str, quality: Array, cost: Array, compare: bool) -> Line:
        mean_cost = float(cost[self.priced].mean()) if self.priced.any() else None
        best_cost = float(self.mean_cost[self.best]) if self.mean_cost is not None else None
        ratio = mean_cost / best_cost if mean_cost is not None and best_cost else None
        mean = float(quality.mean())
        if not compare:
            return Line(name, detail, mean, mean_cost, ratio)
        difference = quality - self.score[:, self.best]
        found = mean_estimate(100 * difference, self.resamples)
        gap = float(self.score.max(axis=1).mean() - self.score[:, self.best].mean())
        closed = float(difference.mean()) / gap if gap > 0 else None
        return Line(name, detail, mean, mean_cost, ratio, found.value, found.low, found.high, closed)


def evaluate(
    outcomes: OutcomeMatrix,
    predictions: Predictions,
    costs: CostModel | None,
    *,
    reference: str,
    known: Expectations | None = None,
    weights: Sequence[int] = COST_WEIGHTS,
) -> Report:
    """Return the report on complete prompts (every model has a score), in the predictions' rows and columns.

    `reference` is the best single model of the training side, which need not be the best one here; `known` is what else that side says.

    Without `costs`, or without recorded costs, the router appears at cost weight 0 alone. Raises `ValueError` without a prompt.
    """
    if not len(outcomes.prompts):
        raise ValueError("no prompt to evaluate on")
    table = _Table(outcomes)
    models = outcomes.models
    lines = [table.random()]
    if table.mean_cost is not None:
        cheapest = int(table.mean_cost.argmin())
        lines.append(table.line("cheapest", models[cheapest], np.full(len(outcomes.prompts), cheapest), compare=True))
    lines.append(table.line("best single", models[table.best], np.full(len(outcomes.prompts), table.best)))
    if models[table.best] != reference:
        same = np.full(len(outcomes.prompts), models.index(reference))
        lines.append(table.line("best single in training", reference, same, compare=True))
    for percent in weights if costs is not None else (0,):
        predicted, amount = (predictions.quality, 1.0) if costs is None else (costs.predicted_usd, costs.reference_usd)
        chosen = pick(predictions.quality, predicted, percent=percent, reference_usd=amount)
        lines.append(table.line(router_line(percent), _shares(chosen, models), chosen, compare=True))
    lines.append(table.line("oracle", "best answer, then the cheapest", table.oracle, compare=True))
    return Report(
        prompts=len(outcomes.prompts),
        priced_prompts=int(table.priced.sum()),
        models=len(models),
        lines=tuple(lines),
        quality_error=float(np.square(predictions.quality - table.score).mean()),
        prior_error=float(np.square(table.score.mean(axis=0) - table.score).mean()),
        length_coverage=_coverage(outcomes.output_tokens, predictions),
        pool=held_out_result(outcomes, predictions, costs, models.index(reference), known, table.resamples),
    )


def router_line(percent: int) -> str:
    """Return the name of the router's line at a cost weight."""
    return f"router, cost weight {percent}"


def _shares(chosen: NDArray[np.int64], models: Sequence[str]) -> str:
    counts = np.bincount(chosen, minlength=len(models))
    most = int(counts.argmax())
    return f"{np.count_nonzero(counts)} models, {100 * counts[most] / len(chosen):.0f} % {models[most]}"


def _coverage(output_tokens: Array, predictions: Predictions) -> float | None:
    known = np.isfinite(output_tokens)
    if not known.any():
        return None
    # Lengths are whole: an answer of exactly the quantile's whole number lies inside.
    inside = (output_tokens >= np.floor(predictions.output_tokens_p05)) & (
        output_tokens <= np.ceil(predictions.output_tokens_p95)
    )
    return float(inside[known].mean())

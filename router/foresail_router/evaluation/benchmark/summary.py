"""From the cells of a grid to figures: configurations chosen, predictions put together, variants scored and compared.

It must not know files, processes or how results are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from foresail_router.evaluation.benchmark.cells import CellFacts, StoredCell
from foresail_router.evaluation.benchmark.comparing import compare, compare_pairs
from foresail_router.evaluation.benchmark.grid import Cell, Grid, Variant
from foresail_router.evaluation.benchmark.money import cost_figures, single_figures
from foresail_router.evaluation.benchmark.pool import Routed, ScoredPool, route
from foresail_router.evaluation.benchmark.quality import (
    calibration_figures,
    length_figures,
    quality_figures,
    uncertainty_figures,
)
from foresail_router.evaluation.benchmark.results import Figures, PoolResult, Single, TaskChoices, VariantResult
from foresail_router.evaluation.benchmark.selection import choose_configuration, outside_folds
from foresail_router.evaluation.metrics.frontier import routerbench_aiq
from foresail_router.evaluation.metrics.resampling import Estimate, estimate, mean_estimate
from foresail_router.evaluation.metrics.singles import gap_closed, known_label_choice, oracle, uniform_random
from foresail_router.evaluation.metrics.utility import choose
from foresail_router.strategies.base import Predictions

Array = NDArray[np.float64]
Find = Callable[[Cell], StoredCell | None]
# A query of these sources is a whole run of an agent: its cost is not one that the score of the arena is made for.
_NO_ARENA = ("swebench_verified",)
_MOST_TASKS = 100


@dataclass(slots=True)
class Drawn:
    """Resampled figures of variants on pools, for means over pools: by figure, variant and pool."""

    values: dict[tuple[str, str, str], Array] = field(default_factory=dict)


def configuration_gains(
    grid: Grid, variant: Variant, pools: Mapping[str, tuple[Array, NDArray[np.int64]]], find: Find
) -> dict[str, dict[int, Array]]:
    """Return, by pool and configuration that could be fitted, the mean quality outside each fold in points.

    `pools` maps names to scores (prompts x models) and folds.
    """
    gains: dict[str, dict[int, Array]] = {}
    for pool, (score, folds) in pools.items():
        gains[pool] = {}
        cells = grid.cells(pool, variant)
        for number in range(len(variant.configurations)):
            mine = [cell for cell in cells if cell.configuration == number]
            seeds = assemble(mine, folds, find)
            if seeds is None:
                continue
            rows = np.arange(len(score))
            quality = [score[rows, choose(part.quality, None, 1.0)[0]] for part in seeds]
            gains[pool][number] = outside_folds(np.mean(quality, axis=0), score, folds, grid.folds)
    return gains


def chosen_cells(
    grid: Grid, variant: Variant, gains: Mapping[str, Mapping[int, Array]], pool: str
) -> list[Cell] | None:
    """Return the cells of the configuration chosen for each fold, or None when none could be fitted."""
    picked = [choose_configuration(gains, pool, fold) for fold in range(grid.folds)]
    if None in picked:
        return None
    return [cell for cell in grid.cells(pool, variant) if cell.configuration == picked[cell.fold]]


def assemble(cells: Sequence[Cell], folds: NDArray[np.int64], find: Find) -> tuple[Predictions, ...] | None:
    """Return predictions for all prompts, one per seed, from cells that cover every fold once per seed; None when one is missing."""
    parts: dict[int, dict[str, Array]] = {}
    for cell in cells:
        stored = find(cell)
        if stored is None or stored.predictions is None:
            return None
        whole = parts.setdefault(cell.seed, {})
        for part in fields(Predictions):
            values = getattr(stored.predictions, part.name)
            whole.setdefault(part.name, np.empty((len(folds), values.shape[1])))[folds == cell.fold] = values
    return tuple(Predictions(**whole) for _, whole in sorted(parts.items()))


def summarise_pool(
    pool: ScoredPool,
    folds: NDArray[np.int64],
    selected: Sequence[tuple[Variant, list[Cell] | None]],
    find: Find,
    *,
    focus: str,
    reasons: Mapping[str, str],
    drawn: Drawn,
) -> PoolResult:
    """Return everything of one pool. `selected` holds the cells of each variant, `reasons` why a variant has none; `drawn` is added to.

    `selected` holds variants in the order in which they are shown.
    """
    results: list[VariantResult] = []
    qualities: dict[str, Array] = {}
    for variant, cells in selected:
        predictions = None if cells is None else assemble(cells, folds, find)
        if cells is None or predictions is None:
            reason = reasons.get(variant.name, "not all cells are done")
            results.append(VariantResult(variant.name, variant.strategy, variant.baseline, failed=reason))
            continue
        routed = route(pool, predictions)
        qualities[variant.name] = routed.quality[0]
        results.append(_variant(pool, variant, routed, cells, find, drawn))
    outcomes = pool.outcomes
    pairs = [(variant.name, variant.against) for variant, _ in selected if variant.against is not None]
    return PoolResult(
        name=pool.name,
        prompts=len(outcomes.prompts),
        priced_prompts=int(pool.priced.sum()) if pool.has_costs else 0,
        groups=int(pool.resamples.groups.max()) + 1,
        singles=_singles(pool),
        best_single=outcomes.models[int(np.bincount(pool.best).argmax())],
        hindsight_best=outcomes.models[pool.hindsight],
        references=_references(pool),
        variants=_with_routerbench(pool, results),
        comparisons=compare(pool, qualities, focus),
        pairs=compare_pairs(pool, qualities, pairs),
    )


def _variant(
    pool: ScoredPool, variant: Variant, routed: Routed, cells: Sequence[Cell], find: Find, drawn: Drawn
) -> VariantResult:
    figures, gap = quality_figures(pool, routed)
    drawn.values["gap_closed", variant.name, pool.name] = gap
    drawn.values["quality", variant.name, pool.name] = pool.resamples.means(routed.quality[0])
    more, bins = calibration_figures(pool, routed)
    lengths, coverage = length_figures(pool, routed)
    figures |= more | lengths | uncertainty_figures(pool, routed) | _fit_figures(variant, cells, find)
    curve: list[tuple[float, float]] = []
    if pool.has_costs and routed.cost is not None:
        arena = not pool.name.startswith(_NO_ARENA)
        money, ratio = cost_figures(pool, routed, arena=arena)
        figures |= money
        drawn.values["match_cost_ratio", variant.name, pool.name] = ratio
        means = (routed.cost[:, pool.priced].mean(axis=1), routed.quality[:, pool.priced].mean(axis=1))
        curve = [(float(cost), float(quality)) for cost, quality in zip(*means, strict=True)]
    picked = {cell.fold: cell.configuration for cell in cells}
    return VariantResult(
        variant.name,
        variant.strategy,
        variant.baseline,
        figures=figures,
        configurations=tuple(picked[fold] for fold in sorted(picked)),
        curve=tuple(curve),
        bins=tuple(zip(bins.predicted.tolist(), bins.realised.tolist(), bins.rows.tolist(), strict=True)),
        length_coverage=tuple(coverage),
        tasks=task_choices(pool, routed.chosen[0]),
    )


def _fit_figures(variant: Variant, cells: Sequence[Cell], find: Find) -> dict[str, Estimate]:
    facts = [stored.facts for cell in cells if (stored := find(cell)) is not None]
    # A configuration may find what one before it has fitted: what a fold takes is told by the slowest of them.
    slowest = [max(_of_all_configurations(variant, cell, find), key=lambda fact: fact.fit_seconds) for cell in cells]
    figures = {
        "fit_seconds": Estimate(float(np.mean([fact.fit_seconds for fact in slowest]))),
        "fit_cpu_seconds_most": Estimate(max(fact.fit_cpu_seconds for fact in slowest)),
        "fit_seconds_most": Estimate(max(fact.fit_seconds for fact in slowest)),
        "state_mib": Estimate(max(fact.state_bytes for fact in facts) / 2**20),
        "peak_memory_mib": Estimate(max(fact.peak_memory_mib for fact in facts)),
    }
    for name in ("latency_p50_ms", "latency_p99_ms"):
        timed = [getattr(fact, name) for fact in facts if getattr(fact, name) is not None]
        if timed:
            figures[name] = Estimate(float(np.median(timed)))
    return figures


def _of_all_configurations(variant: Variant, cell: Cell, find: Find) -> list[CellFacts]:
    """Return the facts of a cell and of those that differ from it in the configuration alone."""
    others = [
        replace(cell, configuration=number, settings=settings) for number, settings in enumerate(variant.configurations)
    ]
    return [stored.facts for other in others if (stored := find(other)) is not None]


def task_choices(pool: ScoredPool, chosen: NDArray[np.int64]) -> TaskChoices | None:
    """Return how often each model is chosen for each task, the largest tasks first; None where there are not two tasks."""
    names = np.array([prompt.task or "" for prompt in pool.outcomes.prompts])
    tasks, counts = np.unique(names, return_counts=True)
    if len(tasks) < 2:
        return None
    order = np.argsort(-counts, kind="stable")[:_MOST_TASKS]
    models = len(pool.outcomes.models)
    shares = [np.bincount(chosen[names == tasks[number]], minlength=models) / counts[number] for number in order]
    return TaskChoices(
        tuple(str(tasks[number]) for number in order),
        tuple(int(counts[number]) for number in order),
        tuple(tuple(row.tolist()) for row in shares),
    )


def _singles(pool: ScoredPool) -> tuple[Single, ...]:
    outcomes = pool.outcomes
    costs = outcomes.cost_usd[pool.priced].mean(axis=0) if pool.has_costs else None
    best = [fold.best for fold in pool.folds]
    return tuple(
        Single(
            model,
            float(outcomes.score[:, column].mean()),
            None if costs is None else float(costs[column]),
            best.count(column),
        )
        for column, model in enumerate(outcomes.models)
    )


def _references(pool: ScoredPool) -> Mapping[str, Figures]:
    """Return quality, gain and gap closed of ways to choose that learn nothing of a prompt, and of those that know too much."""
    score = pool.outcomes.score
    labels = [prompt.task for prompt in pool.outcomes.prompts]
    rows = np.arange(len(score))
    known = np.empty(len(score))
    for fold in pool.folds:
        choice = known_label_choice(score, labels, ~fold.test)
        known[fold.test] = score[rows, choice][fold.test]
    ways = {
        "random": uniform_random(score),
        "best single (training)": pool.of_best(score),
        "best single (hindsight)": score[:, pool.hindsight],
        "known label (reference)": known,
        "oracle (reference)": oracle(score),
    }
    if pool.has_costs:
        cheapest = np.empty(len(score))
        for fold in pool.folds:
            cheapest[fold.test] = score[fold.test, fold.cheapest]
        ways["cheapest"] = cheapest
    references: dict[str, dict[str, Estimate]] = {}
    low, high = uniform_random(score).mean(), oracle(score).mean()
    for name, quality in ways.items():
        difference = mean_estimate(100 * (quality - score[:, pool.hindsight]), pool.resamples)
        references[name] = {
            "quality": Estimate(float(quality.mean())),
            "gain_hindsight": difference,
        }
        if high > low:
            references[name]["gap_closed"] = Estimate(float(gap_closed(float(quality.mean()), low, high)))
    if pool.has_costs:
        references["single models"] = dict(single_figures(pool))
    return references


def _with_routerbench(pool: ScoredPool, results: Sequence[VariantResult]) -> tuple[VariantResult, ...]:
    """Add AIQ as RouterBench computes it, which depends on all curves that are compared; the hull of single models is one of them."""
    curves = {result.name: np.array(result.curve) for result in results if result.curve}
    if not curves:
        return tuple(results)
    singles = np.array([(single.cost_usd, single.quality) for single in _singles(pool)], dtype=np.float64)
    values = routerbench_aiq([(curve[:, 0], curve[:, 1]) for curve in [singles, *curves.values()]])
    by_name = dict(zip(curves, values[1:], strict=True))
    return tuple(
        replace(result, figures={**result.figures, "aiq_routerbench": Estimate(by_name[result.name])})
        if result.name in by_name
        else result
        for result in results
    )


def mean_over_pools(
    drawn: Drawn,
    plain: Mapping[tuple[str, str, str], float],
    figure: str,
    variant: str,
    pools: Sequence[str],
    *,
    geometric: bool = False,
) -> tuple[Estimate, Array] | None:
    """Return the plain (or geometric) mean of a figure over pools with its interval and resampled values; None where a pool lacks it."""
    keys = [(figure, variant, pool) for pool in pools]
    if not keys or not all(key in drawn.values and key in plain for key in keys):
        return None
    values, samples = np.array([plain[key] for key in keys]), np.stack([drawn.values[key] for key in keys])
    if geometric:
        resampled = np.exp(np.log(np.maximum(samples, 1e-12)).mean(axis=0))
        return estimate(float(np.exp(np.log(np.maximum(values, 1e-12)).mean())), resampled), resampled
    return estimate(float(values.mean()), samples.mean(axis=0)), samples.mean(axis=0)

"""What the fused strategy is to reach on public data, and whether a benchmark shows it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foresail_router.evaluation.benchmark.comparing import HINDSIGHT
from foresail_router.evaluation.benchmark.results import PoolResult, RunFacts, Target, VariantResult
from foresail_router.evaluation.benchmark.summary import Drawn, mean_over_pools
from foresail_router.evaluation.metrics.resampling import estimate, holm

Array = NDArray[np.float64]
Plain = Mapping[tuple[str, str, str], float]

GAINS = {"mmlu_pro:default": 2.1, "reasoning_gym:default": 2.7, "lookahead:default": 2.2, "routerdc7:default": 3.8}
MATCHES = {"mmlu_pro:default": 0.13, "zeroeval:priced": 0.68, "bfcl:api_priced": 0.40, "routerbench:default": 0.88}
GAP_POINTS = 0.7
MEAN_MATCH = 0.45
_NOT_TARGETED = ("swebench_verified",)
_SIGNIFICANT = 0.05
_FEWEST_FOR_ECE = 1000


@dataclass(frozen=True, slots=True)
class Evidence:
    """What targets are judged by: the focus' results by pool, resampled and plain figures, the baselines, and the run."""

    focus: str
    pools: Sequence[PoolResult]
    drawn: Drawn
    plain: Plain
    baselines: Sequence[str]
    run: RunFacts

    def results(self) -> list[tuple[PoolResult, VariantResult]]:
        """Return the targeted pools on which the focus has figures."""
        targeted = [pool for pool in self.pools if not pool.name.startswith(_NOT_TARGETED)]
        found = [(pool, pool.variant(self.focus)) for pool in targeted]
        return [(pool, variant) for pool, variant in found if variant is not None]


def judge(evidence: Evidence) -> tuple[Target, ...]:
    """Return every target that the grid says something about."""
    targets = [*_gains(evidence), *_nowhere_worse(evidence), *_gap(evidence), *_matches(evidence)]
    return (*targets, *_estimates(evidence), *_effort(evidence))


def best_baseline(evidence: Evidence, figure: str, pools: Sequence[str], *, lowest: bool = False) -> str | None:
    """Return the best tuned baseline: the highest (or lowest geometric) mean of a figure over the pools of a target."""
    means = {}
    for name in evidence.baselines:
        found = mean_over_pools(evidence.drawn, evidence.plain, figure, name, pools, geometric=lowest)
        if found is not None:
            means[name] = found[0].value
    if not means:
        return None
    return min(means, key=lambda name: means[name]) if lowest else max(means, key=lambda name: means[name])


def _gains(evidence: Evidence) -> list[Target]:
    targets = []
    for pool, variant in evidence.results():
        if pool.name in GAINS:
            gain = variant.figures["gain_hindsight"]
            low = gain.low if gain.low is not None else float("nan")
            asked = f">= {GAINS[pool.name]:g} points, interval above 0"
            measured = f"{gain.value:+.2f} [{low:+.2f}, {gain.high:+.2f}]"
            targets.append(
                Target(
                    f"above the hindsight best single, {pool.name}",
                    asked,
                    measured,
                    gain.value >= GAINS[pool.name] and low > 0,
                )
            )
    return targets


def _nowhere_worse(evidence: Evidence) -> list[Target]:
    """Judge the pools without a gain of their own: one claim about all of them, so Holm's correction is over these pools."""
    found = {
        pool.name: line
        for pool in evidence.pools
        if pool.name not in GAINS and not pool.name.startswith(_NOT_TARGETED)
        for line in pool.comparisons
        if line.other == HINDSIGHT
    }
    corrected = holm({name: line.p for name, line in found.items()})
    targets = []
    for name, line in found.items():
        points, p = line.points, corrected[name]
        measured = f"{points.value:+.2f} [{points.low:+.2f}, {points.high:+.2f}], p {p:.3f} over {len(found)} pools"
        worse = points.value < 0 and p < _SIGNIFICANT
        targets.append(
            Target(f"not worse than the hindsight best single, {name}", "not worse (Holm)", measured, not worse)
        )
    return targets


def _gap(evidence: Evidence) -> list[Target]:
    pools = list(GAINS)
    mine = mean_over_pools(evidence.drawn, evidence.plain, "gap_closed", evidence.focus, pools)
    name = best_baseline(evidence, "gap_closed", pools)
    if mine is None or name is None:
        return []
    other = mean_over_pools(evidence.drawn, evidence.plain, "gap_closed", name, pools)
    if other is None:
        return []
    difference = estimate(100 * (mine[0].value - other[0].value), 100 * (mine[1] - other[1]))
    measured = (
        f"{100 * mine[0].value:.2f} against {100 * other[0].value:.2f} of {name}: "
        f"{difference.value:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]"
    )
    met = difference.value >= GAP_POINTS and (difference.low or 0.0) > 0
    return [
        Target(
            "mean gap closed over four pools", f">= {GAP_POINTS} points above the best tuned baseline", measured, met
        )
    ]


def _matches(evidence: Evidence) -> list[Target]:
    targets = []
    for pool, variant in evidence.results():
        if pool.name not in MATCHES or "match_cost_ratio" not in variant.figures:
            continue
        ratio, matched = variant.figures["match_cost_ratio"], bool(variant.figures["matched"].value)
        lost = variant.figures["match_gain"]
        measured = f"{ratio.value:.3f}x [{ratio.low:.3f}, {ratio.high:.3f}], {lost.value:+.2f} [{lost.low:+.2f}, {lost.high:+.2f}] points"
        met = matched and ratio.value <= MATCHES[pool.name]
        targets.append(Target(f"cost to match, {pool.name}", f"<= {MATCHES[pool.name]:g}x, matched", measured, met))
    pools = list(MATCHES)
    mine = mean_over_pools(evidence.drawn, evidence.plain, "match_cost_ratio", evidence.focus, pools, geometric=True)
    if mine is None:
        return targets
    name = best_baseline(evidence, "match_cost_ratio", pools, lowest=True)
    other = (
        None
        if name is None
        else mean_over_pools(evidence.drawn, evidence.plain, "match_cost_ratio", name, pools, geometric=True)
    )
    measured = f"{mine[0].value:.3f}x [{mine[0].low:.3f}, {mine[0].high:.3f}]"
    if other is not None:
        measured += f"; best baseline {name} {other[0].value:.3f}x"
    met = mine[0].value <= MEAN_MATCH and (other is None or mine[0].value < other[0].value)
    return [
        *targets,
        Target("cost to match, geometric mean of four pools", f"<= {MEAN_MATCH}x, below every baseline", measured, met),
    ]


def _estimates(evidence: Evidence) -> list[Target]:
    checks: list[tuple[str, str, Callable[[PoolResult, VariantResult], tuple[str, bool] | None]]] = [
        ("ECE, pools of >= 1,000 prompts", "<= 0.04", _ece),
        ("Brier better than each model's constant", "interval above 0", _brier),
        ("chosen model's calibration", "within 0.02", _chosen),
        ("length coverage, pooled", "88-92 %", _coverage),
        ("length coverage, every model", "85-95 %", _each_coverage),
        ("pinball below the marginal quantile", ">= 15 %", _pinball),
        ("regret falls when abstaining on 10-30 %", "lower on the rest", _abstaining),
    ]
    targets = []
    for name, asked, check in checks:
        found = [
            (pool.name, result) for pool, variant in evidence.results() if (result := check(pool, variant)) is not None
        ]
        if found:
            measured = "; ".join(f"{pool} {shown}{'' if met else ' (missed)'}" for pool, (shown, met) in found)
            targets.append(Target(name, asked, measured, all(met for _, (_, met) in found)))
    return targets


def _ece(pool: PoolResult, variant: VariantResult) -> tuple[str, bool] | None:
    value = variant.figures["ece"].value
    return (f"{value:.3f}", value <= 0.04) if pool.prompts >= _FEWEST_FOR_ECE else None


def _brier(pool: PoolResult, variant: VariantResult) -> tuple[str, bool]:
    gain = variant.figures["brier_gain"]
    return f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]", (gain.low or 0.0) > 0


def _chosen(pool: PoolResult, variant: VariantResult) -> tuple[str, bool]:
    value = variant.figures["chosen_error"].value
    return f"{value:+.3f}", abs(value) <= 0.02


def _coverage(pool: PoolResult, variant: VariantResult) -> tuple[str, bool] | None:
    found = variant.figures.get("coverage")
    return None if found is None else (f"{100 * found.value:.1f} %", 0.88 <= found.value <= 0.92)


def _each_coverage(pool: PoolResult, variant: VariantResult) -> tuple[str, bool] | None:
    low, high = variant.figures.get("coverage_least"), variant.figures.get("coverage_most")
    if low is None or high is None:
        return None
    return f"{100 * low.value:.1f}-{100 * high.value:.1f} %", low.value >= 0.85 and high.value <= 0.95


def _pinball(pool: PoolResult, variant: VariantResult) -> tuple[str, bool] | None:
    found = variant.figures.get("pinball_gain")
    return None if found is None else (f"{100 * found.value:.1f} %", found.value >= 0.15)


def _abstaining(pool: PoolResult, variant: VariantResult) -> tuple[str, bool]:
    regret = variant.figures["regret"].value
    kept = [variant.figures[f"regret_kept_{share}"].value for share in ("10%", "20%", "30%")]
    return f"{regret:.3f} to {', '.join(f'{value:.3f}' for value in kept)}", all(value < regret for value in kept)


def _effort(evidence: Evidence) -> list[Target]:
    targets = []
    for pool, variant in evidence.results():
        if pool.name != "mmlu_pro:default":
            continue
        seconds, latency = variant.figures["fit_seconds_most"].value, variant.figures.get("latency_p50_ms")
        targets.append(
            Target(
                "fit of a fold of mmlu_pro",
                "<= 90 s",
                f"{seconds:.1f} s, {variant.figures['fit_cpu_seconds_most'].value:.1f} s of CPU",
                seconds <= 90,
            )
        )
        if latency is not None:
            targets.append(
                Target("scoring 17 models for one prompt", "<= 0.5 ms", f"{latency.value:.2f} ms", latency.value <= 0.5)
            )
    sizes = [(pool.name, variant.figures["state_mib"].value * 2**20 / 1e6) for pool, variant in evidence.results()]
    if sizes:
        name, size = max(sizes, key=lambda item: item[1])
        targets.append(Target("artifact without its encoder", "<= 20 MB", f"{size:.1f} MB ({name})", size <= 20))
    run = evidence.run
    memory = run.peak_total_mib / 1024
    shown = f"{'' if run.memory_watched else 'at most '}{memory:.2f} GiB in all processes"
    targets.append(Target("peak memory", "<= 4 GiB", shown, memory <= 4))
    if {*GAINS, *MATCHES} <= {pool.name for pool in evidence.pools} and evidence.baselines:
        whole = run.cells_found == 0 and run.processes <= 2
        targets.append(
            Target(
                "whole run on 2 cores",
                "<= 60 min",
                f"{run.seconds / 60:.1f} min",
                run.seconds <= 3600 if whole else None,
            )
        )
    return targets

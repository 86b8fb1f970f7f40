"""What figures are called, which columns tables have, and how a number is written. It must not know files or markup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from foresail_router.evaluation.benchmark.results import PoolResult, Summary
from foresail_router.evaluation.metrics.resampling import Estimate
from foresail_router.strategies.titles import strategy_title


@dataclass(frozen=True, slots=True)
class Column:
    """A figure's name, its heading, how it is written, and by what it is multiplied first."""

    figure: str
    heading: str
    form: str = ".3f"
    scale: float = 1.0
    unit: str = ""
    interval: bool = True

    def text(self, figures: Mapping[str, Estimate]) -> str:
        """Return the figure with its interval, or nothing where there is none."""
        found = figures.get(self.figure)
        if found is None:
            return ""
        shown = f"{self.scale * found.value:{self.form}}{self.unit}"
        if found.low is None or found.high is None or not self.interval:
            return shown
        return f"{shown} [{self.scale * found.low:{self.form}}, {self.scale * found.high:{self.form}}]"


QUALITY = (
    Column("quality", "quality", ".4f", interval=False),
    Column("gain_hindsight", "points above hindsight best", "+.2f"),
    Column("gain", "above training best", "+.2f"),
    Column("gap_closed", "gap closed %", ".1f", 100),
)
COST = (
    Column("match_cost_ratio", "cost to match, x best", ".3f"),
    Column("match_gain", "points there", "+.2f"),
    Column("quality_at_best_cost", "quality at its cost", ".4f"),
    Column("aiq", "AIQ", ".4f"),
    Column("aiq_log", "AIQ, log cost", ".4f"),
    Column("aiq_routerbench", "AIQ as RouterBench", ".4f"),
    Column("arena", "RouterArena", ".4f"),
)
TRUST = (
    Column("ece", "ECE", ".3f"),
    Column("brier", "Brier", ".4f", interval=False),
    Column("brier_gain", "better than constant", "+.4f"),
    Column("chosen_error", "chosen: predicted - realised", "+.3f"),
    Column("regret", "regret", ".4f"),
    Column("regret_kept_10%", "without the 10 % most uncertain", ".4f"),
    Column("regret_kept_20%", "20 %", ".4f"),
    Column("regret_kept_30%", "30 %", ".4f"),
    Column("regret_fallback_20%", "20 % to the best single", ".4f"),
)
LENGTH = (
    Column("coverage", "coverage of p90 %", ".1f", 100),
    Column("coverage_least", "least of a model", ".1f", 100),
    Column("coverage_most", "most", ".1f", 100),
    Column("pinball_gain", "pinball below marginal %", ".1f", 100),
)
STRONG = (
    Column("apgr", "APGR", ".3f"),
    Column("cpt50", "CPT(50 %)", ".3f"),
    Column("cpt80", "CPT(80 %)", ".3f"),
)
EFFORT = (
    Column("fit_seconds", "fit, s per fold", ".1f"),
    Column("fit_seconds_most", "longest", ".1f"),
    Column("fit_cpu_seconds_most", "longest, CPU s", ".1f"),
    Column("latency_p50_ms", "one prompt, ms p50", ".3f"),
    Column("latency_p99_ms", "p99", ".3f"),
    Column("state_mib", "size, MiB", ".1f"),
    Column("peak_memory_mib", "process peak, MiB", ".0f"),
)
TABLES = (
    ("Quality, cost left aside", QUALITY),
    ("Quality for money", COST),
    ("Can its estimates be trusted", TRUST),
    ("Answers' lengths", LENGTH),
    ("Strong and weak model", STRONG),
    ("Effort", EFFORT),
)


def method_titles(summary: Summary) -> list[tuple[str, str]]:
    """Return each variant's name with what its strategy is, so that none is taken for the paper's own system."""
    strategies = {variant.name: variant.strategy for pool in summary.pools for variant in pool.variants}
    return [(name, strategy_title(strategy)) for name, strategy in strategies.items()]


def answered(pool: PoolResult) -> str:
    """Return what follows the other facts of a pool: how much of it has answers, where strategies learn from answers."""
    if pool.answered_outcomes is None or pool.answered_models is None:
        return ""
    return f"; answers recorded of {pool.answered_models:.0%} of the models, for {pool.answered_outcomes:.0%} of the outcomes"


def present(columns: tuple[Column, ...], rows: list[Mapping[str, Estimate]]) -> tuple[Column, ...]:
    """Return the columns of which at least one row has the figure."""
    return tuple(column for column in columns if any(column.figure in row for row in rows))

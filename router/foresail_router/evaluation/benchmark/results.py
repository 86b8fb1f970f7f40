"""What a benchmark found, as plain data that JSON can hold. It must not know how it came about or how it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from foresail_router.evaluation.metrics.resampling import Estimate

Figures = Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class TaskChoices:
    """How often each model (column) is chosen at lambda 0 for each task (row), as shares of the task's prompts."""

    tasks: tuple[str, ...]
    prompts: tuple[int, ...]
    shares: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class VariantResult:
    """One variant on one pool; `failed` says why there are no figures. `configurations` holds the chosen one of each fold.

    `curve` holds mean cost in US dollars and mean quality at each lambda, `bins` predicted and realised quality and rows of each bin.
    """

    name: str
    strategy: str
    baseline: bool
    failed: str | None = None
    figures: Figures = field(default_factory=dict)
    configurations: tuple[int, ...] = ()
    curve: tuple[tuple[float, float], ...] = ()
    bins: tuple[tuple[float, float, int], ...] = ()
    length_coverage: tuple[float | None, ...] = ()
    tasks: TaskChoices | None = None


@dataclass(frozen=True, slots=True)
class Single:
    """A single model: mean quality, mean cost in US dollars where all costs are known, and folds in which it is the best in training."""

    name: str
    quality: float
    cost_usd: float | None
    best_in_folds: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A difference in points of quality at lambda 0, focus minus other, with its p value.

    `p_holm` is corrected over the comparisons that stand together: of the focus with all others on the pool, or of the pool's pairs.
    """

    focus: str
    other: str
    points: Estimate
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class PoolResult:
    """Everything of one pool. `references` are random, oracle and so on: figures by name; `pairs` those that variants ask for.

    `answered_outcomes` and `answered_models` are the shares of outcomes with a recorded answer, and of models with any; None where no
    strategy of the run learns from answers.
    """

    name: str
    prompts: int
    priced_prompts: int
    groups: int
    singles: tuple[Single, ...]
    best_single: str
    hindsight_best: str
    references: Mapping[str, Figures]
    variants: tuple[VariantResult, ...]
    comparisons: tuple[Comparison, ...]
    pairs: tuple[Comparison, ...] = ()
    answered_outcomes: float | None = None
    answered_models: float | None = None

    def variant(self, name: str) -> VariantResult | None:
        """Return the variant of that name unless it failed or is not there."""
        return next((variant for variant in self.variants if variant.name == name and variant.failed is None), None)


@dataclass(frozen=True, slots=True)
class Target:
    """One target: what is asked, what was measured, and whether it is met; None where the grid does not hold what it is about."""

    name: str
    asked: str
    measured: str
    met: bool | None


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the run took: wall, fitting and CPU seconds, the peak memory of the largest process and of all together in MiB, and cells.

    Of all together: sampled with shared pages counted once where `memory_watched`; otherwise at most so much, as cells were found done
    (`fitting_seconds` counts these too, `cpu_seconds` does not) or the system does not tell.
    """

    seconds: float
    fitting_seconds: float
    cpu_seconds: float
    peak_process_mib: float
    peak_total_mib: float
    memory_watched: bool
    cells: int
    cells_found: int
    processes: int
    seeds: int
    folds: int
    folds_by: str
    broken: tuple[tuple[str, str], ...] = ()

    @property
    def memory(self) -> str:
        """The peak memory in words."""
        total = f"{'' if self.memory_watched else 'at most '}{self.peak_total_mib:.0f} MiB"
        return f"peak memory {self.peak_process_mib:.0f} MiB in one process, {total} in all"


@dataclass(frozen=True, slots=True)
class Summary:
    """The whole result. `means` holds, by name, figures over several pools of each variant; `focus` is the variant that is shown closest."""

    focus: str
    pools: tuple[PoolResult, ...]
    means: Mapping[str, Mapping[str, Estimate]]
    targets: tuple[Target, ...]
    run: RunFacts

    def pool(self, name: str) -> PoolResult | None:
        """Return the pool of that name, if it was run."""
        return next((pool for pool in self.pools if pool.name == name), None)

    def data(self) -> dict[str, Any]:
        """Return everything as plain data: every field by its name."""
        return asdict(self)

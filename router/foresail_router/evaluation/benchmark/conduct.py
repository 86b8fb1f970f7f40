"""The course of a benchmark: pools prepared, missing cells worked out, everything summed up. It must not know how results are shown."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from foresail_api.errors import UserError
from foresail_router.evaluation.benchmark.cells import CellFacts, StoredCell, cell_path, read_cell
from foresail_router.evaluation.benchmark.grid import Cell, Grid, Variant
from foresail_router.evaluation.benchmark.memory import (
    MemoryWatch,
    cpu_seconds,
    give_back_memory,
    peak_mib,
    resident_mib,
)
from foresail_router.evaluation.benchmark.pool import score_pool
from foresail_router.evaluation.benchmark.prepared import read_outcomes, read_scores
from foresail_router.evaluation.benchmark.preparing import Load, PoolFile, prepare_pools
from foresail_router.evaluation.benchmark.results import PoolResult, RunFacts, Summary
from foresail_router.evaluation.benchmark.runner import Run, run_cells
from foresail_router.evaluation.benchmark.summary import (
    Drawn,
    chosen_cells,
    configuration_gains,
    mean_over_pools,
    summarise_pool,
)
from foresail_router.evaluation.benchmark.targets import GAINS, MATCHES, Evidence, judge
from foresail_router.evaluation.benchmark.worker import Job
from foresail_router.evaluation.metrics.resampling import Estimate
from foresail_router.strategies.base import find_strategy, uses_answers

_PREPARED = ".pools-"


@dataclass(frozen=True, slots=True)
class Course:
    """How to run: where cells are kept, in how many processes, how folds were made, and who is told of what."""

    directory: Path
    processes: int
    folds_by: str
    focus: str
    say: Callable[[str], object]
    tick: Callable[[Job, CellFacts], object]


@dataclass(frozen=True, slots=True)
class _Spent:
    """What the run took so far: its start (monotonic seconds), CPU seconds before it, and the memory of this process while cells ran."""

    started: float
    cpu_before: float
    watch: MemoryWatch
    resting_mib: float


def conduct(grid: Grid, load: Load, course: Course) -> Summary:
    """Run a grid and return what it found; raises `UserError` when the directory cannot be used or a pool cannot be loaded.

    `load` is called in another process, so it must be one that can be pickled.
    """
    started, cpu_before = time.monotonic(), cpu_seconds()
    try:
        course.directory.mkdir(parents=True, exist_ok=True)
        for left in course.directory.glob(f"{_PREPARED}*"):
            shutil.rmtree(left, ignore_errors=True)
        prepared = Path(tempfile.mkdtemp(prefix=_PREPARED, dir=course.directory))
    except OSError as error:
        raise UserError(f"{course.directory}: cannot be written: {error.strerror}; name another with -o") from None
    try:
        with MemoryWatch() as watch:
            wanted = frozenset(wants_answers(variant) for variant in grid.variants)
            files = prepare_pools(grid.pools, load, prepared, with_answers=wanted, say=course.say)
            jobs = [job for name, file in files.items() for job in _jobs(grid, name, file, course.directory)]
            resting = resident_mib()
            ran = run_cells(jobs, processes=course.processes, done=course.tick)
            course.say("summing up")
            pools, drawn = _sum_up(grid, files, jobs, ran, course)
        run = _run_facts(grid, ran, jobs, course, _Spent(started, cpu_before, watch, resting))
    finally:
        shutil.rmtree(prepared, ignore_errors=True)
    return _with_means(grid, pools, drawn, run, course.focus)


def _jobs(grid: Grid, pool: str, file: PoolFile, directory: Path) -> list[Job]:
    jobs = [
        Job(
            cell,
            file.path,
            cell_path(directory, cell, cell.key(file.fingerprints[wants_answers(variant)])),
            wants_answers(variant),
            timed=cell.fold == 0 and cell.seed == 0,
        )
        for variant in grid.variants
        for cell in grid.cells(pool, variant)
    ]
    # Those that need answers come last, so that a process loads a pool at most twice; cells of one fold and strategy come together.
    places = {variant.name: number for number, variant in enumerate(grid.variants)}
    return sorted(jobs, key=lambda job: (job.with_answers, job.cell.fold, places[job.cell.variant]))


def wants_answers(variant: Variant) -> bool:
    """Return whether a variant learns from answers in any of its configurations."""
    strategy = find_strategy(variant.strategy)
    return any(uses_answers(strategy, settings) for settings in variant.configurations)


def _sum_up(
    grid: Grid, files: Mapping[str, PoolFile], jobs: list[Job], ran: Run, course: Course
) -> tuple[list[PoolResult], Drawn]:
    paths = {_identity(job.cell): job.target for job in jobs}

    def find(cell: Cell) -> StoredCell | None:
        return read_cell(paths[_identity(cell)])

    tables = {name: read_scores(file.path) for name, file in files.items()}
    gains = {variant.name: configuration_gains(grid, variant, tables, find) for variant in grid.variants}
    del tables
    drawn = Drawn()
    pools = []
    for name, file in files.items():
        course.say(f"scoring {name}")
        selected = [(variant, chosen_cells(grid, variant, gains[variant.name], name)) for variant in grid.variants]
        reasons = {
            variant.name: _reason(grid, name, variant, find, ran) for variant, cells in selected if cells is None
        }
        outcomes, folds = read_outcomes(file.path)
        scored = score_pool(name, outcomes, folds, grid.folds)
        result = summarise_pool(scored, folds, selected, find, focus=course.focus, reasons=reasons, drawn=drawn)
        pools.append(replace(result, answered_outcomes=file.answered_outcomes, answered_models=file.answered_models))
        # One pool at a time: the largest sets the peak, not their sum.
        del outcomes, folds, scored
        give_back_memory()
    return pools, drawn


def _with_means(grid: Grid, pools: list[PoolResult], drawn: Drawn, run: RunFacts, focus: str) -> Summary:
    plain = {
        (figure, variant.name, pool.name): variant.figures[figure].value
        for pool in pools
        for variant in pool.variants
        for figure in ("gap_closed", "match_cost_ratio")
        if figure in variant.figures
    }
    names = [pool.name for pool in pools]
    wanted = {
        "mean gap closed, all pools": ("gap_closed", names, False),
        "mean gap closed, targeted pools": ("gap_closed", list(GAINS), False),
        "cost to match, geometric mean of targeted pools": ("match_cost_ratio", list(MATCHES), True),
    }
    means: dict[str, dict[str, Estimate]] = {}
    for title, (figure, over, geometric) in wanted.items():
        found = {
            variant.name: mean_over_pools(drawn, plain, figure, variant.name, over, geometric=geometric)
            for variant in grid.variants
        }
        means[title] = {name: result[0] for name, result in found.items() if result is not None}
    baselines = [variant.name for variant in grid.variants if variant.baseline and variant.name != focus]
    # Targets are about prompts of known tasks.
    targets = judge(Evidence(focus, pools, drawn, plain, baselines, run)) if run.folds_by == "text" else ()
    return Summary(focus, tuple(pools), {title: found for title, found in means.items() if found}, targets, run)


def _reason(grid: Grid, pool: str, variant: Variant, find: Callable[[Cell], StoredCell | None], ran: Run) -> str:
    broken = dict(ran.broken)
    for cell in grid.cells(pool, variant):
        stored = find(cell)
        if stored is None:
            return broken.get(cell.label, "not all cells are done")
        if stored.facts.error is not None:
            return stored.facts.error
    return "not all cells are done"


def _run_facts(grid: Grid, ran: Run, jobs: list[Job], course: Course, spent: _Spent) -> RunFacts:
    stored = [cell for job in jobs if (cell := read_cell(job.target)) is not None]
    worker = max((cell.facts.peak_memory_mib for cell in stored), default=0.0)
    mine, sampled = peak_mib(), spent.watch.peak_mib
    # Cells that were found done were not watched: then as in the worst case, in which all processes are at their peak at once.
    watched = sampled is not None and ran.found == 0
    bound = max(mine, spent.resting_mib + course.processes * worker)
    return RunFacts(
        seconds=time.monotonic() - spent.started,
        fitting_seconds=sum(cell.facts.fit_seconds for cell in stored),
        cpu_seconds=cpu_seconds() - spent.cpu_before,
        peak_process_mib=max(worker, mine),
        peak_total_mib=sampled if sampled is not None and watched else max(bound, sampled or 0.0),
        memory_watched=watched,
        cells=len(jobs),
        cells_found=ran.found,
        processes=course.processes,
        seeds=grid.seeds,
        folds=grid.folds,
        folds_by=course.folds_by,
        broken=ran.broken,
    )


def _identity(cell: Cell) -> tuple[str, str, int, int, int]:
    return cell.pool, cell.variant, cell.configuration, cell.seed, cell.fold

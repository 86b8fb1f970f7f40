"""The course of a benchmark: pools prepared, missing cells worked out, everything summed up. It must not know how results are shown."""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foresail_api.errors import UserError
from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.evaluation.benchmark.cells import CellFacts, StoredCell, cell_path, read_cell
from foresail_router.evaluation.benchmark.grid import Cell, Grid, Variant
from foresail_router.evaluation.benchmark.pool import score_pool
from foresail_router.evaluation.benchmark.prepared import PreparedPool, write_pool
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
class _Known:
    """What is kept of a pool while cells run."""

    outcomes: OutcomeMatrix
    folds: NDArray[np.int64]
    keys: dict[bool, str]


def conduct(grid: Grid, load: Callable[[str], PreparedPool], course: Course) -> Summary:
    """Run a grid and return what it found; raises `UserError` when the directory cannot be used or a pool cannot be loaded."""
    started = time.monotonic()
    try:
        course.directory.mkdir(parents=True, exist_ok=True)
        for left in course.directory.glob(f"{_PREPARED}*"):
            shutil.rmtree(left, ignore_errors=True)
        prepared = Path(tempfile.mkdtemp(prefix=_PREPARED, dir=course.directory))
    except OSError as error:
        raise UserError(f"{course.directory}: cannot be written: {error.strerror}; name another with -o") from None
    try:
        known: dict[str, _Known] = {}
        jobs: list[Job] = []
        for number, name in enumerate(grid.pools):
            course.say(f"preparing {name}")
            path = prepared / f"{number}.safetensors"
            known[name] = _prepare(load(name), path, grid)
            jobs += _jobs(grid, name, path, known[name], course.directory)
        # Encoders and their caches: the processes that fit need that memory.
        del load
        prepared_mib, resting_mib = _peak_mib(), _resident_mib()
        ran = run_cells(jobs, processes=course.processes, done=course.tick)
    finally:
        shutil.rmtree(prepared, ignore_errors=True)
    course.say("summing up")
    return _sum_up(grid, known, jobs, ran, course, started, (prepared_mib, resting_mib))


def _prepare(pool: PreparedPool, path: Path, grid: Grid) -> _Known:
    write_pool(path, pool)
    wanted = {wants_answers(variant) for variant in grid.variants}
    keys = {with_answers: pool.fingerprint(with_answers=with_answers) for with_answers in wanted}
    return _Known(pool.outcomes, pool.folds, keys)


def _jobs(grid: Grid, pool: str, path: Path, known: _Known, directory: Path) -> list[Job]:
    jobs = [
        Job(
            cell,
            path,
            cell_path(directory, cell, cell.key(known.keys[wants_answers(variant)])),
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
    grid: Grid,
    known: dict[str, _Known],
    jobs: list[Job],
    ran: Run,
    course: Course,
    started: float,
    memory: tuple[float, float],
) -> Summary:
    paths = {_identity(job.cell): job.target for job in jobs}

    def find(cell: Cell) -> StoredCell | None:
        return read_cell(paths[_identity(cell)])

    tables = {name: (pool.outcomes.score, pool.folds) for name, pool in known.items()}
    gains = {variant.name: configuration_gains(grid, variant, tables, find) for variant in grid.variants}
    drawn = Drawn()
    pools = []
    for name, pool in known.items():
        course.say(f"scoring {name}")
        selected = [(variant, chosen_cells(grid, variant, gains[variant.name], name)) for variant in grid.variants]
        reasons = {
            variant.name: _reason(grid, name, variant, find, ran) for variant, cells in selected if cells is None
        }
        scored = score_pool(name, pool.outcomes, pool.folds, grid.folds)
        pools.append(
            summarise_pool(scored, pool.folds, selected, find, focus=course.focus, reasons=reasons, drawn=drawn)
        )
    run = _run_facts(grid, ran, jobs, course, started, memory)
    return _with_means(grid, pools, drawn, run, course.focus)


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


def _run_facts(
    grid: Grid, ran: Run, jobs: list[Job], course: Course, started: float, memory: tuple[float, float]
) -> RunFacts:
    stored = [cell for job in jobs if (cell := read_cell(job.target)) is not None]
    worker = max((cell.facts.peak_memory_mib for cell in stored), default=0.0)
    prepared_mib, resting_mib = memory
    mine = _peak_mib()
    return RunFacts(
        seconds=time.monotonic() - started,
        fitting_seconds=sum(cell.facts.fit_seconds for cell in stored),
        peak_process_mib=max(worker, mine),
        # While pools are prepared and summed up this process is alone; while cells run it rests beside the others.
        peak_total_mib=max(mine, prepared_mib, resting_mib + course.processes * worker),
        cells=len(jobs),
        cells_found=ran.found,
        processes=course.processes,
        seeds=grid.seeds,
        folds=grid.folds,
        folds_by=course.folds_by,
        broken=ran.broken,
    )


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _resident_mib() -> float:
    """Return what this process holds now, or its peak where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return _peak_mib()
    return pages * resource.getpagesize() / 2**20


def _identity(cell: Cell) -> tuple[str, str, int, int, int]:
    return cell.pool, cell.variant, cell.configuration, cell.seed, cell.fold

"""Runs the cells of a grid that are not done yet, in a few processes of one thread each. It must not know what a cell's figures mean."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass

from foresail_api.errors import UserError
from foresail_router.evaluation.benchmark.cells import CellFacts, read_cell
from foresail_router.evaluation.benchmark.worker import Job, run_jobs, start_worker

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_WAITING_PER_PROCESS = 2


@dataclass(frozen=True, slots=True)
class Run:
    """What running took: cells worked out now and found done, wall seconds, and cells that broke, with why."""

    worked: int
    found: int
    seconds: float
    broken: tuple[tuple[str, str], ...]


def run_cells(jobs: Sequence[Job], *, processes: int, done: Callable[[Job, CellFacts], object]) -> Run:
    """Work out what is missing, in the order given; `done` is told of each cell.

    A cell that breaks (a defect of a strategy) is not kept, so the next run tries it again; the others go on. Raises `UserError` when a
    process dies.
    """
    started = time.monotonic()
    missing = [job for job in jobs if read_cell(job.target) is None]
    limits = {name: os.environ.get(name) for name in _THREADS}
    # Libraries read these when they are imported, so they must hold before a process starts.
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        broken = _run(missing, processes, done) if missing else []
    finally:
        for name, value in limits.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    return Run(len(missing) - len(broken), len(jobs) - len(missing), time.monotonic() - started, tuple(broken))


def _run(jobs: Sequence[Job], processes: int, done: Callable[[Job, CellFacts], object]) -> list[tuple[str, str]]:
    context = multiprocessing.get_context("spawn")
    broken: list[tuple[str, str]] = []
    with ProcessPoolExecutor(processes, mp_context=context, initializer=start_worker) as executor:
        waiting: dict[Future[tuple[CellFacts, ...]], tuple[Job, ...]] = {}
        groups = [tuple(group) for _, group in itertools.groupby(jobs, key=_sharing)]
        try:
            for number, group in enumerate(groups):
                waiting[executor.submit(run_jobs, group)] = group
                if len(waiting) >= processes * _WAITING_PER_PROCESS or number == len(groups) - 1:
                    _collect(waiting, done, broken, every=number == len(groups) - 1)
        except BrokenExecutor:
            raise UserError(
                "a process of the benchmark was ended from outside, for its memory perhaps; use fewer --processes"
            ) from None
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    return broken


def _collect(
    waiting: dict[Future[tuple[CellFacts, ...]], tuple[Job, ...]],
    done: Callable[[Job, CellFacts], object],
    broken: list[tuple[str, str]],
    *,
    every: bool,
) -> None:
    while waiting:
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            for job, facts in zip(waiting.pop(future), future.result(), strict=True):
                if facts.defect:
                    broken.append((job.cell.label, facts.error or ""))
                done(job, facts)
        if not every:
            return


def _sharing(job: Job) -> tuple[str, int, str, bool]:
    """Return what cells have in common that one process works out together."""
    return job.cell.pool, job.cell.fold, job.cell.variant, job.with_answers

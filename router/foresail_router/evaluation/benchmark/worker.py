"""One process of a benchmark: fits a cell, predicts the fold that was left out, measures what that took, and writes the cell.

It must not know the grid or what the figures will be.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from foresail_router.evaluation.benchmark.cells import CellFacts, write_cell
from foresail_router.evaluation.benchmark.grid import Cell
from foresail_router.evaluation.benchmark.memory import give_back_memory, peak_mib
from foresail_router.evaluation.benchmark.prepared import PreparedPool, read_answers, read_pool
from foresail_router.strategies.base import Features, Predictions, Strategy, TrainingSet, find_strategy

_TIMED_PROMPTS = 200
_WARM_PROMPTS = 5


@dataclass(frozen=True, slots=True)
class Job:
    """A cell, the file of its pool, and where the cell goes."""

    cell: Cell
    pool: Path
    target: Path
    with_answers: bool
    timed: bool


@dataclass(slots=True)
class _Loaded:
    path: Path
    with_answers: bool
    pool: PreparedPool
    features: Features
    fold: int | None = None
    side: TrainingSet | None = None
    held_out: Features | None = None

    def of_fold(self, fold: int) -> tuple[TrainingSet, Features]:
        """Return the training side and the features of a fold, the same objects as long as the fold does not change.

        What strategies derive of features lasts as long as these, so cells of one fold share that work. Answers are read for the
        training side alone.
        """
        if self.side is None or self.held_out is None or self.fold != fold:
            self.side = self.held_out = None
            give_back_memory()
            test = self.pool.folds == fold
            side = self.pool.training_set(self.features, with_answers=False).rows(~test)
            answers = read_answers(self.path, np.flatnonzero(~test)) if self.with_answers else None
            self.side, self.held_out, self.fold = replace(side, answers=answers), self.features.rows(test), fold
        return self.side, self.held_out


# What this process has read last: jobs come pool by pool, and fold by fold.
_loaded: _Loaded | None = None


def start_worker() -> None:
    """Prepare a worker process: it ends when its parent does, however that ended."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def run_jobs(jobs: tuple[Job, ...]) -> tuple[CellFacts, ...]:
    """Work out some cells of one pool, fold and strategy, in this process, so that they share what the strategy keeps of a fold."""
    done = tuple(run_job(job) for job in jobs)
    give_back_memory()
    return done


def run_job(job: Job) -> CellFacts:
    """Work out a cell and write it; a strategy that cannot learn from the pool leaves its reason in the cell.

    A defect of the strategy is returned and not written.
    """
    loaded = _load(job)
    strategy = find_strategy(job.cell.strategy)
    side, held_out = loaded.of_fold(job.cell.fold)
    predictions = None
    started, used = time.perf_counter(), time.process_time()
    try:
        fitted = strategy.fit(side, seed=job.cell.seed, progress=_silent, settings=job.cell.settings)
        fit_seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - used
        started = time.perf_counter()
        predictions = _checked(fitted.predict(held_out))
        facts = CellFacts(fit_seconds, cpu_seconds, time.perf_counter() - started, state_bytes=_size(fitted))
        if job.timed:
            facts = _with_latency(facts, fitted, held_out)
    except ValueError as error:
        facts, predictions = CellFacts(error=str(error) or type(error).__name__), None
    except Exception as error:
        # Not kept: once the defect is mended, the next run works the cell out. Its message could quote a prompt.
        return CellFacts(error=f"{type(error).__name__} at {_place(error)}", defect=True)
    facts = replace(facts, peak_memory_mib=peak_mib())
    write_cell(job.target, facts, predictions)
    return facts


def _load(job: Job) -> _Loaded:
    global _loaded
    if _loaded is None or _loaded.path != job.pool:
        _loaded = None
        give_back_memory()
        pool = read_pool(job.pool, job.cell.pool, with_answers=False)
        features = pool.features()
        # Counted here once, not in every fold's part of the features.
        features.lexical  # noqa: B018
        _loaded = _Loaded(job.pool, job.with_answers, pool, features)
    elif job.with_answers and not _loaded.with_answers:
        _loaded.with_answers, _loaded.side = True, None
    return _loaded


def _checked(predictions: Predictions) -> Predictions:
    for name in ("quality", "quality_std", "output_tokens", "output_tokens_p90"):
        if not np.isfinite(getattr(predictions, name)).all():
            raise ValueError(f"its {name} is not finite")
    return predictions


def _with_latency(facts: CellFacts, strategy: Strategy, features: Features) -> CellFacts:
    times = []
    for number in range(min(_TIMED_PROMPTS, len(features.texts))):
        alone = Features([features.texts[number]], features.embeddings[number : number + 1])
        started = time.perf_counter()
        strategy.predict(alone)
        times.append(time.perf_counter() - started)
    p50, p99 = np.quantile(times[_WARM_PROMPTS:] or times, [0.5, 0.99]) * 1000
    return replace(facts, latency_p50_ms=float(p50), latency_p99_ms=float(p99))


def _size(strategy: Strategy) -> int:
    return sum(array.nbytes for array in strategy.state().arrays.values())


def _place(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _silent(_: str) -> None:
    return None


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

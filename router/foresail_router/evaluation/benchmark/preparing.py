"""Prepares the pools of a benchmark in a process of its own, so that what that needs (encoders, answers) is gone when cells are run.

It must not know strategies, cells or how a pool is loaded.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from foresail_api.errors import UserError
from foresail_router.evaluation.benchmark.memory import give_back_memory
from foresail_router.evaluation.benchmark.prepared import PreparedPool, write_pool
from foresail_router.evaluation.benchmark.worker import start_worker

Load = Callable[[str], PreparedPool]


@dataclass(frozen=True, slots=True)
class PoolFile:
    """Where a pool lies, its fingerprints without and with answers, and the shares of its outcomes and models that have answers.

    The shares are None where answers were not asked for.
    """

    path: Path
    fingerprints: dict[bool, str]
    answered_outcomes: float | None = None
    answered_models: float | None = None


# What the process that prepares loads pools with: it keeps its encoders from one pool to the next.
_load: Load | None = None


def prepare_pools(
    names: Sequence[str], load: Load, directory: Path, *, with_answers: frozenset[bool], say: Callable[[str], object]
) -> dict[str, PoolFile]:
    """Load pools and write each to a file of `directory`; `load` goes to another process, so it must be one that can be pickled.

    `with_answers` says which fingerprints are wanted. Raises the `UserError` of `load`, also when that process dies.
    """
    context = multiprocessing.get_context("spawn")
    found = {}
    with ProcessPoolExecutor(1, mp_context=context, initializer=_start, initargs=(load,)) as executor:
        try:
            for number, name in enumerate(names):
                say(f"preparing {name}")
                path = directory / f"{number}.safetensors"
                found[name] = executor.submit(_prepare, name, path, with_answers).result()
        except BrokenExecutor:
            raise UserError(
                f"{name}: the process that prepares it was ended from outside, for its memory perhaps; free some, or choose other --pools"
            ) from None
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def _start(load: Load) -> None:
    global _load
    start_worker()
    _load = load


def _prepare(name: str, path: Path, with_answers: frozenset[bool]) -> PoolFile:
    if _load is None:
        raise RuntimeError("the process was not started to prepare pools")
    pool = _load(name)
    write_pool(path, pool)
    fingerprints = {wanted: pool.fingerprint(with_answers=wanted) for wanted in sorted(with_answers)}
    shares = _answered(pool) if True in with_answers else (None, None)
    del pool
    give_back_memory()
    return PoolFile(path, fingerprints, *shares)


def _answered(pool: PreparedPool) -> tuple[float, float]:
    if pool.answers is None:
        return 0.0, 0.0
    return float(pool.answers.known.mean()), float(pool.answers.known.any(axis=0).mean())

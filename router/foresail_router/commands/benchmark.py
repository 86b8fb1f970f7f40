"""`foresail benchmark`: strategies cross-fitted on pools of recorded outcomes, with intervals, comparisons and a report.

It must not know how figures are worked out.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import foresail_router.commands.shared as shared
from foresail_api.console import Command
from foresail_api.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from foresail_router.data.descriptions import Description
    from foresail_router.data.matrix import OutcomeMatrix
    from foresail_router.evaluation.benchmark.cells import CellFacts
    from foresail_router.evaluation.benchmark.grid import Grid, Variant
    from foresail_router.evaluation.benchmark.prepared import PreparedPool
    from foresail_router.evaluation.benchmark.results import Summary
    from foresail_router.evaluation.benchmark.worker import Job
    from foresail_router.features.cache import CachedEncoder
    from foresail_router.strategies.base import AnswerEmbeddings, DescriptionEmbeddings

DEFAULT_POOLS = (
    "mmlu_pro:default",
    "zeroeval:priced",
    "reasoning_gym:default",
    "bfcl:api_priced",
    "routerbench:default",
    "lookahead:default",
    "routerdc7:default",
    "routellm:default",
    "swebench_verified:default",
)
_DEFAULT_FOCUS = "fused"


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", metavar="DATA", type=Path, help="directory of long-form sources, or with prompts and outcomes"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        type=Path,
        required=True,
        help="where cells and reports go; a run that was ended goes on there",
    )
    parser.add_argument(
        "--pools",
        metavar="SOURCE:POOL",
        nargs="+",
        help="what to run on (default: those of the documentation that DATA holds, or else all sources)",
    )
    parser.add_argument("--strategies", metavar="NAME", nargs="+", help="what to run (default: all, if no --variants)")
    parser.add_argument(
        "--variants",
        metavar="FILE",
        type=Path,
        help='JSON of changed strategies, for ablations: {"<name>": {"strategy": "<name>", "settings": {...}, "against": "<name>"}}; '
        "with 'against' also compared with that other one",
    )
    parser.add_argument(
        "--descriptions",
        metavar="FILE",
        type=Path,
        help="descriptions of the prompts' tasks, as `foresail describe` writes them, for strategies that learn from them",
    )
    parser.add_argument(
        "--seeds",
        metavar="N",
        type=shared.whole_number(1, 64),
        default=1,
        help="seeds 0 to N - 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--folds", metavar="K", type=shared.whole_number(2, 20), default=5, help="folds (default: %(default)s)"
    )
    parser.add_argument(
        "--folds-by",
        choices=["text", "task"],
        default="text",
        help="'task' leaves whole tasks out (default: %(default)s)",
    )
    parser.add_argument(
        "--focus",
        metavar="NAME",
        help="what is compared with all others and shown closest (default: fused, or the first)",
    )
    parser.add_argument(
        "--processes",
        metavar="N",
        type=shared.whole_number(1, 64),
        default=2,
        help="processes of one thread each (default: %(default)s)",
    )
    parser.add_argument(
        "--answer-tokens",
        metavar="M",
        type=shared.whole_number(1, 254),
        default=64,
        help="how much of recorded answers is read by strategies that learn from them (default: %(default)s, as `train` does)",
    )
    shared.add_encoder_arguments(parser)


def _run(arguments: argparse.Namespace) -> int:
    from foresail_router.evaluation.benchmark.conduct import Course, conduct
    from foresail_router.evaluation.benchmark.grid import Grid
    from foresail_router.evaluation.presentation.files import write_reports
    from foresail_router.evaluation.presentation.text import summary_text

    variants = _variants(arguments)
    names = [variant.name for variant in variants]
    focus = arguments.focus or (_DEFAULT_FOCUS if _DEFAULT_FOCUS in names else names[0])
    if focus not in names:
        raise UserError(f"--focus {focus}: is not run; choose one of: {', '.join(names)}")
    grid = Grid(tuple(_pools(arguments)), variants, arguments.seeds, arguments.folds)
    total = sum(len(grid.cells(pool, variant)) for pool in grid.pools for variant in variants)
    shared.say(
        f"{total} cells: {len(grid.pools)} pools, {len(variants)} variants, {grid.seeds} seeds, {grid.folds} folds"
    )
    course = Course(
        directory=arguments.output,
        processes=arguments.processes,
        folds_by=arguments.folds_by,
        focus=focus,
        say=shared.say,
        tick=_teller(total),
    )
    summary = conduct(grid, _loader(arguments, grid), course)
    write_reports(arguments.output, summary)
    print(summary_text(summary))
    return _finish(arguments.output, summary)


def _teller(total: int) -> Callable[[Job, CellFacts], object]:
    done = 0

    def tell(job: Job, facts: CellFacts) -> None:
        nonlocal done
        done += 1
        took = f"{facts.fit_seconds:.1f} s" if facts.error is None else f"not fitted: {facts.error}"
        shared.say(f"[{done} of at most {total}] {job.cell.label}: {took}")

    return tell


def _finish(directory: Path, summary: Summary) -> int:
    run = summary.run
    shared.say(
        f"{run.cells} cells ({run.cells_found} found done) in {run.seconds:.0f} s, {run.cpu_seconds:.0f} s of CPU; "
        f"{run.memory}; {directory / 'report.html'}"
    )
    for label, error in run.broken:
        shared.say(f"a defect: {label}: {error}")
    return 1 if run.broken else 0


def _variants(arguments: argparse.Namespace) -> tuple[Variant, ...]:
    from foresail_router.evaluation.benchmark.grid import parse_variants, registered_variants
    from foresail_router.strategies.base import strategy_names

    try:
        chosen = arguments.strategies or (() if arguments.variants else strategy_names())
        variants = registered_variants(list(dict.fromkeys(chosen)))
    except ValueError as error:
        raise UserError(f"--strategies: {error}") from None
    if arguments.variants:
        try:
            variants += parse_variants(json.loads(arguments.variants.read_bytes()))
        except OSError as error:
            raise UserError(f"{arguments.variants}: cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise UserError(f"{arguments.variants}: {error}; mend the file") from None
    names = [variant.name for variant in variants]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(
            f"--variants: {twice!r} is the name of a strategy that is run too; give the variant another name"
        )
    if unknown := next((variant for variant in variants if variant.against not in (None, *names)), None):
        raise UserError(
            f"{arguments.variants}: variant {unknown.name!r} is to be compared with {unknown.against!r}, which is not run; "
            f"name one of: {', '.join(names)}"
        )
    return variants


def _pools(arguments: argparse.Namespace) -> list[str]:
    from foresail_router.data.sources import sources

    if not arguments.data.is_dir():
        raise UserError(f"{arguments.data}: no such directory")
    found = sources(arguments.data)
    plain = any((arguments.data / f"prompts.{suffix}").exists() for suffix in ("jsonl", "parquet")) or not found
    if arguments.pools:
        if not plain and (unnamed := next((pool for pool in arguments.pools if ":" not in pool), None)):
            raise UserError(f"--pools {unnamed}: name a source and its pool, as in {found[0]}:default")
        return list(dict.fromkeys(arguments.pools))
    if plain:
        return ["default"]
    known = [pool for pool in DEFAULT_POOLS if pool.partition(":")[0] in found]
    return known or [f"{source}:default" for source in found]


@dataclass(frozen=True, slots=True)
class _Loader:
    """Loads pools, in whatever process it is called first; encoders start when they are needed, and are kept."""

    data: Path
    cache: Path
    described: Mapping[str, Description] | None
    threads: int | None
    answer_tokens: int | None
    folds: int
    folds_by: str
    _kept: dict[str, CachedEncoder] = field(default_factory=dict)

    def __call__(self, name: str) -> PreparedPool:
        """Return the pool of that name, as `--pools` has it; raises `UserError`."""
        from foresail_router.data.sources import load_data
        from foresail_router.evaluation.benchmark.prepared import prepare

        source, _, pool = name.rpartition(":")
        data = load_data(self.data, source or None, pool)
        try:
            return prepare(
                name,
                data,
                self._prompts().encode,
                lambda outcomes: self._answers(source or None, outcomes),
                folds=self.folds,
                folds_by=self.folds_by,
                descriptions=self._descriptions,
            )
        except ValueError as error:
            raise UserError(f"--pools {name}: {error}") from None

    def _answers(self, source: str | None, outcomes: OutcomeMatrix) -> AnswerEmbeddings | None:
        if self.answer_tokens is None:
            return None
        from foresail_router.data.answers import load_answers
        from foresail_router.features.cache import CachedEncoder
        from foresail_router.features.encoder import answer_encoder
        from foresail_router.strategies.lookahead.answers import embed_answers

        if "answers" not in self._kept:
            encoder = answer_encoder(opening_tokens=self.answer_tokens, threads=self.threads)
            self._kept["answers"] = CachedEncoder(encoder, self.cache)
        return embed_answers(load_answers(self.data, source, outcomes), self._kept["answers"])

    def _descriptions(self, outcomes: OutcomeMatrix) -> DescriptionEmbeddings | None:
        if self.described is None:
            return None
        from foresail_router.data.descriptions import descriptions_of
        from foresail_router.strategies.task_aware.descriptions import embed_descriptions

        return embed_descriptions(descriptions_of(outcomes.texts, self.described), self._prompts())

    def _prompts(self) -> CachedEncoder:
        from foresail_router.features.cache import CachedEncoder
        from foresail_router.features.encoder import packaged_encoder

        if "prompts" not in self._kept:
            self._kept["prompts"] = CachedEncoder(packaged_encoder("int8", threads=self.threads), self.cache)
        return self._kept["prompts"]


def _loader(arguments: argparse.Namespace, grid: Grid) -> _Loader:
    from foresail_router.data.descriptions import read_descriptions
    from foresail_router.evaluation.benchmark.conduct import wants_answers
    from foresail_router.features.cache import default_cache_directory

    answers = any(wants_answers(variant) for variant in grid.variants)
    return _Loader(
        arguments.data,
        arguments.cache_dir or default_cache_directory(),
        None if arguments.descriptions is None else read_descriptions(arguments.descriptions),
        arguments.threads,
        arguments.answer_tokens if answers else None,
        arguments.folds,
        arguments.folds_by,
    )


command = Command(
    help="cross-fit strategies on recorded outcomes, compare them and write a report", configure=_configure, run=_run
)

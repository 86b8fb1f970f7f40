"""`foresail benchmark`: strategies cross-fitted on pools of recorded outcomes, with intervals, comparisons and a report.

It must not know how figures are worked out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import foresail_router.commands.shared as shared
from foresail_api.console import Command
from foresail_api.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from foresail_router.evaluation.benchmark.cells import CellFacts
    from foresail_router.evaluation.benchmark.grid import Grid, Variant
    from foresail_router.evaluation.benchmark.prepared import PreparedPool
    from foresail_router.evaluation.benchmark.results import Summary
    from foresail_router.evaluation.benchmark.worker import Job

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
        help='JSON of changed strategies, for ablations: {"<name>": {"strategy": "<name>", "settings": {...}}}',
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
        f"{run.cells} cells ({run.cells_found} found done) in {run.seconds:.0f} s; peak memory {run.peak_process_mib:.0f} MiB in one "
        f"process, at most {run.peak_total_mib:.0f} MiB in all; {directory / 'report.html'}"
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


def _loader(arguments: argparse.Namespace, grid: Grid) -> Callable[[str], PreparedPool]:
    from foresail_router.data.answers import load_answers
    from foresail_router.data.descriptions import descriptions_of, read_descriptions
    from foresail_router.data.matrix import OutcomeMatrix
    from foresail_router.data.sources import load_data
    from foresail_router.evaluation.benchmark.conduct import wants_answers
    from foresail_router.evaluation.benchmark.prepared import prepare
    from foresail_router.features.cache import CachedEncoder, default_cache_directory
    from foresail_router.features.encoder import answer_encoder, packaged_encoder
    from foresail_router.strategies.base import AnswerEmbeddings, DescriptionEmbeddings
    from foresail_router.strategies.lookahead.answers import embed_answers
    from foresail_router.strategies.task_aware.descriptions import embed_descriptions

    cache = arguments.cache_dir or default_cache_directory()
    encoder = CachedEncoder(packaged_encoder("int8", threads=arguments.threads), cache)
    of_answers = None
    if any(wants_answers(variant) for variant in grid.variants):
        of_answers = CachedEncoder(
            answer_encoder(opening_tokens=arguments.answer_tokens, threads=arguments.threads), cache
        )

    described = None if arguments.descriptions is None else read_descriptions(arguments.descriptions)

    def descriptions(data: OutcomeMatrix) -> DescriptionEmbeddings | None:
        return None if described is None else embed_descriptions(descriptions_of(data.texts, described), encoder)

    def load(name: str) -> PreparedPool:
        source, _, pool = name.rpartition(":")

        def answers(data: OutcomeMatrix) -> AnswerEmbeddings | None:
            return (
                None
                if of_answers is None
                else embed_answers(load_answers(arguments.data, source or None, data), of_answers)
            )

        data = load_data(arguments.data, source or None, pool)
        try:
            return prepare(
                name,
                data,
                encoder.encode,
                answers,
                folds=arguments.folds,
                folds_by=arguments.folds_by,
                descriptions=descriptions,
            )
        except ValueError as error:
            raise UserError(f"--pools {name}: {error}") from None

    return load


command = Command(
    help="cross-fit strategies on recorded outcomes, compare them and write a report", configure=_configure, run=_run
)

"""`foresail train`: learns a router from a data set and writes it as an artifact.

It must not know how anything is learned.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from foresail_api.console import Command
from foresail_api.errors import UserError
from foresail_router.commands.shared import (
    add_data_arguments,
    add_encoder_arguments,
    cached,
    check_artifact_argument,
    load,
    say,
)

if TYPE_CHECKING:
    from foresail_router.artifact.build import AnswerData
    from foresail_router.data.matrix import OutcomeMatrix
    from foresail_router.features.weights import EncoderSource
    from foresail_router.strategies.base import Strategy


def _configure(parser: argparse.ArgumentParser) -> None:
    add_data_arguments(parser)
    parser.add_argument(
        "-o", "--output", metavar="ARTIFACT", type=Path, required=True, help="directory to write the artifact to"
    )
    parser.add_argument("--strategy", metavar="NAME", default="fused", help="how to learn (default: %(default)s)")
    parser.add_argument(
        "--reproducible",
        action="store_true",
        help="with --strategy knn: the same data gives the same bytes on any CPU; encoding takes thirty times as long",
    )
    parser.add_argument(
        "--self-contained", action="store_true", help="put the encoder into the artifact instead of naming its package"
    )
    parser.add_argument(
        "--precision",
        choices=["int8", "float32"],
        default="int8",
        help="arithmetic of the encoder when serving; int8 is two to four times as fast (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of whatever is random in a strategy (default: %(default)s)"
    )
    parser.add_argument(
        "--descriptions",
        metavar="FILE",
        type=Path,
        help="descriptions of the prompts' tasks, as `foresail describe` writes them, for --strategy task-aware",
    )
    add_encoder_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print digest and held-out metrics as JSON")


def _run(arguments: argparse.Namespace) -> int:
    from foresail_router.artifact.build import Recipe, train
    from foresail_router.artifact.store import write_artifact
    from foresail_router.evaluation.render import render_table
    from foresail_router.features.encoder import packaged_encoder
    from foresail_router.features.weights import load_package
    from foresail_router.strategies.base import uses_answers

    started = time.monotonic()
    check_artifact_argument(arguments.output)
    strategy = _check_strategy(arguments.strategy, reproducible=arguments.reproducible)
    data = load(arguments)
    recipe = Recipe(
        arguments.strategy, arguments.precision, arguments.reproducible, arguments.self_contained, arguments.seed
    )
    source = load_package()
    encoder = cached(packaged_encoder(recipe.training_precision, threads=arguments.threads, source=source), arguments)
    answers = _answers(arguments, data, source) if uses_answers(strategy) else None
    descriptions = _descriptions(arguments, data, strategy)
    trained = train(data, recipe, encoder=encoder, source=source, say=say, answers=answers, descriptions=descriptions)
    digest = write_artifact(arguments.output, trained.manifest, trained.files)
    if arguments.json:
        print(
            json.dumps(
                {"digest": digest, "metrics": trained.manifest.metrics, "calibration": trained.manifest.calibration}
            )
        )
        return 0
    if trained.report is None:
        say("nothing was measured: no held-out prompt has an outcome of every model")
    else:
        print(f"On {trained.report.prompts} held-out prompts, cost left aside:\n\n{render_table(trained.report)}\n")
    print(f"{arguments.output}\n{digest}")
    say(f"done in {time.monotonic() - started:.1f} s")
    return 0


def _check_strategy(name: str, *, reproducible: bool) -> type[Strategy]:
    from foresail_router.strategies.base import find_strategy, is_reproducible, strategy_names

    if name not in strategy_names():
        raise UserError(f"--strategy {name}: unknown; choose one of: {', '.join(strategy_names())}")
    strategy = find_strategy(name)
    if reproducible and not is_reproducible(strategy):
        raise UserError(
            f"--reproducible: what --strategy {name} learns differs in its last bits from CPU to CPU; "
            "leave --reproducible out, or choose --strategy knn"
        )
    return strategy


def _answers(arguments: argparse.Namespace, data: OutcomeMatrix, source: EncoderSource) -> AnswerData | None:
    from foresail_router.artifact.build import AnswerData
    from foresail_router.data.answers import load_answers
    from foresail_router.features.encoder import answer_encoder
    from foresail_router.strategies.lookahead.answers import OPENING_TOKENS

    recorded = load_answers(arguments.data, arguments.source, data)
    if not recorded.known.any():
        say("no answer is recorded: what answers would teach is left out")
        return None
    say(f"{recorded.known.mean():.0%} of the outcomes have their answer recorded")
    encoder = answer_encoder(opening_tokens=OPENING_TOKENS, threads=arguments.threads, source=source)
    return AnswerData(recorded, cached(encoder, arguments, "encoding answers"))


def _descriptions(arguments: argparse.Namespace, data: OutcomeMatrix, strategy: type[Strategy]) -> list[str | None]:
    from foresail_router.data.descriptions import descriptions_of, read_descriptions
    from foresail_router.strategies.base import uses_descriptions

    if arguments.descriptions is None:
        return []
    if not uses_descriptions(strategy):
        raise UserError(f"--descriptions: --strategy {arguments.strategy} learns nothing from them; leave them out")
    found = descriptions_of(data.texts, read_descriptions(arguments.descriptions))
    known = sum(description is not None for description in found)
    if not known:
        raise UserError(f"--descriptions {arguments.descriptions}: describes no prompt of {arguments.data}")
    say(f"{known} of {len(found)} prompts are described")
    return found


command = Command(help="learn a router from prompts and graded outcomes", configure=_configure, run=_run)

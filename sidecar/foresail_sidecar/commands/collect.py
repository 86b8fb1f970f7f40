"""`foresail collect`: asks every model of a pool the prompts of a file, grades the answers, and writes the outcomes.

Owns the command line and what is printed. It must not know how a question is asked.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from foresail_api.console import Command
from foresail_api.errors import UserError
from foresail_api.manifests import load_manifests
from foresail_sidecar.commands.shared import from_1_to

if TYPE_CHECKING:
    from foresail_sidecar.collecting.collect import Collected, Settings
    from foresail_sidecar.collecting.journal import Journal
    from foresail_sidecar.collecting.plan import AskedModel, GradedPrompt


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "prompts",
        metavar="PROMPTS",
        type=Path,
        help=".jsonl or .parquet file with the columns id, prompt, grader, reference",
    )
    parser.add_argument(
        "-f",
        "--file",
        dest="files",
        metavar="PATH",
        type=Path,
        nargs="+",
        action="extend",
        required=True,
        help="YAML files, or directories of YAML files, with a ModelPool and, if you like, Secrets",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        required=True,
        help="data directory to write; what is there already is not asked again",
    )
    parser.add_argument("--pool", metavar="NAME", help="the ModelPool to ask, if there are several")
    parser.add_argument("--models", metavar="NAMES", help="ask these models of the pool only, divided by commas")
    parser.add_argument("--secrets", metavar="DIR", type=Path, help="directory of credentials as <Secret name>/<key>")
    parser.add_argument(
        "--concurrency",
        metavar="N",
        type=from_1_to(256),
        default=4,
        help="questions under way per model (default: %(default)s)",
    )
    parser.add_argument(
        "--attempts",
        metavar="N",
        type=from_1_to(10),
        default=4,
        help="times that a question is put (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=from_1_to(3600),
        default=120,
        help="longest wait for an answer (default: %(default)s)",
    )
    parser.add_argument(
        "--max-output-tokens",
        metavar="N",
        type=from_1_to(10_000_000),
        help="output limit of each question (default: the model's `defaultMaxOutputTokens`)",
    )
    parser.add_argument(
        "--temperature",
        metavar="T",
        type=float,
        help="sampling temperature (default: none is sent, the upstream's own holds)",
    )


def _run(arguments: argparse.Namespace) -> int:
    from foresail_sidecar.collecting.collect import Settings
    from foresail_sidecar.collecting.journal import Journal
    from foresail_sidecar.collecting.plan import choose_pool, models_to_ask, read_graded_prompts

    if arguments.temperature is not None and not 0 <= arguments.temperature <= 2:
        raise UserError(f"--temperature {arguments.temperature} is outside 0 to 2")
    prompts = read_graded_prompts(arguments.prompts)
    manifests = load_manifests(arguments.files)
    names = arguments.models.split(",") if arguments.models else None
    pool = choose_pool(manifests, arguments.pool)
    models = models_to_ask(pool, manifests, arguments.secrets, names, arguments.max_output_tokens)
    settings = Settings(arguments.concurrency, arguments.attempts, float(arguments.timeout), arguments.temperature)
    with Journal(arguments.out, [item.prompt for item in prompts]) as journal:
        before = len(journal.done)
        try:
            collected = _collect(journal, settings, prompts, models)
        except KeyboardInterrupt:
            print(
                f"\nstopped; {len(journal.done) - before} answers were kept. Run the same command again to go on.",
                file=sys.stderr,
            )
            raise
        journal.put_in_order([model.name for model in pool.spec.models])
    return _report(collected, len(prompts), models, arguments.out)


def _collect(journal: Journal, settings: Settings, prompts: list[GradedPrompt], models: list[AskedModel]) -> Collected:
    import asyncio
    import random

    from tqdm import tqdm

    from foresail_sidecar.collecting.collect import Collection

    questions = len(prompts) * len(models)
    # The bar is for people who watch; a log file gets the report alone.
    with tqdm(total=questions, unit="answer", file=sys.stderr, disable=None, dynamic_ncols=True) as bar:
        collection = Collection(journal, settings, bar.update, random.Random())  # noqa: S311  spreads pauses, keeps no secret
        open_questions = sum(len(collection.open_questions(prompts, model)) for model in models)
        bar.update(questions - open_questions)
        return asyncio.run(collection.run(prompts, models))


def _report(collected: Collected, prompts: int, models: list[AskedModel], directory: Path) -> int:
    failed = sum(collected.failures.values()) + sum(collected.not_asked.values())
    already = prompts * len(models) - collected.answered - failed
    cost = f"${collected.cost_usd:.6f}" if collected.unpriced == 0 else f"at least ${collected.cost_usd:.6f}"
    print(
        f"{directory}: {prompts} prompts x {len(models)} models: {collected.answered} answered now for {cost}, "
        f"{already} were there before, {failed} missing"
    )
    for (model, reason, remedy), count in sorted(collected.failures.items()):
        print(f"{model}: {count} failed: {reason}; {remedy}", file=sys.stderr)
    for model, count in sorted(collected.not_asked.items()):
        print(f"{model}: {count} were not asked, because one question after another failed", file=sys.stderr)
    return 1 if failed else 0


command = Command(
    help="ask every model of a pool the prompts of a file, grade the answers, write the outcomes",
    configure=_configure,
    run=_run,
)

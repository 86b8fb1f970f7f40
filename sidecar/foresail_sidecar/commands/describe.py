"""`foresail describe`: has a model describe each prompt's task in one sentence, for the discovery of tasks in training.

Owns the command line and what is printed. It must not know how a question is asked.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from foresail_api.console import Command
from foresail_api.errors import UserError
from foresail_sidecar.commands.shared import from_1_to

if TYPE_CHECKING:
    from foresail_router.data.records import Prompt
    from foresail_sidecar.collecting.describing import Described, Notebook, Settings
    from foresail_sidecar.upstreams.targets import Target

_MOST_KEY_BYTES = 16384


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        metavar="DATA",
        type=Path,
        help="directory with prompts (jsonl or parquet) and outcomes, or of long-form sources",
    )
    parser.add_argument("--source", metavar="NAME", help="which long-form source of DATA: NAME.parquet")
    parser.add_argument("--pool", metavar="NAME", default="default", help="which pool of DATA (default: %(default)s)")
    parser.add_argument(
        "--url", metavar="URL", required=True, help="base URL of an OpenAI-compatible endpoint, as in http://host/v1"
    )
    parser.add_argument("--model", metavar="NAME", required=True, help="the endpoint's model that describes")
    parser.add_argument(
        "--key-file", metavar="FILE", type=Path, help="file with the endpoint's API key, if it wants one"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        required=True,
        help="JSONL file of descriptions; what is there already is not asked again",
    )
    parser.add_argument("--limit", metavar="N", type=from_1_to(10_000_000), help="describe the first N prompts only")
    parser.add_argument(
        "--concurrency",
        metavar="N",
        type=from_1_to(256),
        default=4,
        help="questions under way (default: %(default)s)",
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
        "--output-limit-field",
        choices=["max_tokens", "max_completion_tokens"],
        default="max_tokens",
        help="how the endpoint calls its limit of output tokens (default: %(default)s)",
    )


def _run(arguments: argparse.Namespace) -> int:
    from foresail_api.pool import OutputLimitField
    from foresail_router.data.sources import load_data
    from foresail_sidecar.collecting.describing import Notebook, Settings, target_of

    if arguments.output.suffix != ".jsonl":
        raise UserError(f"-o {arguments.output}: grows as JSONL; name it .jsonl")
    field = {
        "max_tokens": OutputLimitField.MAX_TOKENS,
        "max_completion_tokens": OutputLimitField.MAX_COMPLETION_TOKENS,
    }
    target = target_of(
        arguments.url, arguments.model, field[arguments.output_limit_field], _credential(arguments.key_file)
    )
    prompts = load_data(arguments.data, arguments.source, arguments.pool).prompts[: arguments.limit]
    settings = Settings(arguments.concurrency, arguments.attempts, float(arguments.timeout))
    with Notebook(arguments.output) as notebook:
        before = len(notebook.done)
        try:
            described = _describe(notebook, target, settings, prompts)
        except KeyboardInterrupt:
            print(
                f"\nstopped; {len(notebook.done) - before} descriptions were kept. Run the same command again to go on.",
                file=sys.stderr,
            )
            raise
    return _report(described, arguments.output, len(prompts))


def _credential(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        content = path.read_bytes()[:_MOST_KEY_BYTES].decode("ascii").strip()
    except OSError as error:
        raise UserError(f"--key-file {path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"--key-file {path}: holds no key: it is not ASCII text") from None
    if not content or not content.isprintable() or " " in content:
        raise UserError(f"--key-file {path}: holds no key: give a file with the key alone")
    return content


def _describe(notebook: Notebook, target: Target, settings: Settings, prompts: tuple[Prompt, ...]) -> Described:
    import asyncio
    import random

    from tqdm import tqdm

    from foresail_sidecar.collecting.describing import Describing, open_prompts

    wanted = open_prompts(prompts, notebook)
    # The bar is for people who watch; a log file gets the report alone.
    with tqdm(total=len(wanted), unit="prompt", file=sys.stderr, disable=None, dynamic_ncols=True) as bar:
        run = Describing(notebook, target, settings, bar.update, random.Random())  # noqa: S311  spreads pauses, keeps no secret
        return asyncio.run(run.run(wanted))


def _report(described: Described, path: Path, prompts: int) -> int:
    failed = sum(described.failures.values())
    print(
        f"{path}: {prompts} prompts: {described.described} texts described now, {failed + described.not_asked} missing"
    )
    for (reason, remedy), count in sorted(described.failures.items()):
        print(f"{count} failed: {reason}; {remedy}", file=sys.stderr)
    if described.not_asked:
        print(f"{described.not_asked} were not asked, because one question after another failed", file=sys.stderr)
    return 1 if failed or described.not_asked else 0


command = Command(
    help="have a model describe each prompt's task in one sentence, for task-aware training",
    configure=_configure,
    run=_run,
)

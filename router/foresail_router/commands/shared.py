"""What the learning commands share: arguments for data and encoder, and progress on standard error.

Imports only the standard library and the API at the top, so that `foresail --help` needs no encoder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from foresail_api.errors import UserError

if TYPE_CHECKING:
    from foresail_router.data.matrix import OutcomeMatrix
    from foresail_router.features.encoder import Encoder, Progress, Vectors


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add DATA, --source and --pool."""
    parser.add_argument(
        "data",
        metavar="DATA",
        type=Path,
        help="directory with prompts and outcomes (jsonl or parquet), or of long-form sources",
    )
    parser.add_argument("--source", metavar="NAME", help="which long-form source of DATA: NAME.parquet")
    parser.add_argument(
        "--pool",
        metavar="NAME",
        default="default",
        help="which models: a pool of DATA/pools.json, or 'priced' to leave out models without costs (default: %(default)s)",
    )


def add_threads_argument(parser: argparse.ArgumentParser) -> None:
    """Add --threads."""
    parser.add_argument(
        "--threads",
        metavar="N",
        type=whole_number(1, 256, " of threads"),
        help="threads of the encoder (default: the CPUs that may be used)",
    )


def add_encoder_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --threads and --cache-dir."""
    add_threads_argument(parser)
    parser.add_argument(
        "--cache-dir",
        metavar="DIR",
        type=Path,
        help="where embeddings are kept between runs (default: foresail/embeddings in the user's cache directory)",
    )


def load(arguments: argparse.Namespace) -> OutcomeMatrix:
    """Read what the data arguments name; raises `UserError`."""
    from foresail_router.data.sources import load_data

    say("reading outcomes")
    data = load_data(arguments.data, arguments.source, arguments.pool)
    say(f"{len(data.prompts)} prompts, {len(data.models)} models")
    return data


def cached(encoder: Encoder, arguments: argparse.Namespace, what: str = "encoding prompts") -> Encoder:
    """Return the encoder behind the cache of embeddings that the arguments name, showing its progress."""
    from foresail_router.features.cache import CachedEncoder, default_cache_directory

    return _ShownEncoder(CachedEncoder(encoder, arguments.cache_dir or default_cache_directory()), what)


class _ShownEncoder:
    """An encoder that shows how far it is."""

    def __init__(self, encoder: Encoder, what: str) -> None:
        self.key = encoder.key
        self._encoder = encoder
        self._what = what

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Return one row per text."""
        with ticking(len(texts), self._what) as tick:
            return self._encoder.encode(texts, progress or tick)


def say(message: str) -> None:
    """Print one line of progress on standard error."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def ticking(total: int | None, what: str) -> Iterator[Callable[[int], object]]:
    """Yield a function that is told how many more are done: a bar on a terminal, one line at the end elsewhere."""
    from tqdm import tqdm

    with tqdm(
        total=total, desc=what, unit=" texts", file=sys.stderr, disable=not sys.stderr.isatty(), leave=False
    ) as bar:
        yield bar.update
    say(f"{what}: done")


def check_artifact_argument(directory: Path) -> None:
    """Raise `UserError` when a path cannot be an artifact to be written."""
    if directory.is_file():
        raise UserError(f"{directory}: is a file; give a directory to write the artifact to")


def whole_number(least: int, most: int, of: str = "") -> Callable[[str], int]:
    """Return what argparse needs to read a whole number within bounds; `of` says what is counted."""

    def parse(text: str) -> int:
        if text.isascii() and text.isdecimal() and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number{of} from {least} to {most}")

    return parse

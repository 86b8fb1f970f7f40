"""The scoring process: `python -m foresail_router.engine.process --socket PATH --artifact DIR ...`.

Owns its command line and its life: it listens once every artifact is loaded and warm, and ends on SIGTERM. Nothing heavy is imported
before the number of threads is set.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from foresail_api.errors import UserError
from foresail_router.features.cpus import cpu_limit

_log = logging.getLogger("foresail.scorer")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to end; return the exit status: 0 after a signal, 2 when it cannot start."""
    parser = argparse.ArgumentParser(
        prog="python -m foresail_router.engine.process", description="Scores prompts over a Unix socket."
    )
    parser.add_argument(
        "--socket", metavar="PATH", type=Path, required=True, help="socket to listen on; made with mode 0600"
    )
    parser.add_argument(
        "--artifact", metavar="DIR", type=Path, action="append", default=[], help="artifact to load; may be repeated"
    )
    parser.add_argument(
        "--threads", metavar="N", type=int, default=None, help="threads (default: the CPUs that may be used)"
    )
    parser.add_argument("--end-with-stdin", action="store_true", help="end when whoever holds the standard input does")
    parsed = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="scoring process: %(message)s", stream=sys.stderr)
    threads = max(1, parsed.threads or cpu_limit())
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    try:
        asyncio.run(_serve(parsed.socket, parsed.artifact, threads, parsed.end_with_stdin))
    except UserError as error:
        _log.error("%s", error)
        return 2
    return 0


async def _serve(path: Path, artifacts: Sequence[Path], threads: int, end_with_stdin: bool) -> None:
    from foresail_router.engine.local import EngineSettings, LocalScorer
    from foresail_router.engine.server import ScoringServer

    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    if end_with_stdin:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _read_stdin, ended)
    scorer = LocalScorer(EngineSettings(threads=threads))
    server = ScoringServer(scorer, path)
    try:
        for directory in artifacts:
            digest = await scorer.load(directory)
            _log.info("loaded %s", digest)
        await server.start()
        _log.info("ready on %s", path)
        await ended.wait()
    finally:
        await server.close()
        await scorer.close()


def _read_stdin(ended: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        ended.set()


if __name__ == "__main__":
    sys.exit(main())

"""`make proof`: that limits on money hold, with a thousand clients, while everything that can be killed is killed.

Owns which parts run, for how long, and the exit status: 0 if every check held.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

from tests.proof import phases
from tests.proof.phases import REDIS, SQLITE, Backend, Load, Part
from tests.proof.soak import soak
from tests.proof.table import PAGE, shown, table, write_table
from tests.proof.verdicts import Verdict

_ROOT: Final = Path(__file__).resolve().parents[2]
_PROPERTY_TEST: Final = "tests/integration/test_ledger_property.py"
_OUTAGE_TESTS: Final = (
    "tests/integration/test_ledger_redis_faults.py",
    "tests/integration/test_ledger_redis_client.py",
    "tests/integration/test_ledger_redis_loss.py",
)
_TESTS_SECONDS: Final = 600
_CLIENTS: Final = 1000
_PARTS: Final = "worst,tenth,faults,model,outages,soak"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prove and print; `--write` also writes the table into the documentation."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.soak is None:
        options.soak = 0 if options.quick else 20
    missing = set(options.parts.split(",")) - {name for name, _ in _parts(Path(), options)}
    if missing and options.parts != _PARTS:
        # What did not run proves nothing, and must not look as if it had held.
        parser.error(f"--parts: none of these is a part of this run: {', '.join(sorted(missing))}")
    command = _command(sys.argv[1:] if arguments is None else arguments)
    began = time.monotonic()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="foresail-proof-") as directory:
        folder = options.keep or Path(directory)
        parts = asyncio.run(_prove(folder, options))
    text = table(parts, command, time.monotonic() - began)
    print(f"\n{text}")
    if options.write:
        write_table(text)
    failed = [verdict for part in parts for verdict in part.verdicts if not verdict.passed]
    print(f"{len(failed)} of {sum(len(part.verdicts) for part in parts)} checks failed (seed {options.seed})")
    return 1 if failed else 0


def _command(arguments: Sequence[str]) -> str:
    """Return what runs the same again; where files are kept is nobody else's matter."""
    shown = [
        word for before, word in pairwise(["", *arguments]) if "--keep" not in (before, word) and "--keep=" not in word
    ]
    return f"make proof PROOF_ARGS='{' '.join(shown)}'" if shown else "make proof"


async def _prove(folder: Path, options: argparse.Namespace) -> list[Part]:
    parts = []
    for name, part in _parts(folder, options):
        parts.append(await _finished(name, part))
        print(shown(parts[-1]), flush=True)
    return parts


def _parts(folder: Path, options: argparse.Namespace) -> list[tuple[str, Callable[[], Awaitable[Part]]]]:
    backends = {"redis": [REDIS], "sqlite": [SQLITE], "both": [REDIS, SQLITE]}[options.backend]
    found: list[tuple[str, Callable[[], Awaitable[Part]]]] = []
    for backend in backends:
        load, own = _load(backend, options), folder / ("redis" if backend.shared else "sqlite")
        found += [
            ("worst", partial(phases.worst_case, own / "worst", backend, load)),
            ("tenth", partial(phases.tenth, own / "tenth", backend, load)),
            ("faults", partial(phases.trouble, own / "faults", backend, load)),
        ]
    found.append(("model", partial(asyncio.to_thread, _property_test, options)))
    if REDIS in backends:
        found.append(("outages", partial(asyncio.to_thread, _outages, options)))
    if options.soak > 0 and REDIS in backends:
        found.append(("soak", partial(soak, folder / "soak", _soak_load(options))))
    return [(name, part) for name, part in found if name in options.parts.split(",")]


async def _finished(name: str, part: Callable[[], Awaitable[Part]]) -> Part:
    """Return what a part has shown. One that breaks down has failed, and the others are still to be seen."""
    began = time.monotonic()
    try:
        return await part()
    except Exception as error:
        trace = tuple(line for text in traceback.format_exception(error) for line in text.splitlines())
        broke = Verdict("the part came to its end", type(error).__name__, trace[-40:])
        return Part(name, time.monotonic() - began, [broke])


def _load(backend: Backend, options: argparse.Namespace) -> Load:
    # Small enough that budgets run out, large enough that a thousand requests are answered.
    if options.quick:
        return Load(options.clients, 30, 3.0, 4.0, 200_000_000, options.seed)
    return Load(options.clients, 240 if backend.shared else 150, 5.0, 2.5, 600_000_000, options.seed)


def _soak_load(options: argparse.Namespace) -> Load:
    return Load(options.clients, options.soak * 60, 15.0, 5.0, 600_000_000, options.seed)


def _property_test(options: argparse.Namespace) -> Part:
    """Run the property test of the ledgers with many random histories."""
    profile = "proof-quick" if options.quick else "proof"
    chosen = [] if options.backend == "both" else ["-k", options.backend]
    chosen += [f"--hypothesis-profile={profile}", f"--hypothesis-seed={options.seed}", _PROPERTY_TEST]
    promise = f"random histories ({profile}): each backend does what a plain model of a ledger does"
    return _tests("The ledgers and a model", promise, chosen, {})


def _outages(options: argparse.Namespace) -> Part:
    """Run the tests of a Redis that is killed, stopped, stalled or replaced; unless quick, with stops of 30 s and stalls of 5 s."""
    real = "0" if options.quick else "1"
    promise = (
        "a Redis killed with and without its file, stopped, stalled, replaced by a stale copy: no money is lost or made"
    )
    chosen = ["-k", "stop or stall or killed or lost or stale or promoted", *_OUTAGE_TESTS]
    return _tests("Outages of Redis", promise, chosen, {"FORESAIL_REAL_OUTAGES": real})


def _tests(name: str, promise: str, chosen: Sequence[str], environment: Mapping[str, str]) -> Part:
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--timeout", str(_TESTS_SECONDS), *chosen]
    done = subprocess.run(
        command,
        cwd=_ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=2 * _TESTS_SECONDS,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    figures = lines[-1].strip("= ") if lines else "no output"
    offenders = tuple(lines[-40:]) if done.returncode else ()
    return Part(name, time.monotonic() - began, [Verdict(promise, figures, offenders)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backend", choices=("redis", "sqlite", "both"), default="both")
    parser.add_argument("--quick", action="store_true", help="half a minute of faults, few histories, no soak")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="length of the soak; 0 for none (default: 20)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of all that is random")
    parser.add_argument("--clients", type=int, default=_CLIENTS, help="(default: %(default)s)")
    parser.add_argument("--parts", default=_PARTS, help="(default: %(default)s)")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="a new directory for logs, journals and ledgers")
    parser.add_argument("--write", action="store_true", help=f"write the table into docs/benchmarks/{PAGE.name}")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

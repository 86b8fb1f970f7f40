"""`make bench`: what a gateway adds to a request in time, CPU and memory, Foresail beside others, against the upstream asked directly.

Gateways run on one core, the upstream and the load on another. Rounds are interleaved, so that a slow minute of the machine falls on all
rows alike. Owns the command line and the order of things; the parts know what they measure.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import exchanges, leaving, memory, page, peers, streams, workers
from tests.bench.gateways import ROWS, Row
from tests.bench.places import GATEWAY_CORE, LOAD_CORE, awake, built_wire, cache_folder, mock
from tests.bench.results import FILE, Results
from tests.bench.setting import FULL, QUICK, Bench, Figures

Measure = Callable[[Bench, Row, Figures], Figures]


@dataclass(frozen=True, slots=True)
class Part:
    """One part: what measures a row in a round, the rows that it is for, and in how many rounds at most."""

    measure: Measure
    rows: tuple[str, ...]
    most_rounds: int = 99


_ALL = tuple(row.key for row in ROWS)
_GATEWAYS = tuple(key for key in _ALL if key != "direct")
_OURS = tuple(key for key in _ALL if key.startswith("foresail"))
PARTS = {
    "json": Part(exchanges.measure, _ALL),
    "streams": Part(streams.measure, _ALL),
    "memory": Part(memory.measure_idle, _GATEWAYS, most_rounds=3),
    "workers": Part(workers.measure, ("aiohttp", *_OURS)),
    "cancellation": Part(leaving.measure, ("aiohttp", *_OURS)),
    "growth": Part(memory.measure_growth, ("foresail-sqlite",), most_rounds=1),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, keep the figures, and print the tables; `--write` keeps them in the repository and writes the page."""
    options = _options(arguments)
    path = FILE if options.write else cache_folder() / ("quick.json" if options.quick else "gateway.json")
    results = Results.read(path)
    wanted = options.rows or list(_ALL)
    for key in set(wanted) & set(peers.PEERS):
        _install(results, key)
    lengths = QUICK if options.quick else FULL
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="foresail-bench-")))
        wire = built_wire()
        stack.enter_context(awake(wire, folder))
        upstream = stack.enter_context(mock(wire, folder))
        rows = tuple(row for row in ROWS if row.key in wanted and row.key not in results.missing())
        bench = Bench(wire, upstream, folder, lengths, rows)
        for name in options.only or PARTS:
            run_part(bench, results, name, options.rounds or lengths.rounds, resume=options.resume)
    if options.write:
        page.write(results)
    print(page.tables(results))
    print(f"figures: {path}")
    return 0


def run_part(bench: Bench, results: Results, name: str, rounds: int, *, resume: bool) -> None:
    """Measure one part in interleaved rounds; each row is kept as soon as it is measured."""
    part = PARTS[name]
    rows = [row for row in bench.rows if row.key in part.rows]
    began, load_before = time.monotonic(), os.getloadavg()[0]
    results.begin(name, [row.key for row in rows], resume=resume)
    direct = next(row for row in ROWS if row.key == "direct")
    for number in range(min(rounds, part.most_rounds)):
        left = [row for row in rows if not results.has(name, number, row.key)]
        calm: Figures = {}
        if "direct" in part.rows and left:
            results.add(name, number, "direct", part.measure(bench, direct, calm))
        # Every round begins with another row, so that none always comes after the same one.
        others = [row for row in left if row.key != "direct"]
        turn = number % len(others) if others else 0
        for row in others[turn:] + others[:turn]:
            _measure_row(bench, results, name, number, row, calm)
        print(f"{name}: round {number + 1} of {min(rounds, part.most_rounds)} done", flush=True)
    results.state(name, _facts(time.monotonic() - began, load_before))


def _measure_row(bench: Bench, results: Results, name: str, number: int, row: Row, calm: Figures) -> None:
    bench.refused = 0
    try:
        figures = PARTS[name].measure(bench, row, calm)
    except (AssertionError, SystemExit, subprocess.TimeoutExpired) as failure:
        # Told on the page; the other rows are measured all the same.
        results.fail(name, row.key, f"round {number + 1}: {str(failure).splitlines()[0][:300]}")
        print(f"{name} {number + 1} {row.key} FAILED: {failure}", flush=True)
        return
    if bench.refused:
        figures["refused"] = bench.refused
    results.add(name, number, row.key, figures)
    shown = ", ".join(f"{figure} {value:.3f}" for figure, value in figures.items())
    print(f"{name} {number + 1} {row.key}: {shown}", flush=True)


def _install(results: Results, key: str) -> None:
    try:
        peers.installed(peers.PEERS[key])
    except peers.PeerMissing as reason:
        results.miss(key, str(reason))
        print(f"{peers.PEERS[key].name} is missing: {reason}", flush=True)
    else:
        results.miss(key, None)


def _facts(seconds: float, load_before: float) -> dict[str, object]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{_cpu_model()}, {os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}",
        "cores": [GATEWAY_CORE, LOAD_CORE],
        "seconds": round(seconds),
        "load_average": [round(load_before, 1), round(os.getloadavg()[0], 1)],
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, help=f"rounds (default: {FULL.rounds}, quick {QUICK.rounds})")
    parser.add_argument(
        "--quick", action="store_true", help="one short round, to see that everything works; its figures mean little"
    )
    parser.add_argument(
        "--rows", type=lambda text: text.split(","), help=f"rows, with commas (default: all): {', '.join(_ALL)}"
    )
    parser.add_argument(
        "--only", type=lambda text: text.split(","), help=f"parts, with commas (default: all): {', '.join(PARTS)}"
    )
    parser.add_argument("--resume", action="store_true", help="go on where an earlier run ended")
    parser.add_argument(
        "--write", action="store_true", help=f"keep the figures in benchmarks/results/{FILE.name} and write the page"
    )
    options = parser.parse_args(arguments)
    for given, known in ((options.rows or [], _ALL), (options.only or [], tuple(PARTS))):
        if unknown := sorted(set(given) - set(known)):
            parser.error(f"{', '.join(unknown)}: none of {', '.join(known)}")
    if options.quick and options.write:
        parser.error("figures of a quick run are not kept: leave out --quick or --write")
    return options


if __name__ == "__main__":
    raise SystemExit(main())

"""`make bench`: what the sidecar adds to a request, in time, CPU and memory, against the same upstream asked directly.

Gateways run on one core, the upstream and the load on another. Everything is measured in interleaved rounds, so that a slow minute of
the machine falls on all of them alike; what is added is the difference within a round.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import report
from tests.bench.gateways import Row, gateways, trained_router
from tests.bench.places import GATEWAY_CORE, LOAD_CORE, Used, built_wire, load, shown, started, used

TARGET = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "sidecar.md"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way to ask: connections at the same time, the upstream's delay, requests per round (fewer for a learned policy)."""

    name: str
    concurrency: int
    delay_milliseconds: int
    requests: int
    learned_requests: int


SCENARIOS = (
    Scenario("1 at a time, upstream takes 20 ms", 1, 20, 150, 150),
    Scenario("32 at a time, upstream takes 20 ms", 32, 20, 1600, 640),
    Scenario("32 at a time, upstream takes 0 ms", 32, 0, 2400, 640),
)


@dataclass(slots=True)
class Samples:
    """What the rounds gave for one row of one scenario. Times in milliseconds."""

    learned: bool
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    added_p50: list[float] = field(default_factory=list)
    added_p99: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    overhead_p50: list[float] = field(default_factory=list)
    overhead_p99: list[float] = field(default_factory=list)
    fallbacks: int = 0
    requests: int = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; `--write` also writes the page of the documentation."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help=f"write {TARGET.name} in docs/benchmarks")
    parser.add_argument("--json", action="store_true", help="print all samples as JSON after the table")
    options = parser.parse_args(arguments)
    began, load_before = time.monotonic(), os.getloadavg()[0]
    wire = built_wire()
    with tempfile.TemporaryDirectory(prefix="foresail-bench-") as scratch:
        folder = Path(scratch)
        samples, peaks = measure(wire, folder, options.rounds)
    facts = report.Facts(
        date=datetime.now(UTC).date().isoformat(),
        machine=f"{_cpu_model()}, {os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}",
        cores=(GATEWAY_CORE, LOAD_CORE),
        rounds=options.rounds,
        seconds=time.monotonic() - began,
        load_average=(load_before, os.getloadavg()[0]),
    )
    page = report.page(facts, samples, peaks)
    print(page)
    if options.json:
        print(json.dumps(report.as_data(facts, samples, peaks), indent=2))
    if options.write:
        TARGET.parent.mkdir(parents=True, exist_ok=True)
        TARGET.write_text(page)
    return 0


def measure(wire: Path, folder: Path, rounds: int) -> tuple[dict[str, dict[str, Samples]], dict[str, float]]:
    """Return the samples by scenario and row, and each row's peak memory in MiB."""
    router = trained_router(folder)
    with contextlib.ExitStack() as stack:
        rows_of: dict[int, tuple[Row, ...]] = {}
        for delay in sorted({scenario.delay_milliseconds for scenario in SCENARIOS}):
            mock = [wire, "mock", f"-delay={delay}ms"]
            _, said = stack.enter_context(started(mock, LOAD_CORE, folder / f"mock-{delay}.log", "127.0.0.1:"))
            rows_of[delay] = stack.enter_context(gateways(said.strip(), router, folder))
            check_answers(wire, rows_of[delay])
        samples = {scenario.name: {row.name: Samples(row.learned) for row in rows_of[0]} for scenario in SCENARIOS}
        first = 0
        for number in range(rounds):
            for scenario in SCENARIOS:
                rows = rows_of[scenario.delay_milliseconds]
                # Every round begins with another row, so that none always comes after the same one.
                turn = number % len(rows)
                for row in rows[turn:] + rows[:turn]:
                    first += 100_000
                    ask(wire, scenario, row, samples[scenario.name][row.name], first)
                add_differences(samples[scenario.name], rows[0].name)
            print(f"round {number + 1} of {rounds} done", flush=True)
        peaks = {
            row.name: max(
                used(each.process).peak_mebibytes
                for rows in rows_of.values()
                for each in rows
                if each.name == row.name and each.process
            )
            for row in rows_of[0]
            if row.process is not None
        }
    return samples, peaks


def check_answers(wire: Path, rows: tuple[Row, ...]) -> None:
    """End the run if a gateway's answer, whole or streamed, differs from the upstream's by a byte."""
    for stream in (False, True):
        expected = shown(wire, rows[0].address, stream=stream)
        for row in rows[1:]:
            if shown(wire, row.address, stream=stream) != expected:
                raise SystemExit(f"{row.name} changes the bytes of {'a stream' if stream else 'an answer'}")


def ask(wire: Path, scenario: Scenario, row: Row, samples: Samples, first: int) -> None:
    """Measure one row once and add what came out."""
    requests = scenario.learned_requests if row.learned else scenario.requests
    warm_up = 2 * scenario.concurrency
    before = used(row.process) if row.process else Used(0, 0)
    result = load(wire, row.address, concurrency=scenario.concurrency, requests=requests, warm_up=warm_up, first=first)
    after = used(row.process) if row.process else Used(0, 0)
    samples.p50.append(result["latency_p50_ms"])
    samples.p99.append(result["latency_p99_ms"])
    samples.per_second.append(result["requests"] / result["seconds"])
    samples.cpu.append(1000 * (after.cpu_seconds - before.cpu_seconds) / (requests + warm_up))
    samples.overhead_p50.append(result["overhead_p50_ms"])
    samples.overhead_p99.append(result["overhead_p99_ms"])
    samples.fallbacks += result["fallbacks"] if row.learned else 0
    samples.requests += result["requests"]


def add_differences(rows: dict[str, Samples], direct: str) -> None:
    """Add, for the last round, what each row took longer than the upstream asked directly."""
    for samples in rows.values():
        samples.added_p50.append(samples.p50[-1] - rows[direct].p50[-1])
        samples.added_p99.append(samples.p99[-1] - rows[direct].p99[-1])


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    raise SystemExit(main())

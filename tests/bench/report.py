"""The benchmark's page: tables of medians with their spread, and how they came about. It must not know how anything is measured."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.bench.gateways import DEADLINE_MILLISECONDS

if TYPE_CHECKING:
    from tests.bench.run import Samples

Tables = Mapping[str, Mapping[str, "Samples"]]


@dataclass(frozen=True, slots=True)
class Facts:
    """Where and when it was measured. `load_average` is that of the last minute before and after."""

    date: str
    machine: str
    cores: tuple[int, int]
    rounds: int
    seconds: float
    load_average: tuple[float, float]


def page(facts: Facts, tables: Tables, peaks: Mapping[str, float]) -> str:
    """Return the whole page in Markdown."""
    parts = ["# The sidecar's latency and cost", _short(tables, peaks), _method(facts)]
    for scenario, rows in tables.items():
        parts.append(f"## {scenario}")
        parts.append(_table(rows))
    parts += ["## Peak memory", _memory(peaks), _reading(tables)]
    return "\n\n".join(parts) + "\n"


def as_data(facts: Facts, tables: Tables, peaks: Mapping[str, float]) -> dict[str, Any]:
    """Return everything, every sample of every round included."""
    samples = {name: {row: dataclasses.asdict(each) for row, each in rows.items()} for name, rows in tables.items()}
    return {"facts": dataclasses.asdict(facts), "samples": samples, "peak_mebibytes": dict(peaks)}


def _short(tables: Tables, peaks: Mapping[str, float]) -> str:
    lines = [
        "| | added p50, ms | of that its decision, ms | CPU per request, ms | peak memory, MiB |",
        "|---|---|---|---|---|",
    ]
    for scenario, rows in tables.items():
        for name, samples in rows.items():
            if any(samples.overhead_p50):
                figures = (samples.added_p50, samples.overhead_p50, samples.cpu)
                cells = [
                    f"{name}, {scenario}",
                    *(f"{_middle(values):.2f}" for values in figures),
                    f"{peaks.get(name, 0):.0f}",
                ]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _method(facts: Facts) -> str:
    where = (
        f"The gateway runs on core {facts.cores[0]}, the upstream and the load together on core {facts.cores[1]}"
        if facts.cores[0] != facts.cores[1]
        else "Gateway, upstream and load share one core, so times are dominated by their competition"
    )
    return f"""\
Written by `make bench BENCH_ARGS=--write` on {facts.date}: {facts.machine}. {where}.
The upstream and the load generator are compiled (`tests/bench/wire`); connections are kept; every prompt is different, so that no cache
answers for the router; every answer is compared byte for byte, and so were one answer and one stream through each gateway before.

Medians over {facts.rounds} interleaved rounds, with the lowest and the highest round in brackets. *Added* is the difference to the upstream asked
directly in the same round. *Decision* is what Foresail says of itself (`x-foresail-overhead-ms`): from the whole request to its
forwarding, scoring included. CPU is user and system time of the gateway's process per request. All of it took
{facts.seconds:.0f} s; the machine's load average was {facts.load_average[0]:.1f} before and {facts.load_average[1]:.1f} after."""


def _table(rows: Mapping[str, Samples]) -> str:
    head = [
        "",
        "added p50, ms",
        "added p99, ms",
        "p50, ms",
        "p99, ms",
        "decision p50 / p99, ms",
        "CPU per request, ms",
        "requests per second",
    ]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for number, (name, samples) in enumerate(rows.items()):
        direct = number == 0
        cells = [
            name,
            "" if direct else _median(samples.added_p50),
            "" if direct else _median(samples.added_p99),
            _median(samples.p50),
            _median(samples.p99),
            f"{_middle(samples.overhead_p50):.2f} / {_middle(samples.overhead_p99):.2f}"
            if any(samples.overhead_p50)
            else "",
            "" if direct else _median(samples.cpu),
            _median(samples.per_second, digits=0),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _memory(peaks: Mapping[str, float]) -> str:
    lines = ["| | peak resident memory, MiB |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {peak:.0f} |" for name, peak in peaks.items()])


def _reading(tables: Tables) -> str:
    learned = [samples for rows in tables.values() for samples in rows.values() if samples.learned]
    asked, fallbacks = sum(each.requests for each in learned), sum(each.fallbacks for each in learned)
    return f"""\
## How to read it

- A gateway on one core answers at most one request at a time: with 32 at a time its added latency is mostly waiting for the others, as
  the bare relay shows, which does nothing but relay. Throughput grows with replicas.
- The kNN router reads each prompt with a sentence encoder on the same core; that is its decision time, and with 32 at a time the wait for
  31 others. So that it is measured and not cut short, the policy's `deadlineMilliseconds` is {DEADLINE_MILLISECONDS} here instead of 250:
  {fallbacks} of {asked} decisions fell back.
- One at a time costs more CPU per request than many: between two requests the core goes idle, its caches go to others and its threads to sleep.
  The bare relay shows the same.
- The p99 of one round is one of its slowest requests: on a machine that does other things too it says as much about them. A
  difference below zero is such a moment too. Compare rows with each other, and trust the lowest round."""


def _median(values: Sequence[float], digits: int = 2) -> str:
    return f"{_middle(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _middle(values: Sequence[float]) -> float:
    return statistics.median(values)

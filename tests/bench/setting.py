"""What every part of the benchmark shares: how long it measures, where, against which upstream, and which rows.

It must not know what a part measures.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.gateways import Place, Row, Target
from tests.bench.places import Mock, Used, load, used

KILOBYTE = 1024
# The number in a prompt has eight digits.
_PROMPTS, _PROMPTS_OF_A_RUN = 99_000_000, 500_000

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long things are measured, in seconds or in numbers of them; large bodies get half of the seconds."""

    rounds: int
    throughput_seconds: float
    latency_seconds: float
    open_loop_seconds: float
    stream_seconds: float
    commits: int
    idle_streams: int
    idle_streams_of_peers: int
    growth: tuple[int, int]
    cancels: int


FULL = Lengths(5, 2.0, 2.0, 2.5, 2.0, 200, 2000, 500, (50_000, 200_000), 100)
QUICK = Lengths(1, 1.0, 0.7, 1.0, 1.0, 40, 200, 50, (2_000, 6_000), 12)


@dataclass(slots=True)
class Bench:
    """A running benchmark: the compiled wire, the upstream, a folder, the rows that are asked for, and how many requests were refused."""

    wire: Path
    mock: Mock
    folder: Path
    lengths: Lengths
    rows: tuple[Row, ...]
    missing: dict[str, str] = field(default_factory=dict)
    refused: int = 0
    _first: Iterator[int] = field(default_factory=lambda: itertools.count(0, _PROMPTS_OF_A_RUN))

    def started(self, row: Row, workers: int = 1) -> AbstractContextManager[Target]:
        """Run a row's processes while the block runs, in front of an upstream that answers at once."""
        self.mock.set()
        return row.start(Place(self.mock.address, self.folder, workers))

    def load(self, target: Target, **flags: Any) -> dict[str, Any]:
        """Ask with prompts that were never asked before."""
        report = load(self.wire, target.address, first=self.first(), **target.flags(), **flags)
        self.refused += report["refused"]
        return report

    def first(self) -> int:
        """Return a number of which prompts that follow were never asked."""
        return next(self._first) % _PROMPTS

    def loaded(self, target: Target, **flags: Any) -> tuple[dict[str, Any], Figures]:
        """Ask, and return the report with the CPU milliseconds that each request took of the gateway and of its Redis."""
        before = _used(target.process), _used(target.redis)
        report = self.load(target, **flags)
        after = _used(target.process), _used(target.redis)
        asked = report["requests"] + report["warm_up_requests"]
        cpu = [1000 * (late.cpu_seconds - early.cpu_seconds) / asked for late, early in zip(after, before, strict=True)]
        figures = {"per_second": report["requests"] / report["seconds"]}
        figures |= {"cpu_ms": cpu[0]} if target.process else {}
        return report, figures | ({"redis_cpu_ms": cpu[1]} if target.redis else {})


def _used(process: int | None) -> Used:
    return Used(0, 0) if process is None else used(process)

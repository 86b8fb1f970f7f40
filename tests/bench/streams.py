"""Streams of forty chunks, five milliseconds apart: the first byte at 32 connections, and streams per second at 256.

The first byte is measured twice. Clients that have nothing to do with each other begin evenly over the time of one stream, and stay apart,
because all streams take the same time. A herd of them, all in the same instant, stays a herd for the same reason: each then waits for
what the gateway does for half of the others. It must not know of other parts; `calm` holds the upstream's own figures of a round.
"""

from __future__ import annotations

from typing import Any

from tests.bench.exchanges import check, commits, expectation
from tests.bench.gateways import Row, Target
from tests.bench.setting import KILOBYTE, Bench, Figures

_CHUNKS, _GAP_MS, _DELAY_MS = 40, 5, 20
CHUNKS = {"chunks": _CHUNKS, "gap": f"{_GAP_MS}ms"}
CALM_CONNECTIONS, BUSY_CONNECTIONS = 32, 256
# How far apart the first and the last of the calm connections begin.
SPREADS = {"apart": f"{_DELAY_MS + (_CHUNKS - 1) * _GAP_MS}ms", "herd": "0s"}
_LAST = "word 39 "


def measure(bench: Bench, row: Row, calm: Figures) -> Figures:
    """Measure one row in one round."""
    with bench.started(row) as target:
        if target.process is not None:
            check(bench, target)
        flags: dict[str, Any] = {
            "stream": True,
            "size": KILOBYTE,
            "seconds": bench.lengths.stream_seconds,
            "warm_up": CALM_CONNECTIONS,
        }
        flags |= expectation(target, _LAST)
        figures = commits(bench, row) | _first_bytes(bench, target, flags)
        bench.mock.set(**CHUNKS)
        _, busy = bench.loaded(target, concurrency=BUSY_CONNECTIONS, **flags)
    figures |= {f"busy_{name}": value for name, value in busy.items()}
    if target.process is None:
        calm |= figures
        return figures
    added = {f"{name}_first_byte_p50_ms" for name in SPREADS}
    return figures | {f"added_{name}": figures[name] - calm[name] for name in sorted(added)}


def _first_bytes(bench: Bench, target: Target, flags: dict[str, Any]) -> Figures:
    bench.mock.set(**CHUNKS, delay=f"{_DELAY_MS}ms")
    figures = {}
    for name, spread in SPREADS.items():
        report = bench.load(target, concurrency=CALM_CONNECTIONS, spread=spread, **flags)
        figures[f"{name}_first_byte_p50_ms"] = report["first_byte_p50_ms"]
    return figures

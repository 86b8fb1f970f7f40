"""Streams of forty chunks, five milliseconds apart: the first byte at 32 connections, and streams per second at 256.

It must not know of other parts; `calm` holds the upstream's own figures of a round.
"""

from __future__ import annotations

from tests.bench.exchanges import check, commits, expectation
from tests.bench.gateways import Row
from tests.bench.setting import KILOBYTE, Bench, Figures

CHUNKS = {"chunks": 40, "gap": "5ms"}
CALM_CONNECTIONS, BUSY_CONNECTIONS = 32, 256
_LAST = "word 39 "


def measure(bench: Bench, row: Row, calm: Figures) -> Figures:
    """Measure one row in one round."""
    with bench.started(row) as target:
        if target.process is not None:
            check(bench, target)
        expected = expectation(target, _LAST)
        bench.mock.set(**CHUNKS, delay="20ms")
        flags = {"stream": True, "size": KILOBYTE, "seconds": bench.lengths.stream_seconds}
        figures = commits(bench, row)
        calm_report = bench.load(target, concurrency=CALM_CONNECTIONS, warm_up=CALM_CONNECTIONS, **flags, **expected)
        bench.mock.set(**CHUNKS)
        _, busy = bench.loaded(target, concurrency=BUSY_CONNECTIONS, warm_up=CALM_CONNECTIONS, **flags, **expected)
    figures |= {f"busy_{name}": value for name, value in busy.items()}
    figures["first_byte_p50_ms"] = calm_report["first_byte_p50_ms"]
    if target.process is None:
        calm |= figures
        return figures
    return figures | {"added_first_byte_p50_ms": figures["first_byte_p50_ms"] - calm["first_byte_p50_ms"]}

"""One worker and two: CPU per request of the same work, all processes on one core. It must not know of other parts."""

from __future__ import annotations

from tests.bench.exchanges import BUSY_CONNECTIONS
from tests.bench.gateways import Row
from tests.bench.setting import KILOBYTE, Bench, Figures

_WARM_UP = 400


def measure(bench: Bench, row: Row, calm: Figures) -> Figures:
    """Measure CPU per request with one and with two workers, one after the other, and the rise in percent."""
    figures: Figures = {}
    for workers in (1, 2):
        with bench.started(row, workers) as target:
            bench.mock.set(answer=KILOBYTE)
            flags = {"concurrency": BUSY_CONNECTIONS, "seconds": bench.lengths.throughput_seconds, "size": KILOBYTE}
            _, found = bench.loaded(target, **flags, warm_up=_WARM_UP)
            figures |= {f"{name}_{workers}": value for name, value in found.items()}
    return figures | {"rise_percent": 100 * (figures["cpu_ms_2"] / figures["cpu_ms_1"] - 1)}

"""Whole JSON answers: requests per second and CPU of a busy core, latency of a calm one and at half the maximum.

Every row gets fresh processes in every round. What is added is the difference to the upstream asked directly in the same round.
"""

from __future__ import annotations

from tests.bench.disk import commit_milliseconds
from tests.bench.gateways import Row, Target
from tests.bench.places import GATEWAY_CORE, on_core, shown, used
from tests.bench.setting import KILOBYTE, Bench, Figures

SIZES = {"1kb": KILOBYTE, "64kb": 64 * KILOBYTE}
BUSY_CONNECTIONS = 64
MOST_OPEN_LOOP_CONNECTIONS = 256
EXPECTED = "quick brown fox"
_WARM_UP = 200


def measure(bench: Bench, row: Row, calm: Figures) -> Figures:
    """Measure one row in one round; `calm` holds the upstream's own figures of this round, and is filled by its row."""
    with bench.started(row) as target:
        figures: Figures = {}
        if target.process is not None:
            check(bench, target)
            figures |= _busy(bench, target)
        figures |= commits(bench, row)
        figures |= _one_at_a_time(bench, target)
        if target.process is None:
            calm |= figures
            return figures
        figures |= {f"added_{name}": figures[name] - calm[name] for name in list(figures) if name.startswith("p50_ms")}
        figures |= _half(bench, target, figures["per_second_1kb"] / 2)
        figures["mebibytes"] = used(target.process).mebibytes
    return figures


def commits(bench: Bench, row: Row) -> Figures:
    """Measure what a durable commit costs here and now, for the row whose answers wait for one."""
    if row.key != "foresail-sqlite":
        return {}
    with on_core(GATEWAY_CORE):
        p50, p99 = commit_milliseconds(bench.folder, bench.lengths.commits)
    return {"commit_p50_ms": p50, "commit_p99_ms": p99}


def check(bench: Bench, target: Target) -> None:
    """End the run if a gateway changes an answer, whole or streamed; of those that write their own, if it lacks its words."""
    bench.mock.set(answer=KILOBYTE, chunks=40)
    for stream, expected in ((False, EXPECTED.encode()), (True, b"word 39 ")):
        got = shown(bench.wire, target.address, stream=stream, **target.flags())
        same = not target.exact or got == shown(bench.wire, bench.mock.address, stream=stream)
        if not same or expected not in got:
            raise SystemExit(f"{target.key} changes {'a stream' if stream else 'an answer'}")


def expectation(target: Target, words: str = EXPECTED) -> dict[str, str]:
    """Return what answers are checked for: their words, where each has an id of its own."""
    return {} if target.exact else {"expect": words}


def _busy(bench: Bench, target: Target) -> Figures:
    figures: Figures = {}
    for name, size in SIZES.items():
        bench.mock.set(answer=size)
        seconds = bench.lengths.throughput_seconds / (1 if size == KILOBYTE else 2)
        flags = {"concurrency": BUSY_CONNECTIONS, "seconds": seconds, "size": size}
        _, found = bench.loaded(target, **flags, warm_up=_WARM_UP, **expectation(target))
        figures |= {f"{figure}_{name}": value for figure, value in found.items()}
    return figures


def _one_at_a_time(bench: Bench, target: Target) -> Figures:
    figures: Figures = {}
    for name, size in SIZES.items():
        bench.mock.set(answer=size, delay="20ms")
        seconds = bench.lengths.latency_seconds / (1 if size == KILOBYTE else 2)
        report = bench.load(target, seconds=seconds, size=size, **expectation(target))
        figures[f"p50_ms_{name}"] = report["latency_p50_ms"]
    return figures


def _half(bench: Bench, target: Target, rate: float) -> Figures:
    """Ask at half the maximum, whether or not answers come, the gateway and then the upstream itself."""
    bench.mock.set(answer=KILOBYTE, delay="20ms")
    direct = Target("direct", bench.mock.address, None)
    figures: Figures = {"rate": rate}
    # Enough that no request waits for a connection, and not so many that one idles until a gateway closes it.
    connections = max(16, min(MOST_OPEN_LOOP_CONNECTIONS, int(rate / 4)))
    flags = {"rate": f"{rate:.1f}", "seconds": bench.lengths.open_loop_seconds, "size": KILOBYTE}
    flags |= {"concurrency": connections, "warm_up": 2 * connections}
    reports = [bench.load(asked, **flags, **expectation(asked)) for asked in (target, direct)]
    for share in ("p50", "p99"):
        with_gateway, without = (report[f"latency_{share}_ms"] for report in reports)
        figures |= {f"half_{share}_ms": with_gateway, f"added_half_{share}_ms": with_gateway - without}
    return figures

"""Memory: per idle open stream, and its growth over many requests. Both in fresh processes; it must not know of other parts."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

from tests.bench.exchanges import BUSY_CONNECTIONS, EXPECTED, expectation
from tests.bench.gateways import Row, Target
from tests.bench.places import LOAD_CORE, on_core, used, wire_command
from tests.bench.setting import KILOBYTE, Bench, Figures

_OPEN_SECONDS = 120
# Enough that code, buffers and pools that are made once are there before anything is compared.
_WARM_UP_STREAMS = 64


def measure_idle(bench: Bench, row: Row, calm: Figures) -> Figures:
    """Measure what each stream takes while it is open and nothing happens on it, in KiB."""
    with bench.started(row) as target:
        assert target.process is not None
        with _held(bench, target, _WARM_UP_STREAMS):
            pass
        before = used(target.process).mebibytes
        wanted = bench.lengths.idle_streams if target.exact else bench.lengths.idle_streams_of_peers
        with _held(bench, target, wanted) as streams:
            during = used(target.process).mebibytes
    return {"streams": streams, "kibibytes": 1024 * (during - before) / streams, "mebibytes": during}


def measure_growth(bench: Bench, row: Row, calm: Figures) -> Figures:
    """Measure how much more memory is held after many requests than after fewer, in percent."""
    first, last = bench.lengths.growth
    with bench.started(row) as target:
        assert target.process is not None
        bench.mock.set(answer=KILOBYTE)
        flags = {"concurrency": BUSY_CONNECTIONS, "seconds": 600, "size": KILOBYTE} | expectation(target, EXPECTED)
        held = []
        for requests in (first, last - first):
            # Portions, because the numbers of prompts are given out in portions.
            for _ in range(0, requests, first):
                bench.load(target, requests=min(first, requests), **flags)
            held.append(used(target.process).mebibytes)
    return {"early_mebibytes": held[0], "late_mebibytes": held[1], "growth_percent": 100 * (held[1] / held[0] - 1)}


@contextlib.contextmanager
def _held(bench: Bench, target: Target, streams: int) -> Iterator[int]:
    """Keep so many streams open, each with its first chunk and no second one, while the block runs; yield how many are."""
    bench.mock.set(chunks=1, hold=True)
    flags = {"streams": streams, "size": KILOBYTE, "first": bench.first(), **target.flags()}
    command = wire_command(bench.wire, "hold", target.address, flags)
    with on_core(LOAD_CORE):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = process.stdout.readline().decode().strip()
        if not said:
            raise SystemExit(f"{target.key} does not hold {streams} streams: {_last_words(process)}")
        yield int(said)
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=_OPEN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)
        process.stdout.close()
        if process.stderr:
            process.stderr.close()


def _last_words(process: subprocess.Popen[bytes]) -> str:
    _, errors = process.communicate(timeout=_OPEN_SECONDS)
    return errors.decode(errors="replace").strip()

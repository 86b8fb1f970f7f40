"""Sums up a CPU profile of `foresail serve` by the stages of a request: `python hack/cpu_stages.py PROFILE.raw MICROSECONDS`.

The profile is what `py-spy record --format raw --threads` writes. Of its samples those of the event loop's thread count; the microseconds of
CPU that this thread takes for one request are what their shares are multiplied by. A sample belongs to the innermost frame whose file a stage
names, so that the standard library counts for whoever called it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

# The first stage that names a part of a frame gets it; order matters.
STAGES: Sequence[tuple[str, tuple[str, ...]]] = (
    ("decision log: the fields of a line", ("decision_log.py", "decision_line.py")),
    ("bodies: read and rewrite the request, read the answer", ("foresail_sidecar/protocols/",)),
    ("key, tenant and the caller's own limits", ("foresail_sidecar/tenants/", "http/callers.py")),
    ("decide: candidates, bounds, costs, choice", ("foresail_router/decision/", "flow/decide.py", "flow/score.py")),
    (
        "ledger: reserve and settle",
        ("flow/admit.py", "flow/budgets.py", "flow/offers.py", "flow/limits.py", "foresail_sidecar/ledger/"),
    ),
    (
        "metrics, settlement and what is learned",
        ("prometheus_client/", "flow/record.py", "flow/settle.py", "flow/learned.py", "telemetry/metrics.py"),
    ),
    ("upstream: aiohttp's client", ("aiohttp/client", "aiohttp/connector.py")),
    ("upstream: ours around it, headers both ways", ("foresail_sidecar/upstreams/",)),
    ("order of the steps: handler, attempts, relay", ("foresail_sidecar/fronts/", "foresail_sidecar/flow/")),
    ("clients: aiohttp's server", ("aiohttp/",)),
)
EVENT_LOOP_THREAD = "MainThread"
LOOP = "event loop and sockets (uvloop, kernel)"


def main() -> int:
    """Print the table."""
    path, microseconds = Path(sys.argv[1]), float(sys.argv[2])
    with path.open(encoding="utf-8") as lines:
        samples = sampled(lines)
    total = sum(samples.values())
    print("| stage | us | share |\n|---|---|---|")
    for stage, count in samples.most_common():
        print(f"| {stage} | {microseconds * count / total:.0f} | {100 * count / total:.0f} % |")
    return 0


def sampled(lines: Iterable[str]) -> Counter[str]:
    """Return the samples of each stage in the thread of the event loop."""
    counts: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        thread, *frames = stack.split(";")
        if thread.endswith(EVENT_LOOP_THREAD):
            counts[stage_of(frames)] += int(count)
    return counts


def stage_of(frames: Sequence[str]) -> str:
    """Return the stage of a stack, its outermost frame first."""
    for frame in reversed(frames):
        for stage, parts in STAGES:
            if any(part in frame for part in parts):
                return stage
    return LOOP


if __name__ == "__main__":
    raise SystemExit(main())

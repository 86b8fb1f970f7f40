"""`python -m tests.bench.routed`: what a decision of the fused router takes, and what it becomes under too much load.

The gateway runs on one core, the upstream and the load on another. Rounds are interleaved, so that a slow minute of the machine falls on
everything alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import routed_page
from tests.bench.places import built_wire
from tests.bench.routed_figures import load_figures, middle, spread
from tests.bench.routed_serving import ROOT, Router, served

TARGET = ROOT / "benchmarks" / "results" / "routed.json"
ARTIFACT = ROOT / "examples" / "demo" / "artifact"
TOKENS = 128
DEADLINE_MILLISECONDS = 250
RATE = 60
RATES = (20, 60, 90, 120, 150, 180, 240, 360)
QUICK_RATES = (60, 240)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; `--write` also writes the figures and the page that shows them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--artifact", type=Path, default=ARTIFACT, help="the router (default: the demo's)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--write", action="store_true", help=f"write {TARGET.relative_to(ROOT)} and its page")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="foresail-bench-") as scratch:
        figures = measure(
            built_wire(), Path(scratch), 1 if options.quick else options.rounds, options.artifact, quick=options.quick
        )
    print(json.dumps(figures, indent=2))
    if options.write:
        TARGET.write_text(json.dumps(figures, indent=1) + "\n")
        routed_page.main()
    return 0


def measure(wire: Path, folder: Path, rounds: int, artifact: Path = ARTIFACT, *, quick: bool = False) -> dict[str, Any]:
    """Return the figures of all rounds; `wire` is the compiled mock upstream, `folder` an empty one to work in."""
    counts, seconds = (40, 2.0) if quick else (150, 6.0)
    load_before = os.getloadavg()[0]
    alone: dict[str, list[float]] = {}
    one_at_a_time: list[float] = []
    repeated: list[float] = []
    by_rate: dict[int, list[dict[str, Any]]] = {rate: [] for rate in (QUICK_RATES if quick else RATES)}
    with served(wire, artifact, folder, tokens=TOKENS, deadline_milliseconds=DEADLINE_MILLISECONDS) as router:
        router.ask(router.new_prompts(30))
        for number in range(rounds):
            for name, times in router.alone(counts).items():
                alone.setdefault(name, []).append(middle(times))
            one_at_a_time.append(middle(_decisions(router, router.new_prompts(counts))))
            repeated.append(_repeated(router, counts))
            for rate in by_rate:
                # At the rate of the target, a share of 99 % needs some hundred prompts.
                count = round(rate * (3 * seconds if rate == RATE else seconds))
                by_rate[rate].append(load_figures(router.ask(router.new_prompts(count), rate), DEADLINE_MILLISECONDS))
            print(f"round {number + 1} of {rounds} done", flush=True)
        models = router.models
    return {
        "facts": {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{_cpu_model()}, {os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}",
            "models": models,
            "tokens": TOKENS,
            "deadline_milliseconds": DEADLINE_MILLISECONDS,
            "rounds": rounds,
            "load_average": [load_before, os.getloadavg()[0]],
        },
        "alone": {name: spread(values) for name, values in alone.items()},
        "one_at_a_time": spread(one_at_a_time),
        "beyond_forward": _beyond(one_at_a_time, alone["forward"]),
        "beyond_repeated_forward": _beyond(one_at_a_time, alone["forward_repeated"]),
        "repeated": spread(repeated),
        "by_rate": {str(rate): _joined(figures) for rate, figures in by_rate.items()},
    }


def _beyond(wholes: Sequence[float], parts: Sequence[float]) -> list[float]:
    return spread([whole - part for whole, part in zip(wholes, parts, strict=True)])


def _decisions(router: Router, texts: Sequence[str]) -> list[float]:
    answers = router.ask(texts)
    if wrong := [answer for answer in answers if answer["basis"] != "Learned"]:
        raise SystemExit(f"{len(wrong)} of {len(answers)} decisions were not the router's: {wrong[0]}")
    return [answer["decision"] for answer in answers]


def _repeated(router: Router, count: int) -> float:
    texts = router.new_prompts(10)
    router.ask(texts)
    return middle(_decisions(router, [texts[number % len(texts)] for number in range(count)]))


def _joined(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "requests": sum(figures["requests"] for figures in rounds),
        **{name: spread([figures[name] for figures in rounds]) for name in rounds[0] if name != "requests"},
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    raise SystemExit(main())

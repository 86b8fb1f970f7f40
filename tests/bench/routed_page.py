"""Writes the figures of routed decisions into their page of the documentation, and draws what becomes of them under load.

    python -m tests.bench.routed_page       # from benchmarks/results/routed.json and encoders.json, as far as they are there

The page says where a table goes: `<!-- figures: NAME -->` up to `<!-- end of figures -->`. It must not know how anything is measured.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks" / "decisions.md"
IMAGE = ROOT / "docs" / "images" / "decisions-under-load.svg"
_BLOCK = re.compile(r"(<!-- figures: (\S+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
_TARGET_BEYOND, _TARGET_SHARE, _TARGET_REPEATED = 1.0, 0.99, 0.3
Figures = Mapping[str, Any]


def main() -> int:
    """Write the page's tables and the image."""
    routed, encoders = _read("routed"), _read("encoders")
    tables: dict[str, Callable[[], str]] = {}
    if routed:
        tables |= {name: lambda kind=kind: kind(routed) for name, kind in ROUTED.items()}
        IMAGE.write_text(drawn(routed))
    if encoders:
        tables |= {name: lambda kind=kind: kind(encoders) for name, kind in ENCODERS.items()}
    PAGE.write_text(_BLOCK.sub(lambda found: _filled(found, tables), PAGE.read_text()))
    return 0


def targets(figures: Figures) -> str:
    """Return the three targets with what was measured."""
    at_rate = figures["by_rate"]["60"]
    rows = [
        (
            "a new prompt of 128 tokens, one at a time: decision p50 beyond the forward pass",
            f"<= {_TARGET_BEYOND} ms",
            f"{_spread(figures['beyond_forward'])} ms; {_spread(figures['beyond_repeated_forward'])} ms beyond one that is repeated",
            figures["beyond_forward"][0] <= _TARGET_BEYOND,
        ),
        (
            "60 new prompts a second: scored within the deadline",
            f">= {_TARGET_SHARE:.0%}",
            f"{_percent(at_rate['scored'])} of {at_rate['requests']:,}",
            at_rate["scored"][0] >= _TARGET_SHARE,
        ),
        (
            "a repeated prompt: decision p50",
            f"<= {_TARGET_REPEATED} ms",
            f"{_spread(figures['repeated'])} ms",
            figures["repeated"][0] <= _TARGET_REPEATED,
        ),
    ]
    lines = [["" if met else "**missed**", name, asked, measured] for name, asked, measured, met in rows]
    return _table(["", "target", "asked", "measured"], lines)


def parts(figures: Figures) -> str:
    """Return where the time of one decision goes."""
    alone = {name: figures["alone"][name] for name in ("tokenizer", "forward", "strategy")}
    whole = figures["one_at_a_time"]
    rest = whole[0] - sum(value[0] for value in alone.values())
    names = {
        "tokenizer": "tokenizer",
        "forward": "forward pass of the encoder",
        "strategy": "strategy: words, view, components",
    }
    lines = [[names[name], _spread(value)] for name, value in alone.items()]
    repeated = figures["alone"]["forward_repeated"]
    lines.insert(2, ["(the same, repeated back to back: nothing else in the caches)", f"({_spread(repeated)})"])
    lines += [
        ["the rest: parsing, eliminating, pricing, deciding, two changes of thread", f"{rest:.2f}"],
        ["**decision**", f"**{_spread(whole)}**"],
    ]
    return _table(["p50 of a new prompt of 128 tokens, one at a time", "ms"], lines)


def by_rate(figures: Figures) -> str:
    """Return a row per rate."""
    head = [
        "new prompts per second",
        "scored, %",
        "decision p50, ms",
        "decision p99, ms",
        "longest, ms",
        "without a score: told at once, %",
        "their p99, ms",
    ]
    lines = []
    for rate, row in figures["by_rate"].items():
        refused = row["scored"][0] < 1
        lines.append(
            [
                rate,
                _percent(row["scored"], sign=False),
                _spread(row["decision_p50"], 1),
                _spread(row["decision_p99"], 1),
                f"{row['decision_most'][2]:.0f}",
                _percent(row["at_once"], sign=False) if refused else "",
                _spread(row["refused_p99"], 1) if refused else "",
            ]
        )
    return _table(head, lines)


def method(figures: Figures) -> str:
    """Return one sentence on when and where."""
    facts = figures["facts"]
    return (
        f"Measured on {facts['date']}: {facts['machine']}; a router of {facts['models']} models, deadline {facts['deadline_milliseconds']} ms, "
        f"{facts['rounds']} rounds, medians with the lowest and the highest round in brackets; load average of the machine "
        f"{facts['load_average'][0]:.1f} before and {facts['load_average'][1]:.1f} after.\n"
    )


def runtimes(figures: Figures) -> str:
    """Return forward passes by runtime and length."""
    lengths = list(next(iter(figures["runtimes"].values()))["p50"])
    head = ["forward pass, p50 / p99 in ms", *(f"{length} tokens" for length in lengths)]
    lines = [
        [name, *(f"{row['p50'][length][0]:.2f} / {row['p99'][length][0]:.2f}" for length in lengths)]
        for name, row in figures["runtimes"].items()
    ]
    return _table(head, lines)


def effects(figures: Figures) -> str:
    """Return what each runtime's vectors do to a router that was trained on float32."""
    head = [
        "",
        "cosine to float32, mean",
        "least",
        "choices changed, %",
        "quality, points (standard error)",
        "ECE",
        "quality estimates moved by, mean",
    ]
    rows = {**figures["runtimes"], "*onnxruntime int8, trained on int8 too*": figures["trained_on_int8"]}
    lines = [
        [
            name,
            f"{row['cosine_mean']:.4f}",
            f"{row['cosine_least']:.4f}",
            f"{100 * row['changed']:.1f}",
            f"{row['points']:+.2f} ({row['points_error']:.2f})" if row["changed"] else "0",
            f"{row['ece']:.4f}",
            f"{row['moved']:.4f}",
        ]
        for name, row in rows.items()
    ]
    return _table(head, lines)


def drawn(figures: Figures) -> str:
    """Return the share scored and the time of decisions over the rate, as SVG; the same figures give the same text."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    rates = [float(rate) for rate in figures["by_rate"]]
    rows = list(figures["by_rate"].values())
    # Typed by matplotlib by the names of all settings there are.
    style: Any = {"svg.hashsalt": "decisions", "svg.fonttype": "none", "font.size": 9, "axes.grid": True}
    with mpl.rc_context(style | {"grid.color": "#eef1f4", "axes.spines.top": False, "axes.spines.right": False}):
        figure, (share, times) = pyplot.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
        low, high = ([100 * row["scored"][at] for row in rows] for at in (1, 2))
        share.fill_between(rates, low, high, color="#1f6feb", alpha=0.15, linewidth=0)
        share.plot(rates, [100 * row["scored"][0] for row in rows], "o-", color="#1f6feb", markersize=4)
        share.set(title="scored within the deadline", ylabel="% of decisions", ylim=(0, 104))
        for name, label, colour in (("decision_p50", "p50", "#2f855a"), ("decision_p99", "p99", "#d9730d")):
            times.plot(rates, [row[name][0] for row in rows], "o-", label=label, color=colour, markersize=4)
        deadline = figures["facts"]["deadline_milliseconds"]
        times.axhline(deadline, linestyle="--", color="#7b8794", linewidth=1, label="deadline")
        times.set(title="time of a decision", ylabel="ms", ylim=(0, 1.2 * deadline))
        times.legend(frameon=False)
        for axes in (share, times):
            axes.set(xlabel="new prompts per second", xlim=(0, None))
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


ROUTED: Mapping[str, Callable[[Figures], str]] = {
    "targets": targets,
    "parts": parts,
    "by-rate": by_rate,
    "method": method,
}
ENCODERS: Mapping[str, Callable[[Figures], str]] = {"runtimes": runtimes, "effects": effects}


def _read(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _filled(found: re.Match[str], tables: Mapping[str, Callable[[], str]]) -> str:
    before, name, after = found.groups()
    return f"{before}{tables[name]()}{after}" if name in tables else found[0]


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)) + "\n"


def _spread(value: Sequence[float], digits: int = 2) -> str:
    return f"{value[0]:.{digits}f} ({value[1]:.{digits}f} to {value[2]:.{digits}f})"


def _percent(value: Sequence[float], *, sign: bool = True) -> str:
    shown = [100 * each for each in value]
    return _spread(shown, 1) + (" %" if sign else "")


if __name__ == "__main__":
    raise SystemExit(main())

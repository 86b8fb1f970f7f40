"""Writes the tables of benchmark figures in the documentation from the figures in benchmarks/results, which it takes from benchmark runs.

    python hack/benchmark_tables.py all RUN_DIR     # take report.csv and report.json of a run as benchmarks/results/all.*, write the tables
    python hack/benchmark_tables.py                 # write the tables from what is in benchmarks/results

RUN_DIR is the output of `foresail benchmark` (`report.csv`, `report.json`) or of `foresail lookahead experiment` (`results.json`). A
page says where a table goes: `<!-- table: NAME KIND -->` up to `<!-- end of table -->`. It must not know how a figure is worked out.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    ROOT / "README.md",
    ROOT / "docs" / "benchmarks" / "routing.md",
    ROOT / "docs" / "concepts" / "learning.md",
)
RESULTS = ROOT / "benchmarks" / "results"
_TABLE = re.compile(r"(<!-- table: (\S+) (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
_NOT_RUN = "*Not run yet.*\n"
_LOOKAHEAD_FACTS = (
    *("variant", "response_modelling", "learning_rate", "seed", "prompts", "steps", "seconds"),
    *("validation_score", "best_step", "trained_parameters", "test"),
)

_ANSWERED = ("answered_models", "answered_outcomes")

Row = Sequence[str]


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its interval, where it has one."""

    value: float
    low: float | None
    high: float | None

    def text(self, form: str, scale: float = 1.0) -> str:
        """Return the value and its interval."""
        shown = f"{scale * self.value:{form}}"
        if self.low is None or self.high is None:
            return shown
        return f"{shown} [{scale * self.low:{form}}, {scale * self.high:{form}}]"

    def marked(self, form: str, scale: float = 1.0) -> str:
        """Return the value, bold where the interval excludes zero."""
        apart = self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)
        shown = f"{scale * self.value:{form}}"
        return f"**{shown}**" if apart else shown


@dataclass(frozen=True, slots=True)
class Run:
    """A benchmark's figures by pool, name and figure, its facts: focus, pools, strategies, targets, run, and the names of its pairs."""

    facts: dict[str, Any]
    figures: dict[tuple[str, str, str], Figure]
    pairs: tuple[str, ...] = ()

    @property
    def pools(self) -> list[str]:
        """The pools in the run's order."""
        return [pool["name"] for pool in self.facts["pools"]]

    @property
    def strategies(self) -> list[str]:
        """The strategies in the run's order."""
        return list(dict.fromkeys(name for pool in self.facts["pools"] for name in pool["strategies"]))

    def get(self, pool: str, name: str, figure: str) -> Figure | None:
        """Return a figure, if it is there."""
        return self.figures.get((pool, name, figure))

    def mean(self, title: str, name: str) -> Figure | None:
        """Return a mean over pools, by what its title begins with."""
        titles = sorted({figure for pool, _, figure in self.figures if not pool and figure.startswith(title)})
        return self.get("", name, titles[0]) if titles else None


def take(name: str, directory: Path) -> None:
    """Copy a run's figures to benchmarks/results; raises `FileNotFoundError` where it has none."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    experiment = directory / "results.json"
    if experiment.exists():
        found = json.loads(experiment.read_text())
        runs = [{fact: run.get(fact) for fact in _LOOKAHEAD_FACTS} for run in found["runs"]]
        _write(name, {key: found[key] for key in ("experiment", "models", "comparisons")} | {"runs": runs})
        return
    report = json.loads((directory / "report.json").read_text())
    pools = [
        {key: pool[key] for key in ("name", "prompts", "priced_prompts", "groups", "best_single", "hindsight_best")}
        | {
            "strategies": {
                variant["name"]: {
                    key: variant[key] for key in ("strategy", "baseline", "failed", "configurations") if variant[key]
                }
                for variant in pool["variants"]
            }
        }
        | {share: pool[share] for share in _ANSWERED if pool.get(share) is not None}
        for pool in report["pools"]
    ]
    _write(name, {key: report[key] for key in ("focus", "run", "targets")} | {"pools": pools})
    (RESULTS / f"{name}.csv").write_text((directory / "report.csv").read_text())


def render_page(page: str, results: Path = RESULTS) -> str:
    """Return the page with its tables written anew; a table whose run is not there says so."""

    def table(found: re.Match[str]) -> str:
        head, name, kind, end = found.groups()
        path = results / f"{name}.json"
        return f"{head}{_render(kind, path) if path.exists() else _NOT_RUN}{end}"

    return _TABLE.sub(table, page)


def _write(name: str, content: object) -> None:
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def _render(kind: str, path: Path) -> str:
    facts = json.loads(path.read_text())
    if kind == "lookahead":
        return _lookahead(facts)
    figures = {}
    pairs: dict[str, None] = {}
    with path.with_suffix(".csv").open(newline="") as file:
        for row in csv.DictReader(file):
            low, high = (float(row[side]) if row[side] else None for side in ("low", "high"))
            figures[row["pool"], row["name"], row["figure"]] = Figure(float(row["value"]), low, high)
            if row["kind"] == "pair":
                pairs[row["name"]] = None
    return _KINDS[kind](Run(facts, figures, tuple(pairs)))


def _markdown(rows: Iterable[Row]) -> str:
    head, *rest = rows
    lines = [f"| {' | '.join(row)} |" for row in (head, *rest)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]]) + "\n"


def _short(pool: str) -> str:
    return pool.removesuffix(":default").replace(":", " ")


def _ordered(run: Run, title: str, *, lowest: bool = False) -> list[str]:
    means = {name: found.value for name in run.strategies if (found := run.mean(title, name)) is not None}
    rest = [name for name in run.strategies if name not in means]
    return sorted(means, key=lambda name: means[name], reverse=not lowest) + rest


def _quality(run: Run) -> str:
    targeted = "mean gap closed, targeted"
    title = targeted if run.mean(targeted, run.facts["focus"]) else "mean gap closed"
    rows: list[Row] = [["points above the hindsight best single", *map(_short, run.pools), "gap closed, %"]]
    for name in [*_ordered(run, title), "known label (reference)", "oracle (reference)"]:
        cells = [run.get(pool, name, "gain_hindsight") for pool in run.pools]
        mean = run.mean(title, name)
        rows.append(
            [name, *(cell.marked("+.2f") if cell else "" for cell in cells), f"{100 * mean.value:.1f}" if mean else ""]
        )
    return _markdown(rows)


def _gap(run: Run) -> str:
    rows: list[Row] = [["gap closed, %", *map(_short, run.pools)]]
    for name in run.strategies:
        cells = [run.get(pool, name, "gap_closed") for pool in run.pools]
        rows.append([name, *(cell.text(".1f", 100) if cell else "" for cell in cells)])
    return _markdown(rows)


# Those on which quality is targeted.
_GAINED = ("mmlu_pro:default", "reasoning_gym:default", "lookahead:default", "routerdc7:default")
_OURS = ("fused", "task-aware", "latent-lookahead")


def _summary(run: Run) -> str:
    """Our strategies beside the best tuned baseline in quality, and the one in cost."""
    gap, cost = "mean gap closed, targeted", "cost to match, geometric mean"
    baselines = {
        name for pool in run.facts["pools"] for name, facts in pool["strategies"].items() if facts.get("baseline")
    }
    best = {
        "best tuned baseline in quality": next((n for n in _ordered(run, gap) if n in baselines), None),
        "best tuned baseline in cost": next((n for n in _ordered(run, cost, lowest=True) if n in baselines), None),
    }
    shown = {name: name for name in _OURS} | {f"{name}, {what}": name for what, name in best.items() if name}
    pools = [pool for pool in _GAINED if pool in run.pools]
    rows: list[Row] = [["", *map(_short, pools), "mean gap closed, %", "cost to match, x"]]
    for label, name in shown.items():
        cells = [run.get(pool, name, "gain_hindsight") for pool in pools]
        means = (run.mean(gap, name), ".1f", 100.0), (run.mean(cost, name), ".3f", 1.0)
        rows.append(
            [
                label,
                *(cell.text("+.2f") if cell else "" for cell in cells),
                *(found.text(form, scale) if found else "" for found, form, scale in means),
            ]
        )
    return _markdown(rows)


_SIMPLE = (
    ("cheapest single within 1 point", "cheapest_within_1_point_cost_ratio"),
    ("hull of singles, 1 point below", "hull_of_singles_1_point_below_cost_ratio"),
)


def _cost(run: Run) -> str:
    title = next(
        (figure for pool, _, figure in run.figures if not pool and "geometric" in figure), "geometric mean (none)"
    )
    pools = [pool for pool in run.pools if any(run.get(pool, name, "match_cost_ratio") for name in run.strategies)]
    rows: list[Row] = [["cost to match, x best single", *map(_short, pools), "geometric mean"]]
    for name in _ordered(run, title, lowest=True):
        cells = []
        for pool in pools:
            ratio, matched = run.get(pool, name, "match_cost_ratio"), run.get(pool, name, "matched")
            shown = f"{ratio.value:.3f}" if ratio else ""
            cells.append(shown if matched is None or matched.value else f"({shown})")
        mean = run.mean(title, name)
        rows.append([name, *cells, f"{mean.value:.3f}" if mean else ""])
    for name, figure in _SIMPLE:
        simple = [run.get(pool, "single models", figure) for pool in pools]
        rows.append([f"*{name}*", *(f"{cell.value:.3f}" if cell else "" for cell in simple), ""])
    return _markdown(rows)


_FOCUS = (
    ("points above hindsight best", "gain_hindsight", "+.2f", 1),
    ("above training best", "gain", "+.2f", 1),
    ("gap closed, %", "gap_closed", ".1f", 100),
    ("cost to match", "match_cost_ratio", ".3f", 1),
    ("points there", "match_gain", "+.2f", 1),
)
_TRUST = (
    ("ECE", "ece", ".3f", 1),
    ("Brier, better than constant", "brier_gain", "+.4f", 1),
    ("chosen: foreseen - realised", "chosen_error", "+.3f", 1),
    ("regret", "regret", ".4f", 1),
    ("without the 20 % most uncertain", "regret_kept_20%", ".4f", 1),
    ("lengths below p90, %", "coverage", ".1f", 100),
    ("least of a model, %", "coverage_least", ".1f", 100),
    ("most, %", "coverage_most", ".1f", 100),
    ("pinball below marginal, %", "pinball_gain", ".1f", 100),
)
_CURVE = (
    ("AIQ", "aiq", ".4f", 1),
    ("over log cost", "aiq_log", ".4f", 1),
    ("as RouterBench", "aiq_routerbench", ".4f", 1),
    ("points at the best single's cost", "gain_at_best_cost", "+.2f", 1),
    ("RouterArena", "arena", ".4f", 1),
)


def _answers(run: Run) -> str:
    """The gain of strategies that learn from answers, beside how many models and outcomes have answers."""
    names = [name for name in run.strategies if "latent" in _strategy(run, name)]
    rows: list[Row] = [
        ["pool", "models with answers, %", "outcomes with answers, %", *(f"{name}, points" for name in names)]
    ]
    for pool in run.facts["pools"]:
        shares = [pool.get(share) for share in _ANSWERED]
        gains = [run.get(pool["name"], name, "gain_hindsight") for name in names]
        rows.append(
            [
                _short(pool["name"]),
                *("" if share is None else f"{100 * share:.0f}" for share in shares),
                *(gain.text("+.2f") if gain else "" for gain in gains),
            ]
        )
    return _markdown(rows)


def _strategy(run: Run, name: str) -> str:
    found = (pool["strategies"][name].get("strategy", "") for pool in run.facts["pools"] if name in pool["strategies"])
    return str(next(found, ""))


_STRONG = ("apgr", "cpt50", "cpt80")


def _of_focus(run: Run, columns: Sequence[tuple[str, str, str, float]]) -> str:
    focus = run.facts["focus"]
    rows: list[Row] = [["pool", "prompts", *(heading for heading, *_ in columns)]]
    for pool in run.facts["pools"]:
        cells = [(run.get(pool["name"], focus, figure), form, scale) for _, figure, form, scale in columns]
        shown = [found.text(form, scale) if found else "" for found, form, scale in cells]
        rows.append([_short(pool["name"]), f"{pool['prompts']:,}", *shown])
    return _markdown(rows)


def _pairs(run: Run) -> str:
    pool = next((pool for pool in run.pools if run.get(pool, run.facts["focus"], "apgr")), None)
    if pool is None:
        return _NOT_RUN
    rows: list[Row] = [[_short(pool), "APGR", "CPT(50 %)", "CPT(80 %)"]]
    for name in run.strategies:
        cells = [run.get(pool, name, figure) for figure in _STRONG]
        rows.append([name, *(cell.text(".3f") if cell else "" for cell in cells)])
    return _markdown(rows)


def _targets(run: Run) -> str:
    state = {True: "met", False: "**missed**", None: "open"}
    rows = [
        [state[target["met"]], target["name"], target["asked"], target["measured"]] for target in run.facts["targets"]
    ]
    return _markdown([["", "target", "asked", "measured"], *rows])


def _effort(run: Run) -> str:
    took = run.facts["run"]
    pools = [pool for pool in run.pools if any(run.get(pool, name, "fit_seconds") for name in run.strategies)]
    rows: list[Row] = [["fit of a fold, seconds (mean)", *map(_short, pools), "one prompt, ms", "arrays, MiB"]]
    for name in run.strategies:
        fits = [run.get(pool, name, "fit_seconds") for pool in pools]
        slowest = [
            max((found.value for pool in pools if (found := run.get(pool, name, figure))), default=None)
            for figure in ("latency_p50_ms", "state_mib")
        ]
        cells = [f"{fit.value:.1f}" if fit else "" for fit in fits]
        rows.append([name, *cells, *("" if value is None else f"{value:.2f}" for value in slowest)])
    cpu = f", {took['cpu_seconds'] / 60:.0f} of CPU" if "cpu_seconds" in took else ""
    most = "" if took.get("memory_watched", True) else "at most "
    cells_done = f"{took['cells']:,} cells ({took['cells_found']:,} of them done before), {took['processes']} processes of one thread"
    return (
        f"{cells_done}: fits of {took['fitting_seconds'] / 60:.0f} minutes, a run of {took['seconds'] / 60:.1f} minutes{cpu}; "
        f"peak memory {most}{took['peak_total_mib'] / 1024:.2f} GiB in all processes. {took['seeds']} seed(s), {took['folds']} folds by {took['folds_by']}.\n\n"
        + _markdown(rows)
    )


def _ablation(run: Run) -> str:
    focus = run.facts["focus"]
    rows: list[Row] = [["", *(f"{_short(pool)}" for pool in run.pools)]]
    for name in run.strategies:
        cells = []
        for pool in run.pools:
            gain, apart = run.get(pool, name, "gain_hindsight"), run.get(pool, f"{focus} - {name}", "points")
            shown = f"{gain.value:+.2f}" if gain else ""
            # Shown as the change that the ablation makes, so that a component which helps has a loss beside its absence.
            if apart is not None and apart.low is not None and apart.high is not None:
                shown += f" ({_less(apart.value)} [{_less(apart.high)}, {_less(apart.low)}])"
            cells.append(shown)
        rows.append([name, *cells])
    return _markdown(rows) + _counterparts(run)


def _counterparts(run: Run) -> str:
    """Return the table of variants that were compared with their own counterparts, if any were."""
    if not run.pairs:
        return ""
    rows: list[Row] = [["difference in points, p corrected over these rows (Holm)", *map(_short, run.pools)]]
    for name in run.pairs:
        cells = []
        for pool in run.pools:
            points, p = run.get(pool, name, "points"), run.get(pool, name, "p_holm")
            cells.append(f"{points.text('+.2f')}, p {p.value:.3f}" if points and p else "")
        rows.append([" minus ".join(f"*{side}*" for side in name.split(" - ")), *cells])
    return "\n" + _markdown(rows)


def _less(value: float) -> str:
    """Return a change the other way round, never as a negative zero."""
    return f"{0.0 - round(value, 9):+.2f}"


def _lookahead(facts: dict[str, Any]) -> str:
    rows: list[Row] = [
        [
            "",
            "response modelling",
            "learning rate",
            "seed",
            "validation",
            "points above hindsight best",
            "gap closed, %",
            "minutes",
        ]
    ]
    for run in facts["runs"]:
        test = run["test"]
        shown = (
            [f"{test['gain_over_hindsight_best_points']:+.2f}", f"{100 * test['gap_closed']:.1f}"] if test else ["", ""]
        )
        response = "with" if run["response_modelling"] else "without"
        facts_of_run = [run["variant"], response, f"{run['learning_rate']:g}", str(run["seed"])]
        rows.append([*facts_of_run, f"{100 * run['validation_score']:.2f}", *shown, f"{run['seconds'] / 60:.0f}"])
    lines = []
    for variant, found in facts["comparisons"].items():
        if found is None:
            lines.append(f"- {variant}: no comparison yet")
            continue
        low, high = found["interval_points"]
        lines.append(
            f"- {variant}, with minus without, {len(found['seeds'])} seed(s): "
            f"{found['with_minus_without_points']:+.2f} points [{low:+.2f}, {high:+.2f}]"
        )
    return _markdown(rows) + "\n" + "\n".join(lines) + "\n"


_KINDS: dict[str, Callable[[Run], str]] = {
    "summary": _summary,
    "quality": _quality,
    "gap": _gap,
    "cost": _cost,
    "focus": lambda run: _of_focus(run, _FOCUS),
    "trust": lambda run: _of_focus(run, _TRUST),
    "curve": lambda run: _of_focus(run, _CURVE),
    "pairs": _pairs,
    "answers": _answers,
    "targets": _targets,
    "effort": _effort,
    "ablation": _ablation,
}


def main(arguments: Sequence[str]) -> None:
    """Take a run's figures where two arguments are given, and write the pages."""
    if len(arguments) == 2:
        take(arguments[0], Path(arguments[1]))
    elif arguments:
        raise SystemExit("usage: benchmark_tables.py [NAME RUN_DIR]")
    for page in PAGES:
        page.write_text(render_page(page.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])

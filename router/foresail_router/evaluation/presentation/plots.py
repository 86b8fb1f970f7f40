"""Plots as SVG text that stands in an HTML page. It must not know how figures came about, nor fetch or write anything."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from foresail_router.evaluation.benchmark.results import PoolResult, Summary, TaskChoices, VariantResult
from foresail_router.evaluation.metrics.frontier import non_decreasing_hull

_INK, _GREY, _PALE, _BLUE, _ORANGE, _GREEN = "#1f2933", "#7b8794", "#cbd2d9", "#1f6feb", "#d9730d", "#2f855a"
_MOST_TASKS = 40
_LEAST_SHARE = 0.005
# Where more single models are shown, only those on the hull are named.
_MOST_NAMED = 20
# Typed by matplotlib by the names of all settings there are.
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 8.5,
    "text.parse_math": False,
    "text.color": _INK,
    "axes.edgecolor": _PALE,
    "axes.labelcolor": _INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eef1f4",
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def cost_quality(pool: PoolResult, focus: VariantResult, other: VariantResult | None) -> str:
    """Return quality over cost: every single model, their hull, the focus and one other router."""
    singles = [single for single in pool.singles if single.cost_usd is not None]
    cost = np.array([1000 * (single.cost_usd or 0.0) for single in singles])
    quality = np.array([single.quality for single in singles])
    with _figure(f"cost {pool.name}", 6.2, 4.2) as (figure, svg):
        axes = figure.subplots()
        hull = non_decreasing_hull(cost, quality)
        axes.plot(cost[hull], quality[hull], "--", color=_GREY, linewidth=1, label="hull of single models")
        axes.scatter(cost, quality, s=18, color=_PALE, edgecolor=_GREY, linewidth=0.6, zorder=3, label="single models")
        named = {*hull.tolist(), int(quality.argmax())}
        for number, single in enumerate(singles):
            strong = number in named
            if not strong and len(singles) > _MOST_NAMED:
                continue
            axes.annotate(
                single.name[-34:],
                (cost[number], quality[number]),
                xytext=(3, -8),
                textcoords="offset points",
                fontsize=6.5 if strong else 5,
                color=_INK if strong else _GREY,
            )
        for variant, colour in ((other, _ORANGE), (focus, _BLUE)):
            if variant is not None and variant.curve:
                points = np.array(variant.curve)
                chosen = non_decreasing_hull(points[:, 0], points[:, 1])
                axes.plot(1000 * points[:, 0], points[:, 1], ".", color=colour, alpha=0.35, markersize=4)
                axes.plot(1000 * points[chosen, 0], points[chosen, 1], color=colour, linewidth=1.6, label=variant.name)
        if (cost > 0).all():
            _logarithmic(axes)
        axes.set(xlabel="US dollars per 1,000 prompts", ylabel="mean quality", title="Cost and quality")
        axes.legend(loc="best")
    return svg[0]


def gains(pool: PoolResult, focus: str) -> str:
    """Return each variant's points above the hindsight best single, with intervals."""
    shown = [variant for variant in pool.variants if variant.failed is None and "gain_hindsight" in variant.figures]
    shown.sort(key=lambda variant: variant.figures["gain_hindsight"].value)
    with _figure(f"gains {pool.name}", 6.2, 1.0 + 0.2 * max(len(shown), 4)) as (figure, svg):
        axes = figure.subplots()
        for row, variant in enumerate(shown):
            found = variant.figures["gain_hindsight"]
            colour = _BLUE if variant.name == focus else _GREY
            axes.plot([found.low or found.value, found.high or found.value], [row, row], color=colour, linewidth=1.4)
            axes.plot(found.value, row, "o", color=colour, markersize=4)
        axes.axvline(0, color=_INK, linewidth=0.8)
        axes.set_yticks(range(len(shown)), [variant.name for variant in shown])
        best = [variant.figures["gain_hindsight"].value for variant in shown]
        if best and min(best) < -12:
            axes.set_xlim(left=-12)
        axes.set(xlabel="points of quality, cost left aside", title="Above the hindsight best single model")
    return svg[0]


def calibration(pool: str, variants: Sequence[tuple[str, Sequence[tuple[float, float, int]]]]) -> str:
    """Return realised over predicted quality in bins of equal mass."""
    with _figure(f"calibration {pool}", 4.2, 3.8) as (figure, svg):
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=_PALE, linewidth=1)
        for (name, bins), colour in zip(variants, (_BLUE, _ORANGE), strict=False):
            axes.plot([row[0] for row in bins], [row[1] for row in bins], "o-", color=colour, markersize=4, label=name)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted quality", ylabel="realised quality", title="Calibration")
        axes.set_aspect("equal")
        axes.legend(loc="upper left")
    return svg[0]


def length_coverage(pool: str, models: Sequence[str], coverage: Sequence[float | None]) -> str:
    """Return how many answers of each model are no longer than their predicted 90 % quantile."""
    rows = [(model, value) for model, value in zip(models, coverage, strict=True) if value is not None]
    with _figure(f"lengths {pool}", 5.2, 1.0 + 0.17 * max(len(rows), 5)) as (figure, svg):
        axes = figure.subplots()
        axes.axvspan(85, 95, color="#e6f4ea")
        axes.axvline(90, color=_GREEN, linewidth=1)
        axes.plot([100 * value for _, value in rows], range(len(rows)), "o", color=_BLUE, markersize=4)
        axes.set_yticks(range(len(rows)), [model[-34:] for model, _ in rows], fontsize=6.5)
        low = min([84.0, *(100 * value - 1 for _, value in rows)])
        axes.set(xlim=(low, 100), xlabel="% of answers inside the 90 % quantile", title="Length coverage per model")
    return svg[0]


def task_map(pool: str, models: Sequence[str], choices: TaskChoices) -> str:
    """Return which models are chosen for which tasks, as shares: models that are hardly chosen are left out."""
    shares = np.array(choices.shares)[:_MOST_TASKS]
    used = np.flatnonzero(np.average(shares, axis=0, weights=choices.prompts[:_MOST_TASKS]) >= _LEAST_SHARE)
    used = used if used.size else np.array([int(shares.sum(axis=0).argmax())])
    labels = [f"{task[-30:]} ({count})" for task, count in zip(choices.tasks, choices.prompts, strict=True)][
        :_MOST_TASKS
    ]
    with _figure(f"tasks {pool}", 2.6 + 0.36 * max(len(used), 6), 1.9 + 0.17 * len(labels)) as (figure, svg):
        axes = figure.subplots()
        # Cells as shapes, not as a picture: a picture would be linked or encoded.
        mesh = axes.pcolormesh(shares[::-1][:, used], cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=0.5)
        axes.set_yticks(np.arange(len(labels)) + 0.5, labels[::-1], fontsize=6.5)
        axes.set_xticks(
            np.arange(len(used)) + 0.5,
            [models[int(number)][-26:] for number in used],
            rotation=60,
            ha="right",
            fontsize=6.5,
        )
        axes.grid(visible=False)
        axes.set_title("Chosen models by task (prompts)")
        bar = figure.colorbar(mesh, ax=axes, shrink=0.6, pad=0.02)
        bar.solids.set(rasterized=False, edgecolor="face")
        bar.outline.set_visible(False)
    return svg[0]


def latency(summary: Summary) -> str:
    """Return the time of one decision after the encoder: the median and the 99th percentile, on the pool where each is slowest."""
    slowest: dict[str, tuple[float, float]] = {}
    for pool in summary.pools:
        for variant in pool.variants:
            p50, p99 = variant.figures.get("latency_p50_ms"), variant.figures.get("latency_p99_ms")
            if p50 is not None and p99 is not None:
                slowest[variant.name] = max(slowest.get(variant.name, (0.0, 0.0)), (p50.value, p99.value))
    rows = sorted(slowest.items(), key=lambda item: -item[1][0])
    with _figure("latency", 6.2, 1.0 + 0.2 * max(len(rows), 4)) as (figure, svg):
        axes = figure.subplots()
        for row, (name, (median, slow)) in enumerate(rows):
            colour = _BLUE if name == summary.focus else _GREY
            axes.plot([median, slow], [row, row], color=colour, linewidth=1.4)
            axes.plot(median, row, "o", color=colour, markersize=4)
            axes.plot(slow, row, "|", color=colour, markersize=7)
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        _logarithmic(axes)
        axes.set(
            xlabel="milliseconds per prompt: median (dot) and 99th percentile (bar)",
            title="Decision latency after the encoder",
        )
    return svg[0]


def _logarithmic(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


@contextmanager
def _figure(name: str, width: float, height: float) -> Iterator[tuple[Any, list[str]]]:
    """Yield a figure to draw on, and a list that holds its SVG afterwards."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    svg: list[str] = []
    # The salt makes ids the same in each run and different from those of the page's other plots.
    settings: Any = {**_STYLE, "svg.hashsalt": name}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, svg
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg.append(_inline(buffer.getvalue(), name))


def _inline(content: str, name: str) -> str:
    """Return the `svg` element alone, its ids distinct within a page, without the metadata that names addresses."""
    element = content[content.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    prefix = re.sub(r"\W+", "-", name)
    element = re.sub(r'\bid="', f'id="{prefix}-', element)
    element = element.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    return element.replace("<svg ", f'<svg role="img" aria-label="{prefix}" ', 1)

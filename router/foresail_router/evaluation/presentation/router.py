"""A report on one fitted router as files: `report.json`, `report.csv` and `report.html`. It must not know how its figures came about."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path

from foresail_router.evaluation.held_out import ROUTER
from foresail_router.evaluation.presentation import plots
from foresail_router.evaluation.presentation.figures import TABLES, present
from foresail_router.evaluation.presentation.files import csv_text, write_text
from foresail_router.evaluation.presentation.html import figures, page, table
from foresail_router.evaluation.render import report_data
from foresail_router.evaluation.report import Report

_HEADER = ("name", "figure", "value", "low", "high")


def write_report(directory: Path, report: Report) -> None:
    """Write all forms of the report; raises `UserError` when the directory cannot be written."""
    write_text(directory / "report.json", json.dumps(report_data(report), indent=1) + "\n")
    write_text(directory / "report.csv", csv_text(_HEADER, _rows(report)))
    write_text(directory / "report.html", _html(report))


def _rows(report: Report) -> Iterator[tuple[object, ...]]:
    for line in report.lines:
        yield line.name, "quality", line.quality, "", ""
        if line.cost_usd is not None:
            yield line.name, "cost_usd", line.cost_usd, "", ""
        if line.points is not None:
            yield line.name, "points", line.points, line.points_low, line.points_high
    variant = report.pool.variant(ROUTER)
    for name, found in ({} if variant is None else variant.figures).items():
        yield (
            ROUTER,
            name,
            found.value,
            "" if found.low is None else found.low,
            "" if found.high is None else found.high,
        )


def _html(report: Report) -> str:
    pool, variant = report.pool, report.pool.variant(ROUTER)
    body = [
        "<h1>A router on held-out prompts</h1>",
        f"<p class=note>{report.prompts} prompts in {pool.groups} text groups, {report.models} models; {report.priced_prompts} prompts have a "
        f"cost of every model. Best single in training: {escape(pool.best_single)}; in hindsight: {escape(pool.hindsight_best)}. Brackets "
        "are 95 % intervals of a bootstrap over text groups, paired.</p>",
        _lines(report),
    ]
    if variant is not None:
        models = [single.name for single in pool.singles]
        drawings = [plots.cost_quality(pool, variant, None)] if variant.curve else []
        drawings.append(plots.calibration(pool.name, [(ROUTER, variant.bins)]))
        if any(value is not None for value in variant.length_coverage):
            drawings.append(plots.length_coverage(pool.name, models, variant.length_coverage))
        if variant.tasks is not None:
            drawings.append(plots.task_map(pool.name, models, variant.tasks))
        body.append(figures(*drawings))
        for title, wanted in TABLES:
            if columns := present(wanted, [variant.figures]):
                rows = [("", [ROUTER, *(column.text(variant.figures) for column in columns)])]
                body += [f"<h3>{escape(title)}</h3>", table(["", *(column.heading for column in columns)], rows)]
    return page("Foresail router", body)


def _lines(report: Report) -> str:
    rows = []
    for line in report.lines:
        points = "" if line.points is None else f"{line.points:+.2f} [{line.points_low:+.2f}, {line.points_high:+.2f}]"
        cost = "" if line.cost_usd is None else f"{1000 * line.cost_usd:.4g}"
        ratio = "" if line.cost_ratio is None else f"{line.cost_ratio:.3f}"
        kind = "focus" if line.name.startswith(ROUTER) else ""
        rows.append((kind, [line.name, f"{line.quality:.4f}", cost, ratio, points, line.detail]))
    return table(["", "quality", "USD per 1,000", "x best single", "points above best single", ""], rows)

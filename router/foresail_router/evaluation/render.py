"""A report as text for a terminal and as plain data for programs. It must not know how its figures came about."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from foresail_router.evaluation.held_out import ROUTER
from foresail_router.evaluation.presentation.figures import LENGTH, TRUST
from foresail_router.evaluation.report import Line, Report

_TRUST = (*TRUST[:1], *TRUST[2:4], *LENGTH[:1])
_HEADER = ("", "quality", "USD/1000", "x best single", "points vs best single", "gap closed", "")


def render_table(report: Report) -> str:
    """Return the table with what its columns need to be understood, lines at most about 120 characters long."""
    rows = [_HEADER, *(_cells(line) for line in report.lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = []
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)),
            row[-1],
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([*lines, "", *_notes(report)])


def report_data(report: Report) -> dict[str, Any]:
    """Return the report as plain data: every field by its name."""
    return asdict(report)


def _cells(line: Line) -> tuple[str, ...]:
    points = "" if line.points is None else f"{line.points:+.2f} [{line.points_low:+.2f}, {line.points_high:+.2f}]"
    return (
        line.name,
        f"{line.quality:.4f}",
        "" if line.cost_usd is None else f"{1000 * line.cost_usd:.4g}",
        "" if line.cost_ratio is None else f"{line.cost_ratio:.3f}",
        points,
        "" if line.gap_closed is None else f"{100 * line.gap_closed:+.1f} %",
        line.detail,
    )


def _notes(report: Report) -> list[str]:
    notes = [
        "best single: the model with the highest mean on these very prompts; points: 100 x difference in mean quality, with the 95 %",
        "interval of a paired bootstrap over text groups; gap closed: of the way from the best single model to the oracle.",
    ]
    if report.priced_prompts == 0:
        notes.append("Costs are left out: no prompt has a cost of every model.")
    elif report.priced_prompts < report.prompts:
        notes.append(f"Costs are means over the {report.priced_prompts} prompts that have a cost of every model.")
    if (match := _cheapest_match(report)) is not None:
        notes.append(
            f"Least cost among these lines at which the router is not below the best single model: {match.cost_ratio:.3f}x ({match.name})."
        )
    notes.append(
        f"Mean squared error of quality {report.quality_error:.4f} (of the models' means: {report.prior_error:.4f})."
    )
    if report.length_coverage is not None:
        notes.append(
            f"{100 * report.length_coverage:.1f} % of the answers' lengths lie inside their 5 % to 95 % interval."
        )
    variant = report.pool.variant(ROUTER)
    if variant is not None:
        notes += [
            f"{column.heading}: {column.text(variant.figures)}."
            for column in _TRUST
            if column.figure in variant.figures
        ]
    return notes


def _cheapest_match(report: Report) -> Line | None:
    """Return the cheapest of the router's lines that is not below the best single model, if there are several to choose from."""
    priced = [line for line in report.lines if line.name.startswith("router") and line.cost_ratio is not None]
    matching = [line for line in priced if (line.points or 0.0) >= 0] if len(priced) > 1 else []
    return min(matching, key=lambda line: line.cost_ratio or 0.0, default=None)

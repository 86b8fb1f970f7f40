"""A benchmark's result as text for a terminal. It must not know how figures came about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from foresail_router.evaluation.benchmark.results import PoolResult, Summary
from foresail_router.evaluation.metrics.resampling import Estimate
from foresail_router.evaluation.presentation.figures import (
    COST,
    EFFORT,
    LENGTH,
    QUALITY,
    STRONG,
    TRUST,
    Column,
    answered,
    method_titles,
    present,
)

_COLUMNS = (*QUALITY[:2], QUALITY[3], *COST[:2], TRUST[0], LENGTH[0], *STRONG[:2], EFFORT[0], EFFORT[2])


def summary_text(summary: Summary) -> str:
    """Return pools, means over pools and targets as tables."""
    parts = [_pool(pool) for pool in summary.pools]
    parts += [
        _means(title, found) for title, found in summary.means.items() if len(summary.pools) > 1 or "targeted" in title
    ]
    parts.append("\n".join(f"{name}: {title}" for name, title in method_titles(summary)))
    if summary.targets:
        parts.append(_targets(summary))
    return "\n\n".join(parts)


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, of which the first is the heading, as aligned columns; the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def _pool(pool: PoolResult) -> str:
    rows = [(name, figures) for name, figures in pool.references.items() if "quality" in figures]
    rows += [(variant.name, variant.figures) for variant in pool.variants if variant.failed is None]
    columns = present(_COLUMNS, [figures for _, figures in rows])
    table = [["", *(column.heading for column in columns)]]
    table += [[name, *(column.text(figures) for column in columns)] for name, figures in rows]
    lines = [
        f"{pool.name}: {pool.prompts} prompts, {len(pool.singles)} models, best single {pool.best_single}{answered(pool)}",
        text_table(table),
    ]
    return "\n".join([*lines, *_notes(pool)])


def _notes(pool: PoolResult) -> Iterator[str]:
    singles = pool.references.get("single models", {})
    name = "cheapest_within_1_point_cost_ratio"
    if name in singles:
        hull = "hull_of_singles_1_point_below_cost_ratio"
        yield (
            f"cheapest single model within 1 point: {Column(name, '').text(singles)} of the best one's cost; "
            f"hull of single models 1 point below it: {Column(hull, '').text(singles)}"
        )
    for line in pool.pairs:
        points = Column("points", "", "+.2f").text({"points": line.points})
        yield f"{line.focus} minus {line.other}: {points} points, p {line.p_holm:.4f} (Holm)"
    for variant in pool.variants:
        if variant.failed is not None:
            yield f"{variant.name}: not fitted: {variant.failed}"


def _means(title: str, found: Mapping[str, Estimate]) -> str:
    rows = [["", title]]
    geometric = "geometric" in title
    column = Column("mean", title, ".3f" if geometric else ".2f", 1 if geometric else 100)
    ordered = sorted(found.items(), key=lambda item: item[1].value, reverse=not geometric)
    rows += [[name, column.text({"mean": estimate})] for name, estimate in ordered]
    return text_table(rows)


def _targets(summary: Summary) -> str:
    lines = [f"Targets of {summary.focus}"]
    for target in summary.targets:
        state = {True: "met", False: "missed", None: "open"}[target.met]
        lines.append(f"[{state}] {target.name}: {target.asked}; measured {target.measured}")
    return "\n".join(lines)

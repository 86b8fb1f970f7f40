"""A benchmark's result as files: `report.json`, `report.csv` and `report.html`, each whole or not at all. It must not know figures."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

from foresail_api.errors import UserError
from foresail_router.evaluation.benchmark.results import Summary
from foresail_router.evaluation.presentation.html import summary_html
from foresail_router.evaluation.presentation.text import summary_text

_HEADER = ("pool", "name", "kind", "figure", "value", "low", "high")


def write_reports(directory: Path, summary: Summary) -> None:
    """Write all forms of the result; raises `UserError` when the directory cannot be written."""
    write_text(directory / "report.json", json.dumps(summary.data(), indent=1, allow_nan=True) + "\n")
    write_text(directory / "report.csv", csv_text(_HEADER, summary_rows(summary)))
    write_text(directory / "report.txt", summary_text(summary) + "\n")
    write_text(directory / "report.html", summary_html(summary))


def write_text(path: Path, content: str) -> None:
    """Write a file, whole or not at all; raises `UserError`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}; choose another directory") from None
    finally:
        # Where the directory is none, there is nothing to remove either.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def csv_text(header: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> str:
    """Return rows as CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def summary_rows(summary: Summary) -> Iterator[tuple[object, ...]]:
    """Yield one row per pool, variant (or reference) and figure."""
    for pool in summary.pools:
        for single in pool.singles:
            yield pool.name, single.name, "single model", "quality", single.quality, "", ""
            if single.cost_usd is not None:
                yield pool.name, single.name, "single model", "cost_usd", single.cost_usd, "", ""
        groups = [(name, "reference", figures) for name, figures in pool.references.items()]
        groups += [(variant.name, "strategy", variant.figures) for variant in pool.variants]
        for name, kind, figures in groups:
            for figure, found in figures.items():
                yield pool.name, name, kind, figure, found.value, _cell(found.low), _cell(found.high)
        shares = {"answered_outcomes": pool.answered_outcomes, "answered_models": pool.answered_models}
        yield from ((pool.name, "", "pool", name, share, "", "") for name, share in shares.items() if share is not None)
        for kind, lines in (("comparison", pool.comparisons), ("pair", pool.pairs)):
            for line in lines:
                name, points = f"{line.focus} - {line.other}", line.points
                yield pool.name, name, kind, "points", points.value, _cell(points.low), _cell(points.high)
                yield pool.name, name, kind, "p_holm", line.p_holm, "", ""
    for title, means in summary.means.items():
        for name, found in means.items():
            yield "", name, "mean over pools", title, found.value, _cell(found.low), _cell(found.high)


def _cell(value: float | None) -> float | str:
    return "" if value is None else value

"""The benchmark's page: writes the tables between their marks from the kept figures. It must not know how they are measured.

python -m tests.bench.page      # write the tables anew, without measuring
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.bench.gateways import ROWS
from tests.bench.results import FILE, Results
from tests.bench.tables import COLUMNS, facts_text, rows_table, targets_table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "sidecar.md"
_TABLE = re.compile(r"(<!-- table: gateway (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def rendered(page: str, results: Results) -> str:
    """Return the page with its tables written anew; raises `KeyError` for a table that nobody knows."""
    return _TABLE.sub(lambda found: f"{found[1]}{_table(found[2], results)}{found[3]}", page)


def tables(results: Results) -> str:
    """Return all tables, for a console."""
    kinds = ("facts", "targets", *COLUMNS)
    return "\n".join(f"## {kind}\n\n{_table(kind, results)}" for kind in kinds)


def write(results: Results) -> None:
    """Write the page."""
    PAGE.write_text(rendered(PAGE.read_text(), results))


def _table(kind: str, results: Results) -> str:
    if kind == "facts":
        return facts_text(results)
    if kind == "targets":
        return targets_table(results)
    return rows_table(results, kind, {row.key: row.name for row in ROWS})


if __name__ == "__main__":
    write(Results.read(FILE))

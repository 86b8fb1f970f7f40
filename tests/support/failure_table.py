"""The rows of docs/reference/failures.md, as its readers see them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "failures.md"


@dataclass(frozen=True)
class Row:
    """One failure: `client` is the status and code at last, as the page has them."""

    failure: str
    attempt: str
    settled: str
    step: str
    health: frozenset[str]
    client: str


def failure_rows() -> dict[str, Row]:
    """All rows of failures by their first word."""
    rows = {}
    for line in _PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        word = re.fullmatch(r"`([A-Za-z]+)`", cells[0])
        if word and len(cells) == 7:
            health = frozenset(part for part in cells[5].split(", ") if part)
            rows[word[1]] = Row(word[1], cells[2].strip("`"), cells[3], cells[4], health, cells[6])
    return rows

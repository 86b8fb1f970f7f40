"""Where measured rounds are kept, so that a long run can be split and a single part be repeated.

Owns the file: parts, each with its facts and its rounds of figures by row. It must not know what the figures mean.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "gateway.json"


@dataclass(slots=True)
class Results:
    """The file's content; every change is written at once. `data` is {part: {facts, rounds: [{row: {figure: value}}]}}."""

    path: Path
    data: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Results:
        """Return what is in the file, nothing if there is none."""
        return cls(path, json.loads(path.read_text()) if path.exists() else {})

    def rounds(self, part: str) -> list[dict[str, dict[str, float]]]:
        """Return a part's rounds, empty if it was not measured."""
        return list(self.data.get(part, {}).get("rounds", []))

    def facts(self, part: str) -> dict[str, Any]:
        """Return when and where a part was measured last."""
        return dict(self.data.get(part, {}).get("facts", {}))

    def failures(self, part: str) -> dict[str, str]:
        """Return the rows that failed in a part, with the reason."""
        return dict(self.data.get(part, {}).get("failures", {}))

    def missing(self) -> dict[str, str]:
        """Return the rows that could not be measured, with the reason."""
        return dict(self.data.get("missing", {}))

    def begin(self, part: str, rows: list[str], *, resume: bool) -> None:
        """Forget what a part has of these rows, or only how they failed, to go on where a run ended."""
        kept = [
            {row: figures for row, figures in each.items() if resume or row not in rows} for each in self.rounds(part)
        ]
        while kept and not kept[-1]:
            kept.pop()
        failures = {row: reason for row, reason in self.failures(part).items() if row not in rows}
        self.data[part] = {"facts": self.facts(part), "rounds": kept, "failures": failures}

    def has(self, part: str, number: int, row: str) -> bool:
        """Say whether a round of a row is there."""
        rounds = self.rounds(part)
        return number < len(rounds) and row in rounds[number]

    def add(self, part: str, number: int, row: str, figures: Mapping[str, float]) -> None:
        """Keep the figures of one row in one round."""
        rounds = self.data[part]["rounds"]
        while len(rounds) <= number:
            rounds.append({})
        rounds[number][row] = {name: round(value, 4) for name, value in figures.items()}
        self.write()

    def fail(self, part: str, row: str, reason: str) -> None:
        """Keep why a row could not be measured in a part, beside what other rounds of it gave."""
        self.data[part]["failures"][row] = reason
        self.write()

    def state(self, part: str, facts: Mapping[str, Any]) -> None:
        """Keep when and where a part was measured."""
        self.data[part]["facts"] = dict(facts)
        self.write()

    def miss(self, row: str, reason: str | None) -> None:
        """Keep why a row could not be measured, or that it could."""
        missing = self.data.setdefault("missing", {})
        missing.pop(row, None)
        if reason is not None:
            missing[row] = reason

    def write(self) -> None:
        """Write the file in one step."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps(self.data, indent=1, sort_keys=True) + "\n")
        os.replace(draft, self.path)

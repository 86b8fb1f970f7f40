"""Reads decision logs: the requests that a budget refused, and how many were refused because the ledger was away.

Owns that reading. It must not know what a refusal should say.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.proof.verdicts import Refusal


@dataclass
class Decisions:
    """What the decision logs of all replicas say together: requests by outcome, those that took several attempts (`fallbacks`), and lines
    that a kill left unfinished (`torn`).
    """

    refusals: list[Refusal] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    fallbacks: int = 0
    torn: int = 0


def read_decisions(paths: Iterable[Path]) -> Decisions:
    """Read the logs of all replicas."""
    found = Decisions()
    for path in paths:
        for text in path.read_text().splitlines() if path.exists() else ():
            try:
                line = json.loads(text)
            except ValueError:
                found.torn += 1
                continue
            found.outcomes[line["outcome"]] += 1
            found.fallbacks += len(line["attempts"]) > 1
            refused = line["budget_refusal"]
            if refused is not None and refused["budget"] is not None:
                found.refusals.append(_refusal(line, refused))
    return found


def _refusal(line: dict[str, Any], refused: dict[str, Any]) -> Refusal:
    worst = [
        each["worst_case_nano_dollars"]
        for each in line["candidates"]
        if each["eliminated"] == "OverBudget" and each["worst_case_nano_dollars"] is not None
    ]
    return Refusal(
        decision=line["decision_id"],
        seconds=datetime.fromisoformat(line["time"]).timestamp(),
        reason=refused["reason"],
        account=f"b|{refused['budget']}|",
        spent=refused["spent_nano_dollars"],
        reserved=refused["reserved_nano_dollars"],
        limit=refused["limit_nano_dollars"],
        needed=refused["needed_nano_dollars"],
        least_worst=min(worst, default=None),
    )

"""From what each request said to figures: shares, quantiles, medians of rounds. Pure; it must not know how anything was asked."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

_LATE = "DeadlineExceeded"
_FULL = "ScorerOverloaded"


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share lies, 0 of none."""
    ordered = sorted(values)
    return ordered[int(share * (len(ordered) - 1) + 0.5)] if ordered else 0.0


def middle(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> list[float]:
    """Return the median of the rounds, the lowest and the highest, to three digits behind the point."""
    return [round(value, 3) for value in (statistics.median(values), min(values), max(values))]


def load_figures(answers: Sequence[Mapping[str, Any]], deadline_milliseconds: float) -> dict[str, Any]:
    """Return the figures of one run at one rate; times in milliseconds.

    `scored` is the share whose decision the router made; of the others, `at_once` is the share that was told so within a tenth of the
    deadline. `sent_late` is how late the load generator was at its p99, `per_second` what it sent.
    """
    scored = [answer for answer in answers if answer["basis"] == "Learned"]
    others = [answer for answer in answers if answer["basis"] != "Learned"]
    if odd := {answer["error"] for answer in others} - {_LATE, _FULL}:
        raise ValueError(f"decisions without the router for another reason than the load: {sorted(map(str, odd))}")
    if wrong := {answer["status"] for answer in answers} - {200}:
        raise ValueError(f"requests were not answered: status {sorted(wrong)}")
    decisions = [answer["decision"] for answer in answers]
    waits = [answer["decision"] for answer in others]
    at_once = sum(wait <= deadline_milliseconds / 10 for wait in waits)
    return {
        "requests": len(answers),
        "scored": len(scored) / len(answers),
        "decision_p50": quantile(decisions, 0.5),
        "decision_p99": quantile(decisions, 0.99),
        "decision_most": max(decisions),
        "scored_p50": quantile([answer["decision"] for answer in scored], 0.5),
        "scored_p99": quantile([answer["decision"] for answer in scored], 0.99),
        "refused_p50": quantile(waits, 0.5),
        "refused_p99": quantile(waits, 0.99),
        "at_once": at_once / len(others) if others else 1.0,
        "sent_late_p99": quantile([answer["late"] for answer in answers], 0.99),
    }

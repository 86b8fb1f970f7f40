"""placeholder"""

from __future__ import annotations

from foresail_router.evaluation.benchmark.results import Summary


def summary_html(summary: Summary) -> str:
    """To come."""
    return ""

"""How often requests may be sent a second time, and how long to wait before the same upstream is asked again.

Owns the budget that keeps retries from multiplying the load on upstreams that already fail. It must not know upstreams or clocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

# Retries that are there from the start, so that a server that has answered few requests can retry.
FLOOR: Final = 10
# Retries that can be saved up in calm times.
MOST: Final = 100

_PERCENT = 100
_FIRST_BACKOFF_SECONDS = 0.05
_LONGEST_BACKOFF_SECONDS = 1.0


class RetryBudget:
    """Retries that requests earn: each request gives a share of one, each retry takes one. Belongs to one event loop."""

    def __init__(self) -> None:
        self._hundredths = FLOOR * _PERCENT

    def request(self, percent: int) -> None:
        """Count a request, which earns `percent` hundredths of a retry."""
        self._hundredths = min(MOST * _PERCENT, self._hundredths + percent)

    def take(self, percent: int) -> bool:
        """Take one retry; return False where none is left, or where the policy lets requests earn none."""
        if percent == 0 or self._hundredths < _PERCENT:
            return False
        self._hundredths -= _PERCENT
        return True


def backoff_seconds(attempt: int, random: Callable[[], float]) -> float:
    """Return how long to wait before attempt number `attempt` asks the upstream of the attempt before it; `random` gives [0, 1)."""
    longest = min(_LONGEST_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2.0**attempt)
    return random() * longest

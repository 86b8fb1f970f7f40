"""When a ledger that does not answer is asked again.

Owns the count of failures and the pause. It must not know what is called. Pure over a given clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

FAILURES: Final = 3
PAUSE_SECONDS: Final = 0.25


class Circuit:
    """After three failures in a row, one call is let through in each quarter of a second until one succeeds.

    So requests behind a dead ledger are answered at once instead of each waiting for its deadline.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._closed_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the last calls failed, so that most are not made."""
        return self._failures >= FAILURES

    def allows(self) -> bool:
        """Say whether a call may be made now; while calls fail, a yes stands for one call only."""
        if not self.is_open:
            return True
        now = self._clock()
        if now < self._closed_until:
            return False
        self._closed_until = now + PAUSE_SECONDS
        return True

    def succeeded(self) -> None:
        """The ledger answered."""
        self._failures = 0

    def failed(self) -> None:
        """The ledger did not answer."""
        self._failures += 1
        if self._failures == FAILURES:
            self._closed_until = self._clock() + PAUSE_SECONDS

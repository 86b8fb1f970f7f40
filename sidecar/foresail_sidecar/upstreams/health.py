"""Which upstreams are left alone for now: those that failed several times in a row, and those that asked for a pause.

Owns the counts, the ejections and the probes that end them. It must not know requests, answers, or why one counts as a failure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Final

LONGEST_PAUSE_SECONDS: Final = 60.0
# Upstreams that fail are few; this bounds what is kept of those that a change of the configuration took away.
_MOST_KEPT = 4096


@dataclass(slots=True)
class _Trouble:
    failures: int = 0
    ejected_until: float | None = None
    paused_until: float = 0.0
    probing: bool = False

    def free_at(self) -> float:
        return max(self.paused_until, self.ejected_until or 0.0)


class UpstreamHealth:
    """The trouble of upstreams, each named by any hashable key. Belongs to one event loop.

    An upstream is ejected after so many failures in a row. After its time, one request at a time is let through as a probe: a success
    ends the ejection, a failure starts it again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._troubles: dict[Hashable, _Trouble] = {}

    @property
    def untroubled(self) -> bool:
        """Whether nothing is known against any upstream."""
        return not self._troubles

    def available(self, upstream: Hashable) -> bool:
        """Return whether a request may be sent there now."""
        return not self._troubles or self.seconds_until_available((upstream,)) == 0

    def seconds_until_available(self, upstreams: Iterable[Hashable]) -> float:
        """Return when the first of `upstreams` is to be asked again: 0 where one can be now, at most the longest pause or ejection."""
        return min(map(self._seconds, upstreams), default=0.0)

    def _seconds(self, upstream: Hashable) -> float:
        trouble = self._troubles.get(upstream)
        if trouble is None:
            return 0.0
        left = trouble.free_at() - self._clock()
        if left > 0:
            return left
        # A probe under way says soon how the upstream is.
        return 1.0 if trouble.probing else 0.0

    def asked(self, upstream: Hashable) -> None:
        """Note that a request is sent there; while the upstream is ejected, that is its probe."""
        trouble = self._troubles.get(upstream)
        if trouble is not None and trouble.ejected_until is not None:
            trouble.probing = True

    def answered(self, upstream: Hashable) -> None:
        """Note a success: all trouble is over, but for a pause that the upstream asked for."""
        trouble = self._troubles.get(upstream)
        if trouble is None:
            return
        if trouble.paused_until <= self._clock():
            del self._troubles[upstream]
        else:
            self._troubles[upstream] = _Trouble(paused_until=trouble.paused_until)

    def failed(self, upstream: Hashable, *, ejected_after: int, ejection_seconds: float) -> bool:
        """Note a failure; return whether it ejects the upstream, for the first time or once more."""
        trouble = self._trouble(upstream)
        trouble.failures += 1
        was_probe, trouble.probing = trouble.probing, False
        already_ejected = trouble.ejected_until is not None and not was_probe
        if already_ejected or (trouble.failures < ejected_after and not was_probe):
            return False
        trouble.ejected_until = self._clock() + ejection_seconds
        return True

    def ended(self, upstream: Hashable) -> None:
        """Note the end of an attempt that says nothing about the upstream: after a probe, the next request is one."""
        trouble = self._troubles.get(upstream)
        if trouble is not None:
            trouble.probing = False

    def pause(self, upstream: Hashable, seconds: float) -> None:
        """Leave the upstream alone for that long, at most a minute."""
        trouble = self._trouble(upstream)
        until = self._clock() + min(LONGEST_PAUSE_SECONDS, max(0.0, seconds))
        trouble.paused_until = max(trouble.paused_until, until)

    def _trouble(self, upstream: Hashable) -> _Trouble:
        if upstream not in self._troubles:
            while len(self._troubles) >= _MOST_KEPT:
                del self._troubles[next(iter(self._troubles))]
            self._troubles[upstream] = _Trouble()
        return self._troubles[upstream]

"""How long an upstream may take for each part of an answer. It must not know who waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from foresail_api.snapshot import SnapshotTimeouts

_MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class UpstreamTimeouts:
    """Bounds on every wait for an upstream, in seconds.

    `connect`: name resolution, connection and TLS. `first_byte`: from the sent request to the head of the answer, which for an answer
    that is not streamed comes only when all of it has been generated. `idle`: between two pieces of an answer. `total`: from a
    request's first attempt to the end of the answer.
    """

    connect: float = 5.0
    first_byte: float = 600.0
    idle: float = 120.0
    total: float = 3600.0

    @classmethod
    def of(cls, declared: SnapshotTimeouts) -> UpstreamTimeouts:
        """Return what the pool declares."""
        return cls(
            connect=declared.connect_milliseconds / _MILLISECONDS,
            first_byte=declared.first_byte_milliseconds / _MILLISECONDS,
            idle=declared.idle_milliseconds / _MILLISECONDS,
            total=declared.total_milliseconds / _MILLISECONDS,
        )


DEFAULT_TIMEOUTS: Final = UpstreamTimeouts()

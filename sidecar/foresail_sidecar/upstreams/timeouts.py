"""How long an upstream may take for each part of an answer. It must not know who waits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UpstreamTimeouts:
    """Bounds on every wait for an upstream, in seconds.

    `connect`: name resolution, connection and TLS. `first_byte`: from the sent request to the head of the answer, which for an answer
    that is not streamed comes only when all of it has been generated. `idle`: between two pieces of an answer.
    `keep_idle_connection` lies below the 5 seconds after which common servers close an idle connection, so that none is used while it closes.
    """

    connect: float = 5.0
    first_byte: float = 600.0
    idle: float = 120.0
    keep_idle_connection: float = 3.0

"""The limits of the HTTP front end, in one place. It must not know who sets them."""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Bounds on what clients can make the data plane hold and how long it waits for them.

    `body_limit_bytes`: the largest request; a larger one gets 413. `body_seconds`: how long a client may take to send it (408).
    `answer_limit_bytes`: the largest answer that is not streamed; those are read whole, so that their settled cost fits into a header.
    `buffered_bytes`: the most that bodies and whole answers of all requests may hold together; a request that would exceed it gets 503.
    A stream's body counts until its first piece is relayed.
    `most_in_flight`: requests under way at the same time; more get 503 and `Retry-After`.
    `stalled_client_seconds`: how long a client may read nothing of a stream, or of a whole answer above 64 KB, before its
    connection is ended.
    """

    body_limit_bytes: int = 8 * MEBIBYTE
    body_seconds: float = 60.0
    answer_limit_bytes: int = 32 * MEBIBYTE
    buffered_bytes: int = 256 * MEBIBYTE
    most_in_flight: int = 4096
    stalled_client_seconds: float = 60.0

"""What bounds the attempts at upstreams, and what follows where one fails: parts of both kinds.

Owns the shape that users write. It must not know how a request is sent.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from foresail_api.common import ApiObject, rule


class OnClientCancel(StrEnum):
    """What happens to a stream at the upstream when its client leaves."""

    ABORT = "Abort"
    DRAIN = "Drain"


class StreamUsage(StrEnum):
    """Whether an upstream takes `stream_options.include_usage`."""

    REQUESTED = "Requested"
    NOT_SUPPORTED = "NotSupported"


class FallbackModels(StrEnum):
    """Which models may answer after a failure."""

    OTHER = "Other"
    SAME = "Same"


_FIRST_BYTE_MESSAGE = "`firstByteSeconds` must be less than or equal to `totalSeconds`"


class Timeouts(ApiObject):
    """How long an upstream may take for each part of an answer."""

    # The API server evaluates rules also on the default of the whole object, before those of its fields are filled in.
    cel: ClassVar = (
        rule("!has(self.firstByteSeconds) || self.firstByteSeconds <= self.totalSeconds", _FIRST_BYTE_MESSAGE),
    )

    connect_milliseconds: Annotated[int, Field(strict=True, ge=1, le=60_000)] = Field(
        5000, description="Longest time for name resolution, connection and TLS."
    )
    first_byte_seconds: Annotated[int, Field(strict=True, ge=1, le=3600)] = Field(
        600,
        description="Longest time from the sent request to the head of the answer. An answer that is not streamed begins when all of it has been generated.",
    )
    idle_seconds: Annotated[int, Field(strict=True, ge=1, le=3600)] = Field(
        120, description="Longest pause inside of an answer."
    )
    total_seconds: Annotated[int, Field(strict=True, ge=1, le=86_400)] = Field(
        3600,
        description="Longest time from a request's first attempt, at whichever upstream, to the end of the answer of this one.",
    )

    @model_validator(mode="after")
    def _rules(self) -> Timeouts:
        if self.first_byte_seconds > self.total_seconds:
            raise ValueError(_FIRST_BYTE_MESSAGE)
        return self


_LIMITS_MESSAGE = "at least one of `concurrentRequests`, `requestsPerMinute`, `tokensPerMinute` must be set"


class UpstreamLimits(ApiObject):
    """What an upstream takes at most, over all pods of a policy that share a ledger."""

    cel: ClassVar = (
        rule(
            "has(self.concurrentRequests) || has(self.requestsPerMinute) || has(self.tokensPerMinute)", _LIMITS_MESSAGE
        ),
    )

    concurrent_requests: Annotated[int, Field(strict=True, ge=1, le=100_000)] | None = Field(
        None, description="Most requests under way at once."
    )
    requests_per_minute: Annotated[int, Field(strict=True, ge=1, le=10_000_000)] | None = Field(
        None, description="Most requests within any 60 seconds."
    )
    tokens_per_minute: Annotated[int, Field(strict=True, ge=1, le=1_000_000_000_000)] | None = Field(
        None,
        description="Most tokens of input and output within any 60 seconds. A request under way counts with the most that it can use, one that has ended with what was billed.",
    )

    @model_validator(mode="after")
    def _rules(self) -> UpstreamLimits:
        if (self.concurrent_requests, self.requests_per_minute, self.tokens_per_minute) == (None, None, None):
            raise ValueError(_LIMITS_MESSAGE)
        return self


class OutlierDetection(ApiObject):
    """When an upstream that fails is left alone."""

    consecutive_failures: Annotated[int, Field(strict=True, ge=1, le=100)] = Field(
        5, description="Failures in a row after which an upstream is ejected."
    )
    ejection_seconds: Annotated[int, Field(strict=True, ge=1, le=3600)] = Field(
        30, description="How long it is left alone. Then one request at a time is let through until one succeeds."
    )


class Fallback(ApiObject):
    """What follows where an upstream fails before a byte of its answer was sent to the client."""

    max_attempts: Annotated[int, Field(strict=True, ge=1, le=10)] = Field(
        3, description="Most attempts for one request, the first included."
    )
    models: FallbackModels = Field(
        FallbackModels.OTHER,
        description="`Other` lets the next best candidates of a decision answer after all upstreams of a model failed; `Same` keeps to the model. A request that names a model always does.",
    )
    retry_budget_percent: Annotated[int, Field(strict=True, ge=0, le=100)] = Field(
        20,
        description="Attempts after the first, in percent of requests. 0 allows none but those where no connection was made.",
    )

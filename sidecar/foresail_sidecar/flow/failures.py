"""What follows from each way in which an attempt fails: how it counts, where the request goes next, what it says of the upstream.

Owns that table, which docs/reference/failures.md shows. It must not know connections, bodies, prices, or what a client is told. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from foresail_sidecar.flow.outcomes import AttemptOutcome


class Failure(StrEnum):
    """What an upstream did instead of answering. The last four happen when a part of an answer is with the client."""

    UNREACHABLE = "Unreachable"
    CONTEXT_LENGTH = "ContextLength"
    REFUSED = "Refused"
    CREDENTIAL_REFUSED = "CredentialRefused"
    REQUEST_TIMED_OUT = "RequestTimedOut"
    RATE_LIMITED = "RateLimited"
    SERVER_ERROR = "ServerError"
    UNAVAILABLE = "Unavailable"
    UNEXPECTED = "Unexpected"
    TIMED_OUT = "TimedOut"
    BROKEN = "Broken"
    ERROR_EVENT = "ErrorEvent"
    NO_COMPLETION = "NoCompletion"
    TOO_LARGE = "TooLarge"
    NOT_STREAMED = "NotStreamed"
    STREAM_BROKEN = "StreamBroken"
    STREAM_STALLED = "StreamStalled"
    STREAM_ERROR = "StreamError"


class Step(StrEnum):
    """Where the request goes next. `NEXT`: another upstream of the same model, then the next best candidate."""

    RETURN = "return"
    NEXT = "next"
    LARGER_CONTEXT = "larger context"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table. `unhealthy` counts against the upstream; `pauses` heeds the time that it asks to be left alone."""

    outcome: AttemptOutcome
    step: Step
    unhealthy: bool = False
    pauses: bool = False


RULES: Mapping[Failure, Rule] = MappingProxyType(
    {
        Failure.UNREACHABLE: Rule(AttemptOutcome.UNREACHABLE, Step.NEXT, unhealthy=True),
        Failure.CONTEXT_LENGTH: Rule(AttemptOutcome.REFUSED, Step.LARGER_CONTEXT),
        Failure.REFUSED: Rule(AttemptOutcome.REFUSED, Step.RETURN),
        Failure.CREDENTIAL_REFUSED: Rule(AttemptOutcome.REFUSED, Step.NEXT, unhealthy=True),
        Failure.REQUEST_TIMED_OUT: Rule(AttemptOutcome.REFUSED, Step.NEXT),
        Failure.RATE_LIMITED: Rule(AttemptOutcome.REFUSED, Step.NEXT, pauses=True),
        Failure.SERVER_ERROR: Rule(AttemptOutcome.ERRORED, Step.NEXT, unhealthy=True),
        Failure.UNAVAILABLE: Rule(AttemptOutcome.ERRORED, Step.NEXT, unhealthy=True, pauses=True),
        Failure.UNEXPECTED: Rule(AttemptOutcome.ERRORED, Step.NEXT, unhealthy=True),
        Failure.TIMED_OUT: Rule(AttemptOutcome.TIMED_OUT, Step.NEXT, unhealthy=True),
        Failure.BROKEN: Rule(AttemptOutcome.BROKE, Step.NEXT, unhealthy=True),
        Failure.ERROR_EVENT: Rule(AttemptOutcome.BROKE, Step.NEXT, unhealthy=True),
        Failure.NO_COMPLETION: Rule(AttemptOutcome.BROKE, Step.RETURN, unhealthy=True),
        Failure.TOO_LARGE: Rule(AttemptOutcome.BROKE, Step.RETURN),
        Failure.NOT_STREAMED: Rule(AttemptOutcome.ANSWERED, Step.RETURN),
        Failure.STREAM_BROKEN: Rule(AttemptOutcome.BROKE, Step.RETURN, unhealthy=True),
        Failure.STREAM_STALLED: Rule(AttemptOutcome.TIMED_OUT, Step.RETURN, unhealthy=True),
        Failure.STREAM_ERROR: Rule(AttemptOutcome.BROKE, Step.RETURN, unhealthy=True),
    }
)

# What the same failure is called once a part of the answer is with the client; nothing follows such a failure.
AFTER_FIRST_BYTE: Mapping[Failure, Failure] = MappingProxyType(
    {
        Failure.BROKEN: Failure.STREAM_BROKEN,
        Failure.TIMED_OUT: Failure.STREAM_STALLED,
        Failure.ERROR_EVENT: Failure.STREAM_ERROR,
    }
)

_BY_STATUS: Mapping[int, Failure] = MappingProxyType(
    {
        401: Failure.CREDENTIAL_REFUSED,
        403: Failure.CREDENTIAL_REFUSED,
        408: Failure.REQUEST_TIMED_OUT,
        429: Failure.RATE_LIMITED,
        503: Failure.UNAVAILABLE,
        529: Failure.UNAVAILABLE,
    }
)


def of_status(status: int, *, context_length: bool) -> Failure:
    """Return the failure that a status other than 200 is; `context_length` says that its body complains about the prompt's length."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 400 <= status < 500:
        return Failure.CONTEXT_LENGTH if context_length else Failure.REFUSED
    return Failure.SERVER_ERROR if status >= 500 else Failure.UNEXPECTED


@dataclass(frozen=True, slots=True)
class Place:
    """An upstream of a model where a request can be answered, and the model's context window."""

    model: str
    upstream: str
    context_window_tokens: int


def next_places(step: Step, failed: Place, places: Sequence[Place], *, other_models: bool) -> tuple[Place, ...]:
    """Return what is left of `places` after `failed`, in the order in which it is to be tried.

    `other_models` says whether another model may answer: the policy allows it, and the request names none.
    """
    if step == Step.RETURN:
        return ()
    others = tuple(place for place in places if place.model != failed.model) if other_models else ()
    if step == Step.LARGER_CONTEXT:
        return tuple(place for place in others if place.context_window_tokens > failed.context_window_tokens)
    return (*(place for place in places if place.model == failed.model and place != failed), *others)

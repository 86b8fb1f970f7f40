"""The closed sets of words for how a request and an attempt ended. It must not know who says them."""

from __future__ import annotations

from enum import StrEnum


class RequestOutcome(StrEnum):
    """How a request to complete a chat ended. Labels of metrics and logs."""

    ANSWERED = "Answered"
    INVALID = "Invalid"
    UNAUTHENTICATED = "Unauthenticated"
    NOT_ALLOWED = "NotAllowed"
    UNKNOWN_MODEL = "UnknownModel"
    NO_ELIGIBLE_MODEL = "NoEligibleModel"
    SCORING_FAILED = "ScoringFailed"
    UNHEALTHY = "Unhealthy"
    BUDGET_EXHAUSTED = "BudgetExhausted"
    BUDGET_RESERVED = "BudgetReserved"
    UPSTREAM_LIMITED = "UpstreamLimited"
    LEDGER_UNAVAILABLE = "LedgerUnavailable"
    OVERLOADED = "Overloaded"
    NOT_READY = "NotReady"
    UPSTREAM_REFUSED = "UpstreamRefused"
    UPSTREAM_UNREACHABLE = "UpstreamUnreachable"
    UPSTREAM_TIMED_OUT = "UpstreamTimedOut"
    UPSTREAM_BROKE = "UpstreamBroke"
    CLIENT_LEFT = "ClientLeft"
    INTERRUPTED = "Interrupted"
    FAILED = "Failed"


class AttemptOutcome(StrEnum):
    """How one attempt at an upstream ended.

    `UNREACHABLE` and `ABANDONED` (by the client, or by this process) end before anything is sent, `REFUSED` before anything is generated; `ERRORED` (a status that says nothing of it), `TIMED_OUT`, `BROKE`,
    `CLIENT_LEFT` and `INTERRUPTED` end at an unknown point.
    """

    ANSWERED = "Answered"
    REFUSED = "Refused"
    UNREACHABLE = "Unreachable"
    ABANDONED = "Abandoned"
    ERRORED = "Errored"
    TIMED_OUT = "TimedOut"
    BROKE = "Broke"
    CLIENT_LEFT = "ClientLeft"
    INTERRUPTED = "Interrupted"


NOTHING_SENT = frozenset({AttemptOutcome.UNREACHABLE, AttemptOutcome.ABANDONED})
NOTHING_GENERATED = NOTHING_SENT | {AttemptOutcome.REFUSED}

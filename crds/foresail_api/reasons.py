"""The closed sets of words that Foresail uses to say why: conditions, their reasons, eliminations, how a decision came about.

Owns the words. It must not know who says them.
"""

from __future__ import annotations

from enum import StrEnum


class ConditionType(StrEnum):
    """The conditions of both kinds. Each is True when all is well."""

    ACCEPTED = "Accepted"
    RESOLVED_REFS = "ResolvedRefs"
    PROGRAMMED = "Programmed"
    READY = "Ready"


class Reason(StrEnum):
    """Why a condition has its status."""

    ACCEPTED = "Accepted"
    INVALID = "Invalid"
    ARTIFACT_NOT_REACHABLE = "ArtifactNotReachable"
    ALIAS_CONFLICT = "AliasConflict"
    NO_PRICEABLE_MODEL = "NoPriceableModel"
    LEDGER_NOT_SHARED = "LedgerNotShared"

    RESOLVED = "Resolved"
    POOL_NOT_FOUND = "PoolNotFound"
    POOL_NOT_ACCEPTED = "PoolNotAccepted"
    MODEL_NOT_FOUND = "ModelNotFound"
    BACKEND_NOT_REACHABLE = "BackendNotReachable"
    TOKENIZER_NOT_REACHABLE = "TokenizerNotReachable"

    PROGRAMMED = "Programmed"
    NAME_CONFLICT = "NameConflict"
    APPLY_FAILED = "ApplyFailed"
    WAITING = "Waiting"
    WITHDRAWN = "Withdrawn"

    READY = "Ready"
    PODS_NOT_READY = "PodsNotReady"
    SCALED_TO_ZERO = "ScaledToZero"


class Elimination(StrEnum):
    """Why a model cannot answer a request; decided before anything is scored, or from its price."""

    CONTEXT_TOO_SMALL = "ContextTooSmall"
    MISSING_CAPABILITY = "MissingCapability"
    NOT_REQUESTED = "NotRequested"
    UNPRICEABLE = "Unpriceable"
    OVER_PER_REQUEST_CAP = "OverPerRequestCap"
    CLAMP_TOO_SMALL = "ClampTooSmall"
    CREDENTIAL_MISSING = "CredentialMissing"
    NOT_ALLOWED = "NotAllowed"
    UNHEALTHY = "Unhealthy"
    BOUND_EXCEEDED = "BoundExceeded"
    OVER_BUDGET = "OverBudget"
    RATE_LIMITED = "RateLimited"


class Basis(StrEnum):
    """What a decision rests on."""

    LEARNED = "Learned"
    CHEAPEST = "Cheapest"
    DEFAULT = "Default"
    UNROUTED = "Unrouted"
    BUDGET_CHEAPEST = "BudgetCheapest"
    PASS_THROUGH = "PassThrough"  # noqa: S105  a word, not a password
    FAIL_OPEN_DEFAULT = "FailOpenDefault"
    FAIL_OPEN_CHEAPEST = "FailOpenCheapest"


class SettlementBasis(StrEnum):
    """What a settled cost rests on: the upstream's own report, our own count, or the worst case."""

    REPORTED = "Reported"
    COUNTED = "Counted"
    ASSUMED = "Assumed"

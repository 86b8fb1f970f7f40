"""Every way in which this front end says no, each with its status, its words and how it counts.

Owns the statuses and messages. It must not know the shape of an error body, which the protocol's module gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil

from foresail_router.decision.types import Decision, RefusalKind
from foresail_sidecar.flow.outcomes import RequestOutcome

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"
_LONGEST_RETRY_AFTER_SECONDS = 60.0
_SOON: Mapping[str, str] = {"Retry-After": "1"}


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that is an error: what the client is told, and what is counted. `details` are further fields of its body."""

    status: int
    type: str
    code: str
    message: str
    outcome: RequestOutcome
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """Ends a request with a problem, before anything of an answer was sent."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code)
        self.problem = problem


def too_large(limit_bytes: int) -> Problem:
    """Return the problem of a body above the limit."""
    message = (
        f"the request body exceeds the limit of {limit_bytes} bytes; send a shorter conversation or smaller attachments"
    )
    return Problem(413, INVALID_REQUEST, "request_too_large", message, RequestOutcome.INVALID)


def too_slow(seconds: float) -> Problem:
    """Return the problem of a body that did not come."""
    message = f"the request body did not arrive within {seconds:g} s"
    return Problem(408, INVALID_REQUEST, "request_timeout", message, RequestOutcome.INVALID)


def invalid(message: str, param: str | None, code: str | None) -> Problem:
    """Return the problem of a body that cannot be read."""
    return Problem(400, INVALID_REQUEST, code or "invalid_request", message, RequestOutcome.INVALID, param)


def malformed(line_bytes: int, fields: int) -> Problem:
    """Return the problem of bytes that are no HTTP request; what they are is not repeated, because it may be a credential."""
    message = f"this is no valid HTTP request, or its head exceeds {line_bytes} bytes a line or {fields} fields"
    return Problem(400, INVALID_REQUEST, "invalid_http", message, RequestOutcome.INVALID)


def expectation_failed() -> Problem:
    """Return the problem of an `Expect` header that cannot be met."""
    message = "the header `Expect` can only ask for `100-continue`; leave it out or send that"
    return Problem(417, INVALID_REQUEST, "expectation_failed", message, RequestOutcome.INVALID)


def unauthenticated(*, has_keys: bool) -> Problem:
    """Return the problem of a caller without a key where anonymous callers are not allowed; `has_keys` says whether tenants have some."""
    message = (
        "this policy answers tenants alone: send your API key as `Authorization: Bearer <key>`"
        if has_keys
        else "this policy does not answer anonymous callers; its owner can allow them with `spec.tenants.anonymous: Allow`, "
        "or name tenants with `spec.tenants.apiKeys`"
    )
    return _unauthenticated("authentication_required", message, "Bearer")


def unknown_key() -> Problem:
    """Return the problem of a key that is not valid, for whatever reason: which one, only its owner should learn from the policy's owner."""
    message = (
        "the API key is not valid here: it is not known, has expired or was revoked; ask the policy's owner for another"
    )
    return _unauthenticated("invalid_api_key", message, 'Bearer error="invalid_token"')


def _unauthenticated(code: str, message: str, challenge: str) -> Problem:
    outcome = RequestOutcome.UNAUTHENTICATED
    return Problem(401, "authentication_error", code, message, outcome, None, {"WWW-Authenticate": challenge})


def model_not_allowed() -> Problem:
    """Return the problem of a tenant that names a model which it may not use."""
    message = "your tenant may not use this model; `GET /v1/models` lists those that it may"
    return Problem(403, "permission_error", "model_not_allowed", message, RequestOutcome.NOT_ALLOWED, "model")


def not_ready(reason: str) -> Problem:
    """Return the problem of a data plane that has nothing to serve yet."""
    return Problem(503, SERVER_ERROR, "not_ready", reason, RequestOutcome.NOT_READY, None, _SOON)


def overloaded() -> Problem:
    """Return the problem of one request too many."""
    message = "too many requests are under way; try again later"
    return Problem(503, SERVER_ERROR, "overloaded", message, RequestOutcome.OVERLOADED, None, _SOON)


def interrupted() -> Problem:
    """Return the problem of a request that outlived its server."""
    message = "the server is shutting down; send the request again"
    return Problem(503, SERVER_ERROR, "shutting_down", message, RequestOutcome.INTERRUPTED, None, _SOON)


def no_such_path(status: int, reason: str, method: str, path: str, allowed: str | None) -> Problem:
    """Return the problem of a path or a method that is not served."""
    message = f"{method} {path}: {reason}; the API is described at docs/reference/http-api.md"
    code = "not_found" if status == 404 else "method_not_allowed"
    headers = {} if allowed is None else {"Allow": allowed}
    return Problem(status, INVALID_REQUEST, code, message, RequestOutcome.INVALID, None, headers)


def failed(decision_id: str | None) -> Problem:
    """Return the problem of a defect of ours."""
    where = "" if decision_id is None else f"; the logs say more under {decision_id}"
    return Problem(500, SERVER_ERROR, "internal_error", f"the request failed here{where}", RequestOutcome.FAILED)


def no_healthy_upstream(message: str, seconds: float) -> Problem:
    """Return the problem of a request that only failing upstreams could answer; the first is tried again in so many seconds."""
    headers = {"Retry-After": whole_seconds(seconds)}
    return Problem(503, SERVER_ERROR, "no_healthy_upstream", message, RequestOutcome.UNHEALTHY, None, headers)


def whole_seconds(seconds: float) -> str:
    """Return the value of a `Retry-After`: at least a second, because clients take 0 for none, and at most a minute."""
    return str(max(1, ceil(min(seconds, _LONGEST_RETRY_AFTER_SECONDS))))


def refusal(decision: Decision, healthy_in_seconds: float = 0.0) -> Problem:
    """Return the problem of a decision that no model may answer; `healthy_in_seconds` is when to try again where health keeps them out."""
    refused = decision.refusal
    if refused is None:
        raise ValueError("the decision is no refusal")
    match refused.kind:
        case RefusalKind.UNKNOWN_MODEL:
            code, outcome = "model_not_found", RequestOutcome.UNKNOWN_MODEL
            return Problem(404, INVALID_REQUEST, code, refused.message, outcome, "model")
        case RefusalKind.SCORING_FAILED:
            code, outcome = "scoring_failed", RequestOutcome.SCORING_FAILED
            return Problem(503, SERVER_ERROR, code, refused.message, outcome, None, _SOON)
        case RefusalKind.NO_HEALTHY_UPSTREAM:
            return no_healthy_upstream(refused.message, healthy_in_seconds)
        case RefusalKind.COST_CAP_EXCEEDED:
            code, outcome = "cost_cap_exceeded", RequestOutcome.NO_ELIGIBLE_MODEL
            return Problem(400, INVALID_REQUEST, code, refused.message, outcome)
        case RefusalKind.NO_ELIGIBLE_MODEL:
            code, outcome = "no_eligible_model", RequestOutcome.NO_ELIGIBLE_MODEL
            return Problem(400, INVALID_REQUEST, code, refused.message, outcome)

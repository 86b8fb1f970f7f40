"""How this front end says no for the sake of a budget or of an upstream's limits, and when to come again.

Owns the statuses, words and headers. It must not know how a refusal came about.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime

from foresail_router.decision.price import dollars
from foresail_sidecar.flow.budgets import BudgetRefusal, RefusalReason
from foresail_sidecar.flow.denials import Refusal
from foresail_sidecar.flow.limits import LimitRefusal
from foresail_sidecar.flow.outcomes import RequestOutcome
from foresail_sidecar.fronts.http.errors import SERVER_ERROR, Problem, whole_seconds
from foresail_sidecar.ledger.interface import Measure

_TOO_MANY_REQUESTS = 429
_UNAVAILABLE = 503
_RATE_LIMIT = "rate_limit_error"
_FIELDS: Mapping[Measure, tuple[str, str]] = {
    Measure.SLOTS: ("concurrentRequests", "requests at once"),
    Measure.REQUESTS: ("requestsPerMinute", "requests a minute"),
    Measure.TOKENS: ("tokensPerMinute", "tokens a minute"),
}


def refusal(refused: Refusal) -> Problem:
    """Return the problem of a request for which budgets or limits have no room."""
    if isinstance(refused, LimitRefusal):
        return _limited(refused)
    match refused.reason:
        case RefusalReason.EXHAUSTED:
            return _exhausted(refused)
        case RefusalReason.RESERVED:
            return _reserved(refused)
        case RefusalReason.CLOSED:
            message = "what was spent is being restored; send the request again in a few seconds"
            return _no_ledger("ledger_restoring", message, refused)
        case RefusalReason.UNAVAILABLE:
            message = "what was spent cannot be looked up just now, and no budget may be exceeded; try again later"
            return _no_ledger("ledger_unavailable", message, refused)


def rfc3339(milliseconds: int) -> str:
    """Return a moment of the Unix epoch as text, in UTC and whole seconds."""
    return datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _exhausted(refused: BudgetRefusal) -> Problem:
    until = "" if refused.ends_ms is None else f"; its window ends at {rfc3339(refused.ends_ms)}"
    if refused.needed > refused.limit:
        how = f"is too small for this request: {_figures(refused)}; shorten the prompt, or have the amount raised"
    else:
        how = f"is used up: {_figures(refused)}{until}"
    message = f"the budget {refused.budget!r} {how}"
    details = {} if refused.ends_ms is None else {"window_end": rfc3339(refused.ends_ms)}
    # SDKs would sleep for as long as `Retry-After` says, and a new window seldom begins while somebody waits for it.
    headers = {"x-should-retry": "false", "Retry-After": whole_seconds(refused.retry_after_seconds)}
    code, outcome = "budget_exhausted", RequestOutcome.BUDGET_EXHAUSTED
    return Problem(
        _TOO_MANY_REQUESTS, "insufficient_quota", code, message, outcome, None, headers, _named(refused, details)
    )


def _reserved(refused: BudgetRefusal) -> Problem:
    message = (
        f"the rest of the budget {refused.budget!r} is held by requests under way: {_figures(refused)}; "
        "try again in a moment, or with a smaller `max_tokens`"
    )
    headers = {"Retry-After": _not_all_at_once(refused, 2)}
    code, outcome = "budget_reserved", RequestOutcome.BUDGET_RESERVED
    return Problem(_TOO_MANY_REQUESTS, _RATE_LIMIT, code, message, outcome, None, headers, _named(refused, {}))


def _limited(refused: LimitRefusal) -> Problem:
    field, words = _FIELDS[refused.measure]
    message = f"model {refused.model!r} takes at most {refused.limit} {words} at its upstream {refused.upstream!r}"
    if refused.never_fits:
        message += f", and this request can need {refused.needed}; name a smaller `max_tokens` or shorten the prompt"
        headers = {"x-should-retry": "false", "Retry-After": whole_seconds(refused.retry_after_seconds)}
    else:
        message += ", which are taken, and nobody else can answer; try again later"
        headers = {"Retry-After": _not_all_at_once(refused, 2)}
    details = {"model": refused.model, "upstream": refused.upstream, "limit": field}
    code, outcome = "upstream_limit", RequestOutcome.UPSTREAM_LIMITED
    return Problem(_TOO_MANY_REQUESTS, _RATE_LIMIT, code, message, outcome, None, headers, details)


def _no_ledger(code: str, message: str, refused: BudgetRefusal) -> Problem:
    headers = {"Retry-After": _not_all_at_once(refused, 3)}
    return Problem(_UNAVAILABLE, SERVER_ERROR, code, message, RequestOutcome.LEDGER_UNAVAILABLE, None, headers)


def _not_all_at_once(refused: Refusal, seconds: int) -> str:
    """Return when to come again, within so many seconds: those who are refused together would come together again."""
    return whole_seconds(refused.retry_after_seconds + random.randrange(seconds))  # noqa: S311  no secret


def _named(refused: BudgetRefusal, details: Mapping[str, str]) -> Mapping[str, str]:
    return {**({} if refused.budget is None else {"budget": refused.budget}), **details}


def _figures(refused: BudgetRefusal) -> str:
    return (
        f"of {dollars(refused.limit)} USD, {dollars(refused.spent)} USD are spent and {dollars(refused.reserved)} USD are held, "
        f"and this answer needs {dollars(refused.needed)} USD at worst"
    )

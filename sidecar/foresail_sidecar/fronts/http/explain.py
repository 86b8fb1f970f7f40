"""`POST /v1/route`: the decision on a request, with every candidate, without forwarding it.

Owns the JSON of a decision. It must not know how one is taken.
"""

from __future__ import annotations

import logging
from typing import Any

from aiohttp import web

from foresail_router.decision.price import dollars
from foresail_router.decision.types import Candidate, Decision
from foresail_sidecar.flow.record import Exchange
from foresail_sidecar.fronts.http import errors
from foresail_sidecar.fronts.http.answers import problem_response
from foresail_sidecar.fronts.http.context import CONTEXT
from foresail_sidecar.fronts.http.deciding import consider
from foresail_sidecar.fronts.http.errors import Refused
from foresail_sidecar.fronts.http.in_flight import Interrupted, TooManyRequests
from foresail_sidecar.telemetry.logs import log_defect

_LOGGER = logging.getLogger(__name__)

# Two standard deviations: what the router does not know about the quality, as an interval that holds in about 95 of 100 cases.
_INTERVAL_DEVIATIONS = 1.96


async def explain_route(request: web.Request) -> web.Response:
    """Answer with the decision, status 200 also where it is a refusal. Nothing is forwarded, nothing costs.

    An error carries what was known by then, like those of requests that would be forwarded.
    """
    context = request.app[CONTEXT]
    exchange = Exchange(context.identities.new())
    try:
        with context.in_flight.entered(request.task), context.buffered.holding() as held:
            considered = await consider(context, request, exchange, held)
    except Refused as refused:
        problem = refused.problem
    except TooManyRequests:
        problem = errors.overloaded()
    except Interrupted:
        problem = errors.interrupted()
    except Exception as error:
        log_defect(_LOGGER, "request failed", error, decision_id=exchange.decision_id)
        problem = errors.failed(exchange.decision_id)
    else:
        policy = considered.served.policy.state.snapshot.policy
        return web.json_response(decision_document(considered.decision, exchange.decision_id, policy))
    return problem_response(problem, exchange)


def decision_document(decision: Decision, decision_id: str, policy: str) -> dict[str, Any]:
    """Return the decision as JSON values; money as decimal strings of US dollars, null where something is unpriced or unknown."""
    refusal = decision.refusal
    return {
        "decision_id": decision_id,
        "policy": policy,
        "snapshot_hash": decision.snapshot_hash,
        "artifact_digest": decision.artifact_digest,
        "basis": decision.basis,
        "scoring_error": decision.scoring_error,
        "model": None if decision.chosen is None else decision.chosen.model,
        "refusal": None if refusal is None else {"kind": refusal.kind, "message": refusal.message},
        "order": list(decision.order),
        "pressure_percent": decision.pressure_percent,
        "candidates": [_candidate(candidate) for candidate in decision.candidates],
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    estimate = candidate.estimate
    return {
        "model": candidate.model,
        "eliminated": candidate.elimination,
        "detail": candidate.detail,
        "quality": None if estimate is None else estimate.quality,
        "quality_std": None if estimate is None else estimate.quality_std,
        "quality_interval": None if estimate is None else _interval(estimate.quality, estimate.quality_std),
        "output_tokens": None if estimate is None else estimate.output_tokens,
        "output_tokens_p05": None if estimate is None else estimate.output_tokens_p05,
        "output_tokens_p50": None if estimate is None else estimate.output_tokens_p50,
        "output_tokens_p95": None if estimate is None else estimate.output_tokens_p95,
        "input_tokens": candidate.input_tokens,
        "input_tokens_bound": candidate.input_tokens_bound,
        "output_limit": candidate.output_limit,
        "cost_usd": _dollars(candidate.cost),
        "cost_p05_usd": _dollars(candidate.cost_p05),
        "cost_p95_usd": _dollars(candidate.cost_p95),
        "worst_case_usd": _dollars(candidate.worst_case),
        "utility": candidate.utility,
    }


def _interval(mean: float, deviation: float) -> list[float]:
    half = _INTERVAL_DEVIATIONS * deviation
    return [max(0.0, mean - half), min(1.0, mean + half)]


def _dollars(nano_dollars: int | None) -> str | None:
    return None if nano_dollars is None else dollars(nano_dollars)

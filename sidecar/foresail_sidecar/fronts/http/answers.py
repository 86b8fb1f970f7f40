"""Turns problems and facts into responses: the shape of errors, our own headers.

Owns the names of the `x-foresail-*` headers. It must not know how a request got there.
"""

from __future__ import annotations

from aiohttp import web

from foresail_router.decision.price import dollars
from foresail_router.decision.types import Candidate
from foresail_sidecar.flow.record import Exchange
from foresail_sidecar.fronts.http.errors import Problem
from foresail_sidecar.protocols import openai

MODEL = "x-foresail-model"
DECISION_ID = "x-foresail-decision-id"
BASIS = "x-foresail-basis"
SCORING_ERROR = "x-foresail-scoring-error"
OVERHEAD = "x-foresail-overhead-ms"
COST = "x-foresail-cost-usd"
COST_MAX = "x-foresail-cost-max-usd"
MAX_TOKENS = "x-foresail-max-tokens"


def problem_response(problem: Problem, exchange: Exchange | None = None) -> web.Response:
    """Return the response that states a problem, with what is known of the exchange that it ends."""
    body = openai.error_body(problem.message, problem.type, problem.param, problem.code, problem.details)
    headers = dict(problem.headers)
    if exchange is not None:
        headers |= exchange_headers(exchange) | cost_headers(exchange)
    return web.Response(status=problem.status, body=body, content_type="application/json", headers=headers)


def exchange_headers(exchange: Exchange) -> dict[str, str]:
    """Return what is known before an answer comes: the decision, its basis, the overhead."""
    headers = {DECISION_ID: exchange.decision_id}
    decision = exchange.decision
    if decision is not None:
        chosen = exchange.chosen
        if chosen is not None:
            headers[MODEL] = chosen.model
        if decision.basis is not None:
            headers[BASIS] = decision.basis.value
        if decision.scoring_error is not None:
            headers[SCORING_ERROR] = decision.scoring_error
    if exchange.overhead_seconds is not None:
        headers[OVERHEAD] = f"{exchange.overhead_seconds * 1000:.2f}"
    return headers


def cost_headers(exchange: Exchange) -> dict[str, str]:
    """Return what the request has cost so far; nothing where no model with a price was asked."""
    cost = exchange.cost
    return {} if cost is None else {COST: dollars(cost)}


def worst_case_headers(exchange: Exchange, asked: Candidate) -> dict[str, str]:
    """Return the most that a request can cost, what earlier attempts cost included; nothing where no bound can be given."""
    if asked.worst_case is None:
        return {}
    return {COST_MAX: dollars(asked.worst_case + (exchange.cost or 0))}


def limit_headers(asked: Candidate) -> dict[str, str]:
    """Return the output limit that was forwarded."""
    return {MAX_TOKENS: str(asked.output_limit)}

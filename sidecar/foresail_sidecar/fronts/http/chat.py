"""`POST /v1/chat/completions`: decides, forwards, and sees that every request ends in exactly one way and is recorded once.

Owns what becomes of whatever went wrong. It must not know how a decision is taken, nor how an answer is relayed.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

from foresail_sidecar.flow.outcomes import RequestOutcome
from foresail_sidecar.flow.record import Exchange, record_end
from foresail_sidecar.fronts.http import errors
from foresail_sidecar.fronts.http.answers import problem_response
from foresail_sidecar.fronts.http.attempting import Attempts, refused
from foresail_sidecar.fronts.http.context import CONTEXT, Context
from foresail_sidecar.fronts.http.deciding import consider
from foresail_sidecar.fronts.http.errors import Refused
from foresail_sidecar.fronts.http.forward import Forwarding
from foresail_sidecar.fronts.http.in_flight import Interrupted, TooManyRequests
from foresail_sidecar.fronts.http.stream import ClientLeft
from foresail_sidecar.protocols import openai
from foresail_sidecar.telemetry.logs import log_defect

_LOGGER = logging.getLogger(__name__)


async def complete_chat(request: web.Request) -> web.StreamResponse:
    """Answer one request, whatever happens to it."""
    context = request.app[CONTEXT]
    exchange = Exchange(context.identities.new())
    status: int | None = None
    try:
        response = await _answer(context, request, exchange)
        status = response.status
    except asyncio.CancelledError:
        exchange.outcome = RequestOutcome.CLIENT_LEFT
        raise
    except ClientLeft as left:
        exchange.outcome = RequestOutcome.CLIENT_LEFT
        response = left.stream
    finally:
        if not exchange.draining:
            record_end(context.memory, exchange, status)
    return response


async def _answer(context: Context, request: web.Request, exchange: Exchange) -> web.StreamResponse:
    forwarding: Forwarding | None = None
    try:
        with context.in_flight.entered(request.task) as entered, context.buffered.holding() as held:
            considered = await consider(context, request, exchange, held)
            if considered.decision.chosen is None:
                raise Refused(refused(context, considered))
            forwarding = Forwarding(context, request, exchange, considered, entered, held)
            return await Attempts(context, exchange, considered, forwarding).run()
    except Refused as said_no:
        problem = said_no.problem
    except TooManyRequests:
        problem = errors.overloaded()
    except Interrupted:
        problem = errors.interrupted()
    except ClientLeft:
        raise
    except Exception as error:
        log_defect(_LOGGER, "request failed", error, decision_id=exchange.decision_id)
        problem = errors.failed(exchange.decision_id)
    exchange.outcome = problem.outcome
    if forwarding is None or forwarding.stream is None:
        return problem_response(problem, exchange)
    # The head of the answer is out, so the stream itself has to say it.
    await forwarding.stream.break_off(openai.error_event(problem.message, problem.type, problem.code))
    return forwarding.stream

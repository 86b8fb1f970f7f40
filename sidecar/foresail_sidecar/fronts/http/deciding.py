"""From an HTTP request to a decision: reads and parses the body, asks the flow. Shared by all that decides.

Owns the order of the checks. It must not know what follows the decision.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from math import ceil

from aiohttp import web

from foresail_api.reasons import Elimination
from foresail_api.values import value
from foresail_router.decision.conditions import RequestLimits, Unavailable
from foresail_router.decision.types import Decision
from foresail_sidecar.configuration.state import ServingState
from foresail_sidecar.flow.decide import Standing, decide_request
from foresail_sidecar.flow.record import Exchange, record_decision
from foresail_sidecar.flow.texts import counted_texts
from foresail_sidecar.fronts.http import errors
from foresail_sidecar.fronts.http.body import read_body
from foresail_sidecar.fronts.http.buffered import Held
from foresail_sidecar.fronts.http.callers import Caller, caller_of
from foresail_sidecar.fronts.http.context import Context
from foresail_sidecar.fronts.http.errors import Refused
from foresail_sidecar.fronts.http.served import Served
from foresail_sidecar.protocols import openai
from foresail_sidecar.protocols.errors import BadRequest

# A crafted body of many small values takes about 0.3 s per million bytes: longer than all other requests may wait for one.
_PARSED_AT_ONCE_BYTES = 1_000_000


@value
class Considered:
    """A parsed request with its decision, under the state that it began with. `arrived` is when all of it was here."""

    served: Served
    parsed: openai.ParsedChat
    decision: Decision
    arrived: float
    limits: RequestLimits


async def consider(context: Context, request: web.Request, exchange: Exchange, held: Held) -> Considered:
    """Return the request with its decision; raise `Refused` if it cannot be read or may not be answered at all.

    A decision that no model may answer is a decision, too.
    """
    settings = context.settings
    # Whoever gets no answer anyway need not send a body.
    early = context.serving.current
    served, caller = _admitted(context, request, early)
    body = await read_body(request, settings.body_limit_bytes, settings.body_seconds, held)
    arrived = time.perf_counter()
    with context.serving.in_use() as state:
        if state is not early:
            # A key that was revoked while the body came is not valid any more.
            served, caller = _admitted(context, request, state)
        exchange.snapshot = served.policy.state.snapshot
        exchange.tenant = caller.tenant
        try:
            parsed = await parsed_body(body)
        except BadRequest as bad:
            raise Refused(errors.invalid(bad.message, bad.param, bad.code)) from None
        tokenizers = served.policy.state.tokenizers
        if tokenizers:
            counted = await counted_texts(tokenizers, parsed.message_texts)
            parsed.neutral = replace(parsed.neutral, counted=counted)
        exchange.request = parsed.neutral
        if not caller.may_name(parsed.neutral.model, exchange.snapshot):
            raise Refused(errors.model_not_allowed())
        standing = Standing(
            context.memory.calibrator.ratios,
            caller.limits,
            caller.allowed_models,
            _unavailable(context, served),
            _pressure(context, served, caller),
            context.memory.trust.distrusted(exchange.snapshot),
        )
        decided = await decide_request(served.policy, parsed.neutral, standing)
    record_decision(context.memory, exchange, decided)
    return Considered(served, parsed, decided.decision, arrived, caller.limits)


def _admitted(context: Context, request: web.Request, state: ServingState | None) -> tuple[Served, Caller]:
    served = context.served(state)
    return served, caller_of(request.headers, served.policy.state)


def _pressure(context: Context, served: Served, caller: Caller) -> int:
    policy = served.policy
    ledger = context.ledgers.of(policy.state) if policy.budgets else None
    return 0 if ledger is None else policy.budgets.pressure_percent(caller.tenant, ledger.seen, ledger.now_ms())


def _unavailable(context: Context, served: Served) -> dict[str, Unavailable]:
    """Return the models none of whose upstreams can be asked just now, because they fail or asked for a pause."""
    if context.health.untroubled:
        return {}
    left = {
        model: context.health.seconds_until_available(served.targets[place].key for place in places)
        for model, places in served.places.items()
    }
    return {
        model: Unavailable(
            Elimination.UNHEALTHY,
            f"its upstreams failed repeatedly or asked to be left alone; the first is asked again in {ceil(seconds)} s",
        )
        for model, seconds in left.items()
        if seconds > 0
    }


async def parsed_body(body: bytes) -> openai.ParsedChat:
    """Return what a body asks for; raise `BadRequest` if it cannot be read. A large one is read in a thread."""
    if len(body) <= _PARSED_AT_ONCE_BYTES:
        return openai.parse_request(body)
    return await asyncio.to_thread(openai.parse_request, body)

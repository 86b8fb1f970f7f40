"""The small paths: the list of models, and what a platform asks of a process (alive, ready, metrics).

Owns what makes ready. It must not know how requests are answered.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from foresail_api.policy import FailureMode, Strategy
from foresail_sidecar.configuration.state import ServingState
from foresail_sidecar.fronts.http.callers import caller_of
from foresail_sidecar.fronts.http.context import CONTEXT, Context
from foresail_sidecar.ledger.calls import Availability
from foresail_sidecar.protocols import openai
from foresail_sidecar.telemetry.metrics import CONTENT_TYPE

_CONFIGURATION_REFUSED = "the last change of the configuration was refused; the log says why"
# One that does not answer is no reason: other replicas would not reach it either, and models without a price can still answer.
_LEDGER_NOT_OPEN = {
    Availability.UNKNOWN: "the ledger has not answered yet",
    Availability.CLOSED: "the ledger is being restored and opens in a few seconds",
}


async def list_models(request: web.Request) -> web.Response:
    """Answer with every name that the caller may give as `model`: the aliases, then the models."""
    context = request.app[CONTEXT]
    served = context.served(context.serving.current)
    state = served.policy.state
    caller = caller_of(request.headers, state)
    body = served.models_body
    if caller.allowed_models is not None:
        allowed = [model.name for model in state.snapshot.models if model.name in caller.allowed_models]
        body = openai.models_body([*state.snapshot.aliases, *allowed])
    return web.Response(body=body, content_type="application/json")


async def show_alive(request: web.Request) -> web.Response:
    """Answer that the process is alive. It asks nothing of anybody."""
    return web.json_response({"status": "alive"})


async def show_ready(request: web.Request) -> web.Response:
    """Answer whether requests should be sent here, and why not."""
    context = request.app[CONTEXT]
    reason = _why_not_ready(context)
    if reason is not None:
        return web.json_response({"status": "not ready", "reason": reason}, status=503)
    return web.json_response({"status": "ready", **_facts(context)})


async def show_metrics(request: web.Request) -> web.Response:
    """Answer with all metrics in Prometheus' text format."""
    context = request.app[CONTEXT]
    context.take_readings()
    # Those of other processes are read from files.
    exposition = await asyncio.to_thread(context.memory.metrics.exposition)
    return web.Response(body=exposition, headers={"Content-Type": CONTENT_TYPE})


def _why_not_ready(context: Context) -> str | None:
    serving = context.serving
    if serving.draining:
        return "draining"
    state = serving.current
    if state is None:
        return "nothing is served: the policy or its pool is not there, or not yet; the log says why"
    router = state.snapshot.router
    closed = router.strategy == Strategy.LEARNED and router.failure_mode == FailureMode.FAIL_CLOSE
    if closed and state.scorer is None:
        return f"the router's artifact is not loaded: {state.artifact_error or 'it is being loaded'}"
    ledger = context.ledgers.of(state)
    if ledger is None or not state.snapshot.has_enforced_budget or context.served(state).policy.budgets.fail_open:
        return None
    return _LEDGER_NOT_OPEN.get(ledger.state.availability)


def _ledger_facts(context: Context, state: ServingState) -> dict[str, Any]:
    ledger = context.ledgers.of(state)
    if ledger is None:
        return {}
    return {"ledger": ledger.state.availability.value, "ledger_faults": list(ledger.state.faults) or None}


def _facts(context: Context) -> dict[str, Any]:
    serving = context.serving
    state = serving.current
    facts: dict[str, Any] = {}
    if state is not None:
        facts["policy"] = state.snapshot.policy
        facts["snapshot"] = state.snapshot_hash
        facts["artifact"] = None if state.artifact is None else state.artifact.digest
        facts["artifact_error"] = state.artifact_error
        facts |= _ledger_facts(context, state)
    if serving.configuration_error is not None:
        # Its text can quote the configuration, and anybody may ask for readiness.
        facts["configuration_error"] = _CONFIGURATION_REFUSED
    return {name: fact for name, fact in facts.items() if fact is not None}

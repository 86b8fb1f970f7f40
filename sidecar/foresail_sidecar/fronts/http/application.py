"""Puts the HTTP front end together: its paths, what its handlers share, errors in one shape.

Owns the list of paths. It must not know what any handler does, nor how the process is run.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web
from prometheus_client import disable_created_metrics

from foresail_sidecar.configuration.state import ServingHolder
from foresail_sidecar.flow.record import Memory
from foresail_sidecar.fronts.http import errors
from foresail_sidecar.fronts.http.answers import problem_response
from foresail_sidecar.fronts.http.budgets import show_budgets
from foresail_sidecar.fronts.http.buffered import BufferedBytes
from foresail_sidecar.fronts.http.chat import complete_chat
from foresail_sidecar.fronts.http.context import CONTEXT, Context, LedgerSource, NoLedgers
from foresail_sidecar.fronts.http.errors import Refused
from foresail_sidecar.fronts.http.explain import explain_route
from foresail_sidecar.fronts.http.in_flight import InFlight
from foresail_sidecar.fronts.http.service import list_models, show_alive, show_metrics, show_ready
from foresail_sidecar.fronts.http.settings import HttpSettings
from foresail_sidecar.telemetry.decision_log import DecisionLog
from foresail_sidecar.telemetry.logs import log_defect
from foresail_sidecar.telemetry.metrics import Metrics
from foresail_sidecar.upstreams.client import UpstreamClient

_LOGGER = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_application(
    serving: ServingHolder,
    *,
    settings: HttpSettings | None = None,
    metrics: Metrics | None = None,
    decision_log: DecisionLog | None = None,
    ledgers: LedgerSource | None = None,
) -> web.Application:
    """Return the application that answers for whatever `serving` holds. To be run by `server.listening`.

    Each request to complete a chat leaves a line in `decision_log`, which stays the caller's to close, as `ledgers` are, where their spend is
    kept.
    """
    settings = settings or HttpSettings()
    # For the whole process, as the library has it: a second series beside each counter and histogram, which nobody reads.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    memory = Memory(metrics or Metrics(), decision_log)
    in_flight = InFlight(settings.most_in_flight)
    buffered = BufferedBytes(settings.buffered_bytes)
    application = web.Application()
    application[CONTEXT] = Context(
        serving, settings, memory, UpstreamClient(), in_flight, buffered, ledgers or NoLedgers()
    )
    application.on_response_prepare.append(_finish_headers)
    application.cleanup_ctx.append(_upstream_connections)
    application.add_routes(
        [
            web.post("/v1/chat/completions", complete_chat),
            web.post("/v1/route", explain_route),
            web.get("/v1/models", _answering(list_models)),
            web.get("/v1/budgets", _answering(show_budgets)),
            web.get("/healthz", _answering(show_alive)),
            web.get("/readyz", _answering(show_ready)),
            web.get("/metrics", _answering(show_metrics)),
        ]
    )
    return application


async def _upstream_connections(application: web.Application) -> AsyncIterator[None]:
    async with application[CONTEXT].client, contextlib.aclosing(application[CONTEXT].drainer):
        yield


async def _finish_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall("Server", None)
    # The client's next request belongs to another process, or its bytes cannot be told from the rest of a broken body.
    if request.app[CONTEXT].serving.draining or request.content.exception() is not None:
        response.force_close()
        response.headers["Connection"] = "close"


def _answering(handler: Handler) -> Handler:
    """Return a handler that answers also where this one raises."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as refused:
            return problem_response(refused.problem)
        except Exception as error:
            log_defect(_LOGGER, "request failed", error, path=request.path)
            return problem_response(errors.failed(None))

    return answer

"""What aiohttp answers and logs by itself, around the application: in our shape, and without the client's bytes.

Owns the errors of connections. It must not know paths, nor what a request asks for.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from foresail_sidecar.fronts.http import errors
from foresail_sidecar.fronts.http.answers import problem_response
from foresail_sidecar.telemetry.logs import log, log_defect

_LOGGER = logging.getLogger(__name__)

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class QuotelessRunner(web.AppRunner):
    """Runs an application on connections whose errors quote nothing that a client sent, neither in answers nor in logs."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            _refusing_expectations(made.request_handler),
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,
        )


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to bytes that are no request, and to what was raised around the application."""
        if request.writer.output_size > 0:
            raise ConnectionError("the head of another answer is out")
        if status < 500:
            # Anybody can cause it, so it is no error of the process.
            log(_LOGGER, logging.INFO, "malformed request", kind=type(exc).__name__)
            problem = errors.malformed(self.max_line_size, self.max_headers)
        else:
            self.log_exception("request failed", exc_info=exc)
            problem = errors.failed(None)
        return _last_answer(problem)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log what aiohttp caught: its kind and place."""
        error = kw.get("exc_info") or sys.exception()
        if isinstance(error, web.RequestPayloadError):
            # The rest of a broken body, read after its answer was sent; the connection is closed.
            return
        if isinstance(error, BaseException):
            log_defect(_LOGGER, "connection failed", error)
        else:
            log(_LOGGER, logging.ERROR, "connection failed")


class _Unsigned(web.Response):
    async def _prepare_headers(self) -> None:
        # The application, which does this for all other answers, is not asked about these.
        await super()._prepare_headers()
        self.headers.popall("Server", None)


def _last_answer(problem: errors.Problem) -> web.Response:
    stated = problem_response(problem)
    response = _Unsigned(status=stated.status, body=stated.body, headers=stated.headers)
    response.headers["Connection"] = "close"
    response.force_close()
    return response


def _refusing_expectations(handler: _Handler) -> _Handler:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPExpectationFailed:
            # Raised before any middleware runs. Whether the body comes is not known, so no request can follow.
            return _last_answer(errors.expectation_failed())

    return handle

"""What aiohttp answers and logs by itself, around the application: in our shape, and without the client's bytes.

Owns the errors of connections, and what is said of paths that nobody serves. It must not know what a request asks for.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Any

from aiohttp import Payload, web

from foresail_sidecar.fronts.http import errors
from foresail_sidecar.fronts.http.answers import problem_response
from foresail_sidecar.fronts.http.buffered import BufferedBytes
from foresail_sidecar.telemetry.logs import log, log_defect

_LOGGER = logging.getLogger(__name__)

# So much fits into the buffers of a connection, and writing it waits for nobody.
_NEVER_WAITS_BYTES = 64 * 1024

# The library signs what it answers outside of the application, and it writes its name and version unless there is another.
_SIGNATURE = {"Server": "foresail"}


def connections(
    server: web.Server, buffered: BufferedBytes, stalled_seconds: float, **settings: Any
) -> Callable[[], QuotelessConnection]:
    """Return what makes one more connection of `server`, as event loops want it; `settings` are those of `web.RequestHandler`."""
    loop = asyncio.get_running_loop()
    return lambda: QuotelessConnection(server, buffered, stalled_seconds, loop=loop, **settings)


class QuotelessConnection(web.RequestHandler):
    """A connection whose errors quote nothing that a client sent, neither in answers nor in logs, and that counts what it writes."""

    __slots__ = ("_buffered", "_stalled_seconds")

    def __init__(self, manager: web.Server, buffered: BufferedBytes, stalled_seconds: float, **settings: Any) -> None:
        super().__init__(manager, **settings)
        self._buffered = buffered
        self._stalled_seconds = stalled_seconds

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

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer, in our words where the library refused a request before a handler was asked."""
        if isinstance(resp, web.HTTPException):
            resp = _in_our_words(request, resp)
        length = _length(resp)
        watch = None if length <= _NEVER_WAITS_BYTES else _Watch(request, self._stalled_seconds)
        # What its request held is free since the handler returned, and a slow client can take long to read it.
        with self._buffered.writing(length):
            try:
                finished = await super().finish_response(request, resp, start_time)
            finally:
                if watch is not None:
                    watch.end()
        if isinstance(resp, web.Response):
            # The connection keeps its last response for as long as it waits for another request.
            resp.body = None
        return finished

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


class _Watch:
    """Ends the connection of a client that for so long has read nothing of an answer, which is held for it meanwhile."""

    def __init__(self, request: web.BaseRequest, seconds: float) -> None:
        self._request = request
        self._seconds = seconds
        self._read = -1
        self._look()

    def end(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        transport = self._request.transport
        before, self._read = self._read, self._request.writer.output_size
        if transport is not None:
            self._read -= transport.get_write_buffer_size()
            if self._read == before:
                transport.abort()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look)


def _in_our_words(request: web.BaseRequest, raised: web.HTTPException) -> web.Response:
    if isinstance(raised, web.HTTPExpectationFailed):
        # Whether the body comes is not known, so no request can follow.
        return _last_answer(errors.expectation_failed())
    allowed = raised.headers.get("Allow")
    return problem_response(errors.no_such_path(raised.status, raised.reason, request.method, request.path, allowed))


def _last_answer(problem: errors.Problem) -> web.Response:
    response = problem_response(problem)
    response.headers.update({"Connection": "close", **_SIGNATURE})
    response.force_close()
    return response


def _length(response: web.StreamResponse) -> int:
    body = getattr(response, "body", None)
    if type(body) is bytes:
        return len(body)
    return (body.size or 0) if isinstance(body, Payload) else len(body or b"")

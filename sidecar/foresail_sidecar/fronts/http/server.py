"""Runs an application on a socket, and ends it without breaking off more than it must.

Owns how aiohttp is run. It must not know what the application does, signals, or readiness.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from foresail_sidecar.fronts.http.connection import connections
from foresail_sidecar.fronts.http.context import CONTEXT

# Requests have been waited for and interrupted before the runner ends; it waits this long, twice, for what is left of them.
_LAST_SECONDS = 2.0
_KEEP_IDLE_CLIENT_SECONDS = 75.0
_LINE_BYTES = 16 * 1024
# Many clients that connect at once would else be turned away for a second.
_WAITING_CONNECTIONS = 1024


@contextlib.asynccontextmanager
async def listening(application: web.Application, host: str, port: int, *, shared: bool = False) -> AsyncIterator[int]:
    """Serve `application` while the block runs; yield the port, which the system chooses if `port` is 0.

    A `shared` port may be listened on by several processes of one user; the system divides connections among them.

    Raise `OSError` if the address cannot be had. Leave the block only after `drain`, or what is under way is broken off.
    """
    # A client that leaves cancels its handler, and with that the upstream's work.
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=_LAST_SECONDS)
    await runner.setup()
    try:
        assert runner.server is not None  # noqa: S101  `setup` made it
        made = connections(
            runner.server,
            application[CONTEXT].buffered,
            application[CONTEXT].settings.stalled_client_seconds,
            access_log=None,
            keepalive_timeout=_KEEP_IDLE_CLIENT_SECONDS,
            max_line_size=_LINE_BYTES,
            max_field_size=_LINE_BYTES,
        )
        listener = await asyncio.get_running_loop().create_server(
            made, host, port, backlog=_WAITING_CONNECTIONS, reuse_port=shared
        )
        application[CONTEXT].listeners.append(listener)
        try:
            yield int(listener.sockets[0].getsockname()[1])
        finally:
            listener.close()
    finally:
        await runner.cleanup()


async def drain(application: web.Application, seconds: float) -> bool:
    """Listen no more and wait until no request is under way, at most `seconds`; then end the rest, each in the way that its client understands.

    Return whether all ended by themselves.
    """
    in_flight, listeners = application[CONTEXT].in_flight, application[CONTEXT].listeners
    while listeners:
        listeners.pop().close()
    if await in_flight.finished(seconds):
        return True
    in_flight.interrupt()
    await in_flight.finished(_LAST_SECONDS)
    return False

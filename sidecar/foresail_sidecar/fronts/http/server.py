"""Runs an application on a socket, and ends it without breaking off more than it must.

Owns how aiohttp is run. It must not know what the application does, signals, or readiness.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from foresail_sidecar.fronts.http.connection import QuotelessRunner
from foresail_sidecar.fronts.http.context import CONTEXT

# Requests have been waited for and interrupted before the runner ends; it waits this long, twice, for what is left of them.
_LAST_SECONDS = 2.0
_KEEP_IDLE_CLIENT_SECONDS = 75.0
_LINE_BYTES = 16 * 1024


@contextlib.asynccontextmanager
async def listening(application: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serve `application` while the block runs; yield the port, which the system chooses if `port` is 0.

    Raise `OSError` if the address cannot be had. Leave the block only after `drain`, or what is under way is broken off.
    """
    runner = QuotelessRunner(
        application,
        access_log=None,
        handle_signals=False,
        # A client that leaves cancels its handler, and with that the upstream's work.
        handler_cancellation=True,
        shutdown_timeout=_LAST_SECONDS,
        keepalive_timeout=_KEEP_IDLE_CLIENT_SECONDS,
        max_line_size=_LINE_BYTES,
        max_field_size=_LINE_BYTES,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        application[CONTEXT].sites.append(site)
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def drain(application: web.Application, seconds: float) -> bool:
    """Listen no more and wait until no request is under way, at most `seconds`; then end the rest, each in the way that its client understands.

    Return whether all ended by themselves.
    """
    in_flight, sites = application[CONTEXT].in_flight, application[CONTEXT].sites
    while sites:
        await sites.pop().stop()
    if await in_flight.finished(seconds):
        return True
    in_flight.interrupt()
    await in_flight.finished(_LAST_SECONDS)
    return False

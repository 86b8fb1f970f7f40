"""A TCP relay whose target can be changed while clients are connected: what a service does at a fail-over.

It owns its listening socket and the connections through it. It knows no protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Switch:
    """Relays 127.0.0.1:`port` to `target`, a port of 127.0.0.1."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._relays: set[asyncio.Task[None]] = set()

    def turn(self, target: int) -> None:
        """Cut all connections; later ones lead to the new target."""
        self.target = target
        for relay in self._relays:
            relay.cancel()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection until either side ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        task.add_done_callback(self._relays.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            there = await asyncio.open_connection("127.0.0.1", self.target)
            try:
                ways = [asyncio.ensure_future(_copy(reader, there[1])), asyncio.ensure_future(_copy(there[0], writer))]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)
            finally:
                there[1].close()
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def switch(target: int) -> AsyncIterator[Switch]:
    """Run a switch for the time of a test."""
    relay = Switch(target)
    server = await asyncio.start_server(relay.connected, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        relay.turn(target)
        await asyncio.sleep(0)

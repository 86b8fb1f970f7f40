"""Relays TCP connections between addresses, byte by byte: `python -m tests.support.relay HOST TARGET PORT...`.

For servers that listen on loopback only and that pods must reach, and for those that have no TLS of their own. It knows no protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path


async def relay(host: str, target: str, ports: list[int]) -> None:
    """Connect whoever connects to `host` on one of the ports to the same port of `target`, until cancelled."""
    servers = [await asyncio.start_server(functools.partial(_connect, target, port), host, port) for port in ports]
    await asyncio.gather(*(server.serve_forever() for server in servers))


@contextlib.asynccontextmanager
async def tls_in_front_of(port: int, certificate: Path, key: Path) -> AsyncIterator[int]:
    """Take TLS off what comes to the port that is yielded, and relay it to `port` of loopback."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    connect = functools.partial(_connect, "127.0.0.1", port)
    async with await asyncio.start_server(connect, "127.0.0.1", 0, ssl=context) as server:
        yield int(server.sockets[0].getsockname()[1])


async def _connect(target: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        target_reader, target_writer = await asyncio.open_connection(target, port)
    except OSError:
        writer.close()
        return
    await asyncio.gather(_copy(reader, target_writer), _copy(target_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


if __name__ == "__main__":
    asyncio.run(relay(sys.argv[1], sys.argv[2], [int(port) for port in sys.argv[3:]]))

"""A streamed response that ends cleanly only if its answer did.

Owns the connection towards the client while bytes pass through. It must not know where they come from, nor what they mean.
"""

from __future__ import annotations

import asyncio

from aiohttp import HttpVersion11, web

# So little unsent is below what a connection buffers, and writing it waits for nobody.
_NEVER_WAITS_BYTES = 16 * 1024


class ClientLeft(Exception):
    """The client is gone, or reads nothing for too long; `stream` is what it was being sent."""

    def __init__(self, stream: RelayedStream) -> None:
        super().__init__()
        self.stream = stream


class RelayedStream(web.StreamResponse):
    """Bytes on their way to a client.

    Once broken off, the body stays without its end on the wire, which every HTTP client can tell from a whole answer.
    """

    # aiohttp then writes the head together with the first piece.
    _send_headers_immediately = False

    def __init__(self, headers: list[tuple[str, str]], stalled_seconds: float) -> None:
        super().__init__(status=200)
        self.headers.extend(headers)
        self._stalled_seconds = stalled_seconds
        self._broken = False
        self._chunked_body = False
        self._transport: asyncio.Transport | None = None

    async def begin(self, request: web.BaseRequest, piece: bytes) -> None:
        """Send the head and the first piece. After this, an error can only be told inside of the stream."""
        self._transport = request.transport
        if request.version < HttpVersion11:
            # Without chunks, only the end of the connection ends the body.
            self.force_close()
        await self._send(piece, request)
        self._chunked_body = self.headers.get("Transfer-Encoding") == "chunked"
        # They are on their way, and a stream can last long.
        self.headers.clear()

    def relay_at_once(self, piece: bytes) -> bool:
        """Send a piece if nobody has to be waited for; return False, and send nothing, if `relay` is needed.

        That is so for large pieces, and where the client does not keep up or is gone.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        if transport.get_write_buffer_size() + len(piece) > _NEVER_WAITS_BYTES:
            return False
        if piece:
            transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked_body else piece)
        return True

    async def relay(self, piece: bytes) -> None:
        """Send a piece now; raise `ClientLeft` if the client is gone or does not read."""
        if not self.relay_at_once(piece):
            await self._send(piece)

    async def break_off(self, last_words: bytes) -> None:
        """Send what tells the client that the answer is not whole, and leave the body without its end."""
        self._broken = True
        self.force_close()
        if last_words:
            await self.relay(last_words)

    async def _send(self, piece: bytes, request: web.BaseRequest | None = None) -> None:
        try:
            async with asyncio.timeout(self._stalled_seconds):
                if request is not None:
                    await self.prepare(request)
                await self.write(piece)
        except (ConnectionError, TimeoutError):
            self._abandon()
            raise ClientLeft(self) from None

    def _abandon(self) -> None:
        # Nobody reads: what is still buffered must not keep the connection.
        self._broken = True
        self.force_close()
        if self._transport is not None:
            self._transport.abort()

    async def write_eof(self, data: bytes = b"") -> None:
        """Send the end of the body, unless the stream was broken off. Called by aiohttp when the handler returns."""
        if not self._broken:
            await super().write_eof(data)

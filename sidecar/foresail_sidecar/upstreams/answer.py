"""The answer of one upstream while it comes: its head, and its body piece by piece, in the moment that each is there.

Owns the connection until the body has ended, bounds every wait for it, and turns what breaks it into an `UpstreamFailure`. It must not
know what pieces mean, nor what becomes of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import aiohttp
from multidict import CIMultiDictProxy

from foresail_sidecar.upstreams.failures import FailureKind, UpstreamFailure, without_frames
from foresail_sidecar.upstreams.timeouts import UpstreamTimeouts


class UpstreamAnswer:
    """The head of an answer, and its body to be read once."""

    def __init__(self, response: aiohttp.ClientResponse, timeouts: UpstreamTimeouts, deadline: float) -> None:
        self._response = response
        self._timeouts = timeouts
        self._deadline = deadline
        self._bytes_given = 0
        self.status = response.status
        self.headers: CIMultiDictProxy[str] = response.headers
        self.content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def unread(self) -> bool:
        """Whether more of the body has come than was given to anybody."""
        return self._response.content.total_bytes > self._bytes_given

    async def deliver(self, take: Callable[[bytes], bool]) -> bool:
        """Give each piece of the body to `take` as soon as it is there; return True at the end of the body, and False once `take` does.

        After False, the next call goes on. Where nothing is there yet, `take` is called while this waits, by what receives: it must not
        raise. Raise `UpstreamFailure` if the body breaks off or pauses for too long.
        """
        content, now = self._response.content, asyncio.get_running_loop().time
        try:
            while True:
                while piece := content.read_nowait():
                    if now() >= self._deadline and not content.is_eof():
                        # Where a client reads more slowly than the upstream sends, there is never anything to wait for.
                        raise TimeoutError
                    if not self._given(take, piece):
                        return False
                if content.is_eof():
                    return True
                if self._ends():
                    # Its end is on its way to the connection's own protocol, and passes by whoever stands before that from now on.
                    async with asyncio.timeout_at(min(now() + self._timeouts.idle, self._deadline)):
                        piece = await content.readany()
                    if piece and not self._given(take, piece):
                        return False
                    continue
                delivery = _Delivery(self._response, partial(self._given, take), self._timeouts.idle, self._deadline)
                try:
                    if await delivery.refused:
                        return False
                finally:
                    delivery.end()
        except TimeoutError:
            late = now() >= self._deadline
            said = (
                f"took longer than {self._timeouts.total:g} s"
                if late
                else f"sent nothing for {self._timeouts.idle:g} s"
            )
            raise UpstreamFailure(FailureKind.TIMED_OUT, f"the upstream {said}") from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise UpstreamFailure(
                FailureKind.BROKEN, f"the upstream broke off its answer ({without_frames(error)})"
            ) from None

    async def read(self, limit_bytes: int, take: Callable[[int], None] | None = None) -> bytes:
        """Return the whole body; raise `UpstreamFailure` also if it is longer than `limit_bytes`.

        `take` is told the length of each piece before the next one; what it raises ends the reading.
        """
        pieces: list[bytes] = []
        refusals: list[Exception] = []

        def keep(piece: bytes) -> bool:
            try:
                if self._bytes_given > limit_bytes:
                    raise UpstreamFailure(FailureKind.TOO_LARGE, f"the upstream's answer exceeds {limit_bytes} bytes")
                if take is not None:
                    take(len(piece))
            except Exception as refusal:
                refusals.append(refusal)
                return False
            pieces.append(piece)
            return True

        if not await self.deliver(keep):
            raise refusals.pop()
        return b"".join(pieces)

    def _given(self, take: Callable[[bytes], bool], piece: bytes) -> bool:
        self._bytes_given += len(piece)
        return take(piece)

    def _ends(self) -> bool:
        connection = self._response.connection
        return connection is not None and connection.transport is not None and connection.transport.is_closing()

    def close(self) -> None:
        """Let go of the connection. Unless the body was read to its end, the upstream sees the connection close."""
        self._response.close()


class _Delivery(asyncio.Protocol):
    """Stands before the protocol of a connection, and gives what comes of a body to `take` without waking the task that waits.

    Nothing of the body is there that was not read. The task waits for `refused`: True once `take` returned False, False once no more comes, because the body has ended or broke.
    """

    __slots__ = (
        "_content",
        "_deadline",
        "_idle",
        "_last",
        "_loop",
        "_protocol",
        "_read",
        "_take",
        "_timer",
        "_transport",
        "refused",
    )

    def __init__(
        self, response: aiohttp.ClientResponse, take: Callable[[bytes], bool], idle: float, deadline: float
    ) -> None:
        connection = response.connection
        if connection is None or connection.transport is None or connection.protocol is None:
            raise aiohttp.ClientConnectionError
        self._loop = asyncio.get_running_loop()
        self._content = response.content
        self._read = response.content.total_bytes
        self._take = take
        self._idle = idle
        self._deadline = deadline
        self._last = self._loop.time()
        self.refused: asyncio.Future[bool] = self._loop.create_future()
        self._timer = self._loop.call_at(min(self._last + idle, deadline), self._look)
        self._protocol = connection.protocol
        self._transport = connection.transport
        self._transport.set_protocol(self)

    def end(self) -> None:
        """Leave the connection as it was. Must come before it is used again, and more than once does no harm."""
        self._timer.cancel()
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._protocol)

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)
        self._give()

    def eof_received(self) -> None:
        self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
        self._give()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def _give(self) -> None:
        refused, content = self.refused, self._content
        if refused.done():
            return
        if content.exception() is None:
            # To ask for more than there is costs as much as to read it.
            while content.total_bytes > self._read:
                piece = content.read_nowait()
                self._read += len(piece)
                if not self._take(piece):
                    refused.set_result(True)
                    self.end()
                    return
            if not content.is_eof():
                self._last = self._loop.time()
                return
        refused.set_result(False)
        self.end()

    def _look(self) -> None:
        # One timer that looks when the last piece came costs less than a timer for each piece.
        due = min(self._last + self._idle, self._deadline)
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._look)
        else:
            self._content.set_exception(TimeoutError())
            self._give()

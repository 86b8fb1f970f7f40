"""One attempt at one upstream over HTTP: sends the request, gives the answer piece by piece, bounds every wait.

Owns the connections and turns every failure of theirs into an `UpstreamFailure`. It must not know bodies, nor what becomes of an answer.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Self

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy

from foresail_sidecar.upstreams.failures import FailureKind, UpstreamFailure
from foresail_sidecar.upstreams.headers import Field
from foresail_sidecar.upstreams.targets import Target
from foresail_sidecar.upstreams.timeouts import UpstreamTimeouts

_READ_BUFFER_BYTES = 64 * 1024
# Larger bodies are written in pieces, between which other requests go on.
_WRITTEN_AT_ONCE_BYTES = 1024 * 1024
_DECODED = frozenset({"", "identity", "gzip", "deflate", "br", "zstd"})
# Headers are ours to the last one: what the client did not send and we do not need is not made up.
_NEVER_ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class UpstreamAnswer:
    """The head of an answer, and its body to be read once."""

    def __init__(self, response: aiohttp.ClientResponse, idle_seconds: float) -> None:
        self._response = response
        self._idle_seconds = idle_seconds
        self.status = response.status
        self.headers: CIMultiDictProxy[str] = response.headers
        self.content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; raise `UpstreamFailure` if it breaks off or pauses for too long."""
        content = self._response.content
        while True:
            try:
                async with asyncio.timeout(self._idle_seconds):
                    piece = await content.readany()
            except TimeoutError:
                raise UpstreamFailure(
                    FailureKind.TIMED_OUT, f"the upstream sent nothing for {self._idle_seconds:g} s"
                ) from None
            except (aiohttp.ClientError, ConnectionError) as error:
                raise UpstreamFailure(
                    FailureKind.BROKEN, f"the upstream broke off its answer ({type(error).__name__})"
                ) from None
            if not piece:
                return
            yield piece

    async def read(self, limit_bytes: int, take: Callable[[int], None] | None = None) -> bytes:
        """Return the whole body; raise `UpstreamFailure` also if it is longer than `limit_bytes`.

        `take` is told the length of each piece before it is kept; what it raises ends the reading.
        """
        pieces = []
        length = 0
        async for piece in self.pieces():
            length += len(piece)
            if length > limit_bytes:
                raise UpstreamFailure(FailureKind.TOO_LARGE, f"the upstream's answer exceeds {limit_bytes} bytes")
            if take is not None:
                take(len(piece))
            pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Let go of the connection. Unless the body was read to its end, the upstream sees the connection close."""
        self._response.close()


class UpstreamClient:
    """Sends requests over connections that it keeps. To be used as an asynchronous context manager."""

    def __init__(self, timeouts: UpstreamTimeouts) -> None:
        self._timeouts = timeouts
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            limit=0,  # requests under way are bounded where they come in
            keepalive_timeout=self._timeouts.keep_idle_connection,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._timeouts.connect, sock_read=None),
            read_bufsize=_READ_BUFFER_BYTES,
            skip_auto_headers=_NEVER_ADDED,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(self, target: Target, headers: Sequence[Field], body: bytes) -> UpstreamAnswer:
        """Send one request and return the answer's head; raise `UpstreamFailure`.

        Nothing is tried twice here: once a request may have reached an upstream, that may bill it. Redirects are not followed.
        """
        if self._session is None:
            raise RuntimeError("the client is closed")
        try:
            async with asyncio.timeout(self._timeouts.connect + self._timeouts.first_byte):
                data = body if len(body) <= _WRITTEN_AT_ONCE_BYTES else io.BytesIO(body)
                response = await self._session.post(
                    target.url, data=data, headers=CIMultiDict(headers), allow_redirects=False
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UpstreamFailure(FailureKind.UNREACHABLE, f"no connection ({type(error).__name__})") from None
        except ValueError:
            # Raised before anything is written, for a URL or a header that HTTP cannot carry; the message could quote a credential.
            raise UpstreamFailure(
                FailureKind.UNREACHABLE, "its URL or credential has characters that HTTP cannot carry"
            ) from None
        except (TimeoutError, aiohttp.ServerTimeoutError):
            raise UpstreamFailure(
                FailureKind.TIMED_OUT, f"the upstream gave no answer within {self._timeouts.first_byte:g} s"
            ) from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise UpstreamFailure(
                FailureKind.BROKEN, f"the upstream gave no valid answer ({type(error).__name__})"
            ) from None
        return self._checked(response)

    def _checked(self, response: aiohttp.ClientResponse) -> UpstreamAnswer:
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in _DECODED:
            response.close()
            raise UpstreamFailure(
                FailureKind.BROKEN, "the upstream compressed its answer in a way that was not asked for"
            )
        return UpstreamAnswer(response, self._timeouts.idle)

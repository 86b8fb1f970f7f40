"""One attempt at one upstream over HTTP: sends the request, gives the head of the answer, bounds every wait.

Owns the connections and turns every failure of theirs into an `UpstreamFailure`. It must not know bodies, nor what becomes of an answer.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Self

import aiohttp
from multidict import CIMultiDict

from foresail_sidecar.upstreams.answer import UpstreamAnswer
from foresail_sidecar.upstreams.failures import FailureKind, UpstreamFailure, without_frames
from foresail_sidecar.upstreams.headers import Field
from foresail_sidecar.upstreams.targets import Target
from foresail_sidecar.upstreams.timeouts import UpstreamTimeouts

_READ_BUFFER_BYTES = 64 * 1024
# Larger bodies are written in pieces, between which other requests go on.
_WRITTEN_AT_ONCE_BYTES = 1024 * 1024
# Below the 5 seconds after which common servers close an idle connection, so that none is used while it closes.
_KEEP_IDLE_CONNECTION_SECONDS = 3.0
_DECODED = frozenset({"", "identity", "gzip", "deflate", "br", "zstd"})
# Told when the request that this task makes has a connection.
_HEAD: ContextVar[_Head] = ContextVar("head")


@dataclass(slots=True)
class _Head:
    """The wait for the head of one answer: `scope` bounds it, from the connection on by `seconds`, and never beyond `deadline`.

    `sending` is called once there is a connection. Both are None once the wait is over.
    """

    scope: asyncio.Timeout | None
    sending: Callable[[], None] | None
    seconds: float
    deadline: float
    connected: bool = False

    def connect(self) -> None:
        """Note that there is a connection, so that the request may have been sent."""
        self.connected = True
        if self.sending is not None:
            self.sending()
        scope, until = self.scope, min(asyncio.get_running_loop().time() + self.seconds, self.deadline)
        # A kept connection is there at once, and a scope's new timer costs more than the rest of this.
        if scope is not None and until != scope.when() and not scope.expired():
            scope.reschedule(until)

    def end(self) -> None:
        """Forget the scope. It knows its task and the task its variables: a circle that only the search for garbage would open.

        A kept connection even holds the variables of the request that it was made for, and would hold that request's answer.
        """
        self.scope = self.sending = None


class _CompleteRequest(aiohttp.ClientRequest):
    """A request whose headers are ours to the last one: what the client did not send and we do not need is not made up."""

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:
        """Add nothing."""

    async def send(self, conn: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        """Send the request: from here on the upstream's time runs, however much of its own the connection took."""
        _HEAD.get().connect()
        return await super().send(conn)


class UpstreamClient:
    """Sends requests over connections that it keeps. To be used as an asynchronous context manager."""

    def __init__(self, timeouts: UpstreamTimeouts | None = None) -> None:
        """`timeouts` go before those of the targets."""
        self._timeouts = timeouts
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            limit=0,  # requests under way are bounded where they come in
            keepalive_timeout=_KEEP_IDLE_CONNECTION_SECONDS,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_READ_BUFFER_BYTES,
            request_class=_CompleteRequest,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(
        self,
        target: Target,
        headers: Sequence[Field],
        body: bytes,
        deadline: float | None = None,
        sending: Callable[[], None] = lambda: None,
    ) -> UpstreamAnswer:
        """Send one request and return the answer's head; raise `UpstreamFailure`.

        `deadline`, by the clock of the event loop, is when the whole answer must have come; the total time-out after now if absent. `sending` is called when
        there is a connection, before anything is written to it. Nothing is tried twice here: once a request may have reached an upstream, that may bill it. Redirects are not followed.
        """
        if self._session is None:
            raise RuntimeError("the client is closed")
        timeouts, now = self._timeouts or target.timeouts, asyncio.get_running_loop().time()
        deadline = now + timeouts.total if deadline is None else deadline
        try:
            # Connecting has a bound of its own, which must come first.
            most = (
                timeouts.first_byte
                if timeouts.first_byte > timeouts.connect
                else timeouts.connect + timeouts.first_byte
            )
            async with asyncio.timeout_at(min(now + most, deadline)) as scope:
                head = _Head(scope, sending, timeouts.first_byte, deadline)
                data = aiohttp.BytesPayload(body) if len(body) <= _WRITTEN_AT_ONCE_BYTES else io.BytesIO(body)
                _HEAD.set(head)
                try:
                    response = await self._session.post(
                        target.url,
                        data=data,
                        headers=CIMultiDict(headers),
                        allow_redirects=False,
                        timeout=_only_to_connect(timeouts.connect),
                    )
                finally:
                    head.end()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UpstreamFailure(FailureKind.UNREACHABLE, f"no connection ({without_frames(error)})") from None
        except ValueError:
            # Raised before anything is written, for a URL or a header that HTTP cannot carry; the message could quote a credential.
            raise UpstreamFailure(
                FailureKind.UNREACHABLE, "its URL or credential has characters that HTTP cannot carry"
            ) from None
        except (TimeoutError, aiohttp.ServerTimeoutError):
            if not head.connected:
                raise UpstreamFailure(FailureKind.UNREACHABLE, "no connection (TimeoutError)") from None
            raise UpstreamFailure(
                FailureKind.TIMED_OUT,
                f"the upstream gave no answer within {min(timeouts.first_byte, deadline - now):g} s",
            ) from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise UpstreamFailure(
                FailureKind.BROKEN, f"the upstream gave no valid answer ({without_frames(error)})"
            ) from None
        return self._checked(response, timeouts, deadline)

    def _checked(self, response: aiohttp.ClientResponse, timeouts: UpstreamTimeouts, deadline: float) -> UpstreamAnswer:
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in _DECODED:
            response.close()
            raise UpstreamFailure(
                FailureKind.BROKEN, "the upstream compressed its answer in a way that was not asked for"
            )
        return UpstreamAnswer(response, timeouts, deadline)


@lru_cache(maxsize=256)
def _only_to_connect(seconds: float) -> aiohttp.ClientTimeout:
    """Return the bound on what is not bounded here."""
    return aiohttp.ClientTimeout(total=None, connect=seconds, sock_read=None)

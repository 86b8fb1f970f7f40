"""Runs scripts on a Redis: many calls of one moment in one round trip, each round trip with a deadline.

It owns connections, pipelining and the translation of every failure into `LedgerUnavailable`. It must not know what the
scripts mean.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hiredis import pack_command
from redis.asyncio import ConnectionPool, Redis, SSLConnection
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from foresail_sidecar.ledger.deadline import Deadline
from foresail_sidecar.ledger.interface import LedgerUnavailable
from foresail_sidecar.ledger.redis.scripts import Script
from foresail_sidecar.ledger.redis.wire import Argument

_MOST_CONNECTIONS: Final = 4
_MOST_IN_BATCH: Final = 64
_MOST_WAITING: Final = 4096


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """Where the Redis is, and how long any call may take. The password is in no message.

    `trust` checks the certificate of a `rediss://` server; None: against the machine's authorities.
    """

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    deadline_seconds: float = 0.5
    trust: ssl.SSLContext | None = field(default=None, repr=False)


class _TrustingConnection(SSLConnection):
    """A connection over TLS that shares one context with the others, instead of reading the machine's certificates again."""

    def __init__(self, *, trust: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = trust


@dataclass(slots=True)
class _Call:
    words: tuple[Argument, ...]
    script: Script | None
    answer: asyncio.Future[object]


class Calls:
    """Commands to one server. Nothing is connected before the first call."""

    def __init__(self, settings: RedisSettings) -> None:
        self._deadline = settings.deadline_seconds
        options: dict[str, Any] = {
            "username": settings.username,
            "password": settings.password,
            "protocol": 2,
            "decode_responses": False,
            # One more than there are batches in flight.
            "max_connections": _MOST_CONNECTIONS + 1,
            # Reading ends with the deadline of its batch.
            "socket_timeout": None,
            "socket_connect_timeout": self._deadline,
            # Telling the server the client's version would read it from the disk, on the event loop, with each connection.
            "driver_info": None,
            # Repeating is decided above: a call that was late is not sent a second time behind its caller's back.
            "retry": Retry(NoBackoff(), 0),
            **parse_url(settings.url),
        }
        if settings.trust is not None:
            options |= {"connection_class": _TrustingConnection, "trust": settings.trust}
        self._redis = Redis.from_pool(ConnectionPool(**options))
        self._idle: list[AbstractConnection] = []
        self._waiting: deque[_Call] = deque()
        self._batches: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._closed = False

    async def script(self, script: Script, key: str, arguments: Sequence[Argument]) -> object:
        """Run a script over one key and return its answer.

        Whoever calls bounds the wait for a turn, which is there only while four round trips are under way.

        Raises:
            LedgerUnavailable: no answer within the deadline of the round trip, or an error in its place.
        """
        return await self._call(_Call(("EVALSHA", script.digest, 1, key, *arguments), script, _future()))

    async def command(self, *words: Argument) -> object:
        """Run one command. Raises as `script` does."""
        return await self._call(_Call(words, None, _future()))

    async def close(self) -> None:
        """End all calls and connections."""
        self._closed = True
        for batch in tuple(self._batches):
            batch.cancel()
        await asyncio.gather(*self._batches, return_exceptions=True)
        self._fail(self._waiting, LedgerUnavailable("the ledger is closed"))
        await self._let_go()
        await self._redis.aclose()

    async def _call(self, call: _Call) -> object:
        if self._closed:
            raise LedgerUnavailable("the ledger is closed")
        if len(self._waiting) >= _MOST_WAITING:
            raise LedgerUnavailable(f"more than {_MOST_WAITING} calls wait for Redis")
        self._waiting.append(call)
        if not self._scheduled:
            # At the end of this turn of the loop, so that all calls of the turn share a round trip.
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._send)
        answer = call.answer
        del call
        try:
            return await answer
        finally:
            # An error that an answer keeps knows this frame.
            del answer

    def _send(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._batches) < _MOST_CONNECTIONS and not self._closed:
            batch: list[_Call] = []
            while self._waiting and len(batch) < _MOST_IN_BATCH:
                call = self._waiting.popleft()
                if not call.answer.done():
                    batch.append(call)
            if batch:
                task = asyncio.create_task(self._run(batch))
                self._batches.add(task)
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        self._send()

    async def _run(self, batch: list[_Call]) -> None:
        try:
            with Deadline(self._deadline):
                missing = await self._exchange(batch)
                if missing:
                    scripts = {call.script.digest: call.script for call in missing if call.script is not None}
                    await self._round_trip([("SCRIPT", "LOAD", script.source) for script in scripts.values()])
                    self._fail(await self._exchange(missing), LedgerUnavailable("Redis lost the scripts again"))
        except TimeoutError:
            self._fail(batch, LedgerUnavailable(f"Redis did not answer within {self._deadline * 1000:.0f} ms"))
        except (RedisError, OSError) as error:
            self._fail(batch, LedgerUnavailable(_said(error)))
        except asyncio.CancelledError:
            self._fail(batch, LedgerUnavailable("the ledger is closed"))
            raise

    async def _exchange(self, batch: Sequence[_Call]) -> list[_Call]:
        """Send all and hand out the answers; returns the calls whose script the server does not know."""
        answers = await self._round_trip([call.words for call in batch])
        missing: list[_Call] = []
        for call, answer in zip(batch, answers, strict=True):
            if isinstance(answer, NoScriptError):
                missing.append(call)
            elif call.answer.done():
                continue
            elif isinstance(answer, Exception):
                call.answer.set_exception(LedgerUnavailable(_said(answer)))
            else:
                call.answer.set_result(answer)
        if any(isinstance(answer, ReadOnlyError) for answer in answers):
            # A server that became a replica: the address may lead to the new primary by now.
            await self._let_go()
        return missing

    async def _round_trip(self, commands: Sequence[tuple[Argument, ...]]) -> list[object]:
        """Send all at once and read one answer each; an error that the server answers stands in its place."""
        # The library's own pipeline packs each argument in Python, which costs more than all the rest of a call.
        connection = await self._connection()
        answers: list[object] = []
        try:
            # The stub of `pack_command` forgets that a command has more than one word.
            await connection.send_packed_command([pack_command(words) for words in commands])  # type: ignore[arg-type]
            for _ in commands:
                try:
                    answers.append(await connection.read_response())
                except ResponseError as error:
                    # Its traceback knows this frame, which knows the answers.
                    answers.append(error.with_traceback(None))
        except BaseException:
            await self._redis.connection_pool.release(connection)
            raise
        self._idle.append(connection)
        return answers

    async def _connection(self) -> AbstractConnection:
        """Return the connection that was used last, where the server has not closed it, else one of the pool.

        To give a connection back to the pool and to take it out again costs as much as to send and to read.
        """
        pool = self._redis.connection_pool
        while self._idle:
            connection = self._idle.pop()
            if connection.is_connected and not await connection.can_read():
                return connection
            await pool.release(connection)
        taken: AbstractConnection = await pool.get_connection()  # type: ignore[no-untyped-call]
        return taken

    async def _let_go(self) -> None:
        """Close what nobody uses now."""
        pool = self._redis.connection_pool
        while self._idle:
            await pool.release(self._idle.pop())
        await pool.disconnect(inuse_connections=False)

    @staticmethod
    def _fail(calls: Sequence[_Call] | deque[_Call], error: LedgerUnavailable) -> None:
        for call in calls:
            if not call.answer.done():
                call.answer.set_exception(LedgerUnavailable(*error.args))


def _future() -> asyncio.Future[object]:
    return asyncio.get_running_loop().create_future()


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]

"""A `Scorer` that asks a scoring process over its Unix socket, over one connection that is made again when it is lost.

It must not know artifacts or batching. Deadlines hold here too: a process that hangs or dies costs a request no more than its deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from dataclasses import replace
from pathlib import Path

from foresail_api.errors import UserError
from foresail_router.engine.interface import DeadlineExceeded, ScoreRequest, ScoreResult, ScorerOverloaded, ScoringError
from foresail_router.engine.wire import (
    BadFrame,
    Message,
    encode_frame,
    parse_error,
    parse_result,
    read_frame,
    request_message,
)
from foresail_router.features.text import readable

MAX_IN_FLIGHT = 1024
_LOAD_SECONDS = 130.0
_CONNECT_SECONDS = 2.0


class _Lost(Exception):
    """The connection ended before the answer came."""


class SocketScorer:
    """See the module. Safe to call concurrently from one event loop; `close` it at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = itertools.count(1)
        self._connecting = asyncio.Lock()
        self._connection: _Connection | None = None
        self._closed = False

    async def score(self, request: ScoreRequest) -> ScoreResult:
        """Return the estimates, or raise a `ScoringError` no later than the request's deadline."""
        # What no router reads is not sent.
        message = request_message(replace(request, texts=tuple(readable(text) for text in request.texts)))
        reply = await self._ask(message, request.deadline_seconds)
        try:
            return parse_result(reply, request.models)
        except BadFrame as error:
            raise ScoringError(str(error)) from error

    async def load(self, directory: Path, digest: str | None = None) -> str:
        """Have the process load an artifact that it can read; return its digest. Raises `UserError` or `ScoringError`."""
        message: Message = {"operation": "load", "directory": _absolute(directory), "digest": digest}
        return str((await self._ask(message, _LOAD_SECONDS)).get("digest"))

    async def unload(self, digest: str) -> None:
        """Have the process forget an artifact."""
        await self._ask({"operation": "unload", "digest": digest}, _LOAD_SECONDS)

    async def close(self) -> None:
        """End the connection; the process goes on."""
        self._closed = True
        if self._connection is not None:
            await self._connection.close()

    async def _ask(self, message: Message, seconds: float) -> Message:
        if self._closed:
            raise ScoringError("the scorer is closed")
        if seconds <= 0:
            raise DeadlineExceeded("the deadline has passed already")
        try:
            async with asyncio.timeout(seconds):
                try:
                    return await self._ask_once(message)
                except _Lost:
                    # The process was restarted: nothing was charged or changed, so it is asked once more.
                    return await self._ask_once(message)
        except TimeoutError as error:
            raise DeadlineExceeded("the estimates did not come in time") from error
        except (_Lost, OSError) as error:
            raise ScoringError("the scoring process is not reachable") from error
        except BadFrame as error:
            raise ScoringError(str(error)) from error

    async def _ask_once(self, message: Message) -> Message:
        connection = await self._connected()
        return await connection.ask({**message, "id": next(self._numbers)})

    async def _connected(self) -> _Connection:
        async with self._connecting:
            if self._connection is None or self._connection.lost:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    self._connection = _Connection(*await asyncio.open_unix_connection(str(self._path)))
            return self._connection


class _Connection:
    """One connection, its reading task, and who waits for which answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self.lost = False
        self._reading = asyncio.create_task(self._read(reader), name="foresail-scorer-answers")

    async def ask(self, message: Message) -> Message:
        if len(self._waiting) >= MAX_IN_FLIGHT:
            raise ScorerOverloaded("too many requests are in flight")
        number: int = message["id"]
        frame = encode_frame(message)
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._writer.write(frame)
            await self._writer.drain()
            return _result(await future)
        except asyncio.CancelledError:
            # Nobody waits any more: the process need not work on it.
            with contextlib.suppress(OSError, RuntimeError):
                self._writer.write(encode_frame({"id": number, "operation": "cancel"}))
            raise
        except ConnectionError as error:
            # The reading task may not have seen the end yet; the next request must not find this connection again.
            self.lost = True
            raise _Lost from error
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while (reply := await read_frame(reader)) is not None:
                future = self._waiting.get(reply.get("id", 0))
                if future is not None and not future.done():
                    future.set_result(reply)
        except (BadFrame, OSError):
            pass
        finally:
            self.lost = True
            self._writer.close()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(_Lost())


def _result(reply: Message) -> Message:
    if isinstance(error := reply.get("error"), dict):
        raise parse_error(error)
    if isinstance(message := reply.get("user_error"), str):
        raise UserError(message)
    if not isinstance(result := reply.get("result"), dict):
        raise BadFrame("an answer has no result")
    return result


def _absolute(directory: Path) -> str:
    """The process has a working directory of its own."""
    return os.path.abspath(directory)

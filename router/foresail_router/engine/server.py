"""A scorer behind a Unix socket: reads frames, asks the scorer, answers in whatever order results come.

Who may use it is a matter of the socket file's mode, 0600. It must not know artifacts' contents or batching.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import stat
from pathlib import Path

from foresail_api.errors import UserError
from foresail_router.engine.interface import ScorerOverloaded, ScoringError
from foresail_router.engine.local import LocalScorer
from foresail_router.engine.wire import (
    BadFrame,
    Message,
    encode_frame,
    error_message,
    parse_request,
    read_frame,
    result_message,
)

MAX_IN_FLIGHT = 1024
_WRITE_SECONDS = 10.0
_MAX_PATH_BYTES = 100


class ScoringServer:
    """Serves one scorer to any number of connections of the same user, until `close`."""

    def __init__(self, scorer: LocalScorer, path: Path) -> None:
        self._scorer = scorer
        self._path = path
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Bind the socket; raises `UserError` when the path cannot be used or another server answers there."""
        listening = _bind(self._path)
        self._server = await asyncio.start_unix_server(self._accept, sock=listening)

    async def close(self) -> None:
        """Stop listening, end all connections and remove the socket file."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
        connection = _Connection(self._scorer, writer)
        try:
            await connection.serve(reader)
        except (BadFrame, OSError):
            pass
        finally:
            connection.cancel_all()
            if task is not None:
                self._connections.discard(task)
            writer.close()


class _Connection:
    """The requests in flight of one connection, by the number that the client gave each."""

    def __init__(self, scorer: LocalScorer, writer: asyncio.StreamWriter) -> None:
        self._scorer = scorer
        self._writer = writer
        self._running: dict[int, asyncio.Task[None]] = {}

    async def serve(self, reader: asyncio.StreamReader) -> None:
        while (message := await read_frame(reader)) is not None:
            number = message.get("id")
            if not isinstance(number, int):
                raise BadFrame("a message has no number")
            if message.get("operation") == "cancel":
                if (cancelled := self._running.get(number)) is not None:
                    cancelled.cancel()
            elif len(self._running) >= MAX_IN_FLIGHT or number in self._running:
                await self._send(
                    {"id": number, "error": error_message(ScorerOverloaded("too many requests are in flight"))}
                )
            else:
                task = asyncio.create_task(self._answer(number, message))
                self._running[number] = task
                task.add_done_callback(functools.partial(self._forget, number))

    def _forget(self, number: int, _: asyncio.Task[None]) -> None:
        self._running.pop(number, None)

    def cancel_all(self) -> None:
        for task in list(self._running.values()):
            task.cancel()

    async def _answer(self, number: int, message: Message) -> None:
        try:
            reply = {"id": number, "result": await self._perform(message)}
        except ScoringError as error:
            reply = {"id": number, "error": error_message(error)}
        except UserError as error:
            reply = {"id": number, "user_error": str(error)}
        except BadFrame as error:
            reply = {"id": number, "error": error_message(ScoringError(str(error)))}
        except Exception as error:
            # A defect must not cost its asker the whole deadline; the message may hold text, so only its class is told.
            reply = {"id": number, "error": error_message(ScoringError(f"the scorer failed: {type(error).__name__}"))}
        with contextlib.suppress(OSError, TimeoutError):
            await self._send(reply)

    async def _perform(self, message: Message) -> Message:
        operation = message.get("operation")
        if operation == "score":
            return result_message(await self._scorer.score(parse_request(message)))
        if operation == "load":
            directory, digest = message.get("directory"), message.get("digest")
            if not isinstance(directory, str) or not isinstance(digest, str | None):
                raise BadFrame("a request has a field of the wrong type")
            return {"digest": await self._scorer.load(Path(directory), digest)}
        if operation == "unload":
            await self._scorer.unload(str(message.get("digest")))
            return {}
        raise BadFrame("an unknown operation")

    async def _send(self, reply: Message) -> None:
        # One write per frame, so that frames of concurrent answers never mix.
        self._writer.write(encode_frame(reply))
        async with asyncio.timeout(_WRITE_SECONDS):
            await self._writer.drain()


def _bind(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise UserError(
            f"--socket {path}: is longer than {_MAX_PATH_BYTES} bytes, the most that a socket's path may have; choose a shorter one"
        )
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The file must never be open to others, not even between bind and chmod.
    mask = os.umask(0o177)
    try:
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        raise UserError(f"--socket {path}: cannot be bound: {error.strerror}; choose a writable directory") from error
    finally:
        os.umask(mask)
    return listening


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise UserError(f"--socket {path}: exists and is not a socket; choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"--socket {path}: cannot be probed: {error.strerror or error}; remove it") from error
        else:
            raise UserError(f"--socket {path}: another process serves there; stop it or choose another path")

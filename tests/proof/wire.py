"""One kept connection of one client, at bytes: a thousand of them fit into a process.

Owns requests and answers of HTTP/1.1 as far as the proof needs them. It must not know what is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_HEAD_BYTES = 64 * 1024
_CONNECT_SECONDS = 5.0


class Broken(Exception):
    """No connection, or no whole answer."""


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """What an error calls itself, empty for anything else."""
        if self.status == 200:
            return ""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            said: Any = json.loads(self.body)
            return str(said["error"]["code"])
        return "no code"

    @property
    def retry_after(self) -> float:
        """When to come again, in seconds."""
        return float(self.headers.get("retry-after", "1"))


class Connection:
    """A connection that is kept from one request to the next."""

    def __init__(self) -> None:
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def connected(self) -> bool:
        """Whether there is one, as far as is known."""
        return self._writer is not None and self._reader is not None and not self._reader.at_eof()

    async def connect(self, port: int) -> None:
        """Open it; raise `Broken` if nobody listens."""
        self.close()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port, limit=_HEAD_BYTES)
        except (OSError, TimeoutError):
            raise Broken("no connection") from None

    def close(self) -> None:
        """Leave, whatever is under way."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def ask(
        self, path: str, body: bytes | None = None, headers: str = "", *, seconds: float = 30.0, leaves_after: int = -1
    ) -> Answer | None:
        """Send one request and return the answer; raise `Broken`, also after `seconds`.

        With `leaves_after` the client leaves when so many bytes of the body have come, and the answer is None.
        """
        if self._writer is None or self._reader is None:
            raise Broken("not connected")
        method = "GET" if body is None else "POST"
        head = f"{method} {path} HTTP/1.1\r\nHost: proof\r\n{headers}Content-Length: {len(body or b'')}\r\n"
        kind = "Content-Type: application/json\r\n" if body is not None else ""
        try:
            async with asyncio.timeout(seconds):
                self._writer.write(f"{head}{kind}\r\n".encode() + (body or b""))
                return await self._answer(self._reader, leaves_after)
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError) as error:
            self.close()
            raise Broken(type(error).__name__) from None
        except asyncio.CancelledError:
            self.close()
            raise

    async def _answer(self, reader: asyncio.StreamReader, leaves_after: int) -> Answer | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ")[1])
        fields = (line.partition(":") for line in head[1:] if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in fields}
        if "chunked" not in headers.get("transfer-encoding", ""):
            answer = Answer(status, headers, await reader.readexactly(int(headers.get("content-length", "0"))))
        else:
            chunks = []
            came = 0
            while size := int(await reader.readuntil(b"\r\n"), 16):
                chunks.append((await reader.readexactly(size + 2))[:-2])
                came += size
                if 0 <= leaves_after <= came:
                    self.close()
                    return None
            await reader.readexactly(2)
            answer = Answer(status, headers, b"".join(chunks))
        if headers.get("connection") == "close":
            self.close()
        return answer

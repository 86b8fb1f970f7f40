"""A real OpenAI-compatible upstream on a socket that answers as a test scripts it, and remembers what it was asked.

A script is an asynchronous function from what was asked and the aiohttp request to a response; the ones here cover the usual and the broken.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from tests.support.processes import free_port


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    headers: Mapping[str, str]
    header_items: Sequence[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


Script = Callable[[Asked, web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Upstream:
    """A running upstream. `left` counts requests whose client left before they were answered."""

    url: str
    script: Script
    asked: list[Asked] = field(default_factory=list)
    left: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    abandoned: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request.headers, list(request.headers.items()), await request.read())
        self.asked.append(asked)
        self.arrived.set()
        try:
            return await self.script(asked, request)
        except asyncio.CancelledError:
            self._count_one_that_left()
            raise
        except ConnectionError:
            self._count_one_that_left()
            return web.Response()

    def _count_one_that_left(self) -> None:
        self.left += 1
        self.abandoned.set()


@contextlib.asynccontextmanager
async def running_upstream(script: Script) -> AsyncIterator[Upstream]:
    """Serve `/v1/chat/completions` by `script` on a free port of loopback."""
    upstream = Upstream("", script)
    application = web.Application(client_max_size=64 * 1024**2)
    application.router.add_post("/v1/chat/completions", upstream.handle)
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        upstream.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield upstream
    finally:
        await runner.cleanup()


def unreachable_url() -> str:
    """The base URL of an upstream that does not exist."""
    return f"http://127.0.0.1:{free_port()}/v1"


def completion(content: str, usage: Mapping[str, int] | None, **more: object) -> bytes:
    """The body of an answer that is not streamed. The spaces and the order are unlike what any JSON library writes by itself."""
    body: dict[str, object] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "scripted",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        **more,
    }
    if usage is not None:
        body["usage"] = dict(usage)
    return json.dumps(body, separators=(" , ", " :  ")).encode()


def usage(input_tokens: int, output_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }


def event(data: object) -> bytes:
    """One event of a stream."""
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def piece(content: str, finish_reason: str | None = None, **more: object) -> dict[str, object]:
    """The data of one event that carries a piece of an answer."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": content}, "finish_reason": finish_reason}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "scripted",
        "choices": [choice],
        **more,
    }


def usage_piece(input_tokens: int, output_tokens: int) -> dict[str, object]:
    """The data of the event that a stream ends with when usage was asked for."""
    return {**piece(""), "choices": [], "usage": usage(input_tokens, output_tokens)}


DONE = event(b"[DONE]")


def answers(content: str = "Hello.", *, counted: Mapping[str, int] | None = None, **headers: str) -> Script:
    """Answer as the request asks, streamed or not; `counted` is the usage, 3 input and 2 output tokens if absent."""
    billed = usage(3, 2) if counted is None else dict(counted)

    async def script(asked: Asked, request: web.Request) -> web.StreamResponse:
        if not asked.json.get("stream"):
            return web.Response(
                body=completion(content, billed or None), content_type="application/json", headers=headers
            )
        wanted = asked.json.get("stream_options", {}).get("include_usage")
        events = [event(piece(word + " ")) for word in content.split(" ")] + [event(piece("", "stop"))]
        if wanted and billed:
            events.append(event(usage_piece(billed["prompt_tokens"], billed["completion_tokens"])))
        return await send_events(request, [*events, DONE], headers=headers)

    return script


def says(status: int, body: bytes, content_type: str = "application/json", **headers: str) -> Script:
    """Answer every request with these bytes."""

    async def script(asked: Asked, request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers={**headers, "Content-Type": content_type})

    return script


def streams(*pieces: bytes, seconds_between: float = 0, then: str = "end") -> Script:
    """Send these bytes one after the other as a stream, and then `end` it, `cut` the connection, or `hang`."""

    async def script(asked: Asked, request: web.Request) -> web.StreamResponse:
        return await send_events(request, pieces, seconds_between=seconds_between, then=then)

    return script


async def hangs(asked: Asked, request: web.Request) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def disconnects(asked: Asked, request: web.Request) -> web.StreamResponse:
    """Close the connection instead of answering."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def cuts_body(body: bytes, keep: int) -> Script:
    """Announce a JSON body, send its first `keep` bytes, and close the connection."""

    async def script(asked: Asked, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[:keep])
        assert request.transport is not None
        request.transport.close()
        return response

    return script


async def send_events(
    request: web.Request,
    pieces: Sequence[bytes],
    *,
    seconds_between: float = 0,
    then: str = "end",
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **(headers or {})})
    await response.prepare(request)
    for sent in pieces:
        await response.write(sent)
        await asyncio.sleep(seconds_between)
    if then == "hang":
        await asyncio.Event().wait()
    if then == "cut":
        response.force_close()
        assert request.transport is not None
        request.transport.close()
    return response

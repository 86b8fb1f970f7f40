"""An upstream as a process of its own: it journals every request that it accepts, then answers, or fails as the request says.

Owns what is generated and billed in each of these ways. It must not know who asks, nor what anybody does with the answer.

The client says by the header `X-Proof-Plan` how each attempt of its request goes, the first one first; the last holds for all that follow.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop
from aiohttp import web
from tests.proof.journal import Journal
from tests.proof.setting import OVERHEAD, PROMPT_TOKENS, Price
from tests.support.upstream import DONE, completion, event, piece

PLAN: Final = "X-Proof-Plan"
# One token each. No token of it is shorter than its own bytes, which is what counting bytes rests on.
_WORD: Final = "wonderful "
_WORDS_IN_A_PIECE: Final = 4
_PIECE_SECONDS: Final = 0.01
_HANG_SECONDS: Final = 8.0
_FEWEST_WORDS, _MOST_WORDS = 4, 60
# Like a tokenizer that makes one token of five bytes, and finds a quarter of them in its cache.
_INPUT_TOKENS, _CACHED_TOKENS = PROMPT_TOKENS // 5, PROMPT_TOKENS // 20


@dataclass(frozen=True)
class Asked:
    """One accepted request: its attempt, its number in the journal, and how much is generated for it."""

    attempt: str
    number: str
    stream: bool
    wants_usage: bool
    input_tokens: int
    cached_tokens: int
    output_tokens: int


class Upstream:
    """Answers `/v1/chat/completions`. `delay_seconds` is how long the generation of a whole answer takes."""

    def __init__(self, journal: Journal, delay_seconds: float) -> None:
        self._journal = journal
        self._delay_seconds = delay_seconds
        self._ways: dict[str, Callable[[Asked, web.Request], Awaitable[web.StreamResponse]]] = {
            "error": self._error,
            "drop": self._drop,
            "hang": self._hang,
            "cut": self._cut,
        }

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Refuse, or journal and go on as planned."""
        body = await request.json()
        attempt = request.headers["X-Request-Id"]
        plan = request.headers.get(PLAN, "usage").split(",")
        number = int(attempt.rpartition("-")[2])
        way = plan[min(number, len(plan)) - 1]
        if way == "busy":
            return _said(429, "slow down", {"Retry-After": "0"})
        if way == "refuse":
            return _said(400, "no")
        asked = _read(body, attempt, self._journal.accepted(), way)
        if way in self._ways:
            return await self._ways[way](asked, request)
        return await self._answer(asked, request, reports=way != "silent")

    def _bill(self, asked: Asked, output_tokens: int | None = None) -> None:
        tokens = asked.output_tokens if output_tokens is None else output_tokens
        self._journal.bill(asked.attempt, asked.number, asked.input_tokens, asked.cached_tokens, tokens)

    async def _answer(self, asked: Asked, request: web.Request, *, reports: bool) -> web.StreamResponse:
        if asked.stream:
            response = await self._begin(asked, request)
            await self._generate(asked, response, asked.output_tokens)
            await response.write(event(piece("", "stop")))
            if reports and asked.wants_usage:
                await response.write(event({**piece(""), "choices": [], "usage": _usage(asked)}))
            await response.write(DONE)
            return response
        self._bill(asked)
        await asyncio.sleep(self._delay_seconds)
        return web.Response(body=_whole(asked, reports=reports), content_type="application/json")

    async def _error(self, asked: Asked, request: web.Request) -> web.StreamResponse:
        self._bill(asked)
        await asyncio.sleep(self._delay_seconds)
        return _said(500, "broken")

    async def _drop(self, asked: Asked, request: web.Request) -> web.StreamResponse:
        self._bill(asked)
        await asyncio.sleep(self._delay_seconds)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def _hang(self, asked: Asked, request: web.Request) -> web.StreamResponse:
        self._bill(asked)
        await asyncio.sleep(_HANG_SECONDS)
        return _said(500, "late")

    async def _cut(self, asked: Asked, request: web.Request) -> web.StreamResponse:
        """Break off in the middle: of a stream only what was written was generated, of a whole answer everything."""
        response: web.StreamResponse
        if asked.stream:
            response = await self._begin(asked, request)
            await self._generate(asked, response, asked.output_tokens // 2)
        else:
            self._bill(asked)
            body = _whole(asked, reports=True)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
            response = web.StreamResponse(headers=headers)
            await response.prepare(request)
            await response.write(body[: len(body) // 2])
        response.force_close()
        assert request.transport is not None
        request.transport.close()
        return response

    async def _begin(self, asked: Asked, request: web.Request) -> web.StreamResponse:
        self._bill(asked, 0)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        return response

    async def _generate(self, asked: Asked, response: web.StreamResponse, tokens: int) -> None:
        for start in range(0, tokens, _WORDS_IN_A_PIECE):
            words = min(_WORDS_IN_A_PIECE, tokens - start)
            self._bill(asked, start + words)
            await response.write(event(piece(_WORD * words)))
            await asyncio.sleep(_PIECE_SECONDS)


def _read(body: dict[str, Any], attempt: str, number: str, way: str) -> Asked:
    limit = int(body.get("max_tokens") or body["max_completion_tokens"])
    # The worst that can be billed is one token of each byte, and an answer as long as it may be.
    longest = len(json.dumps(body["messages"])) + OVERHEAD
    output = min(limit, _FEWEST_WORDS + zlib.crc32(attempt.encode()) % (_MOST_WORDS - _FEWEST_WORDS))
    tokens = {
        "worst": (longest, 0, limit),
        "tenth": (longest // 10, 0, limit // 10),
        "zero": (0, 0, 0),
    }.get(way, (_INPUT_TOKENS, _CACHED_TOKENS, output))
    wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    return Asked(attempt, number, bool(body.get("stream")), wants_usage, *tokens)


def _usage(asked: Asked) -> dict[str, Any]:
    return {
        "prompt_tokens": asked.input_tokens,
        "completion_tokens": asked.output_tokens,
        "total_tokens": asked.input_tokens + asked.output_tokens,
        "prompt_tokens_details": {"cached_tokens": asked.cached_tokens},
    }


def _whole(asked: Asked, *, reports: bool) -> bytes:
    return completion(_WORD * asked.output_tokens, _usage(asked) if reports else None)


def _said(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=status, headers=headers)


async def _serve(options: argparse.Namespace) -> None:
    price = Price(*options.price)
    upstream = Upstream(Journal(options.journal, price), options.delay_milliseconds / 1000)
    application = web.Application()
    application.router.add_post("/v1/chat/completions", upstream.handle)
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", options.port, backlog=1024).start()
    await asyncio.Event().wait()


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--price", type=int, nargs=3, required=True, help="input, cached input, output")
    parser.add_argument("--delay-milliseconds", type=float, default=50)
    uvloop.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()

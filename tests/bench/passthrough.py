"""The least that an aiohttp gateway can do: read a request whole, send it on, relay the answer as it comes. A yardstick, nothing else."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import AsyncIterator

import aiohttp
import uvloop
from aiohttp import web

UPSTREAM = web.AppKey("upstream", str)
SESSION = web.AppKey("session", aiohttp.ClientSession)


async def relay(request: web.Request) -> web.StreamResponse:
    body = await request.read()
    headers = {"Content-Type": request.headers["Content-Type"]}
    url = request.app[UPSTREAM] + request.path
    async with request.app[SESSION].post(url, data=body, headers=headers) as upstream:
        answer = web.StreamResponse(status=upstream.status)
        answer.headers["Content-Type"] = upstream.headers["Content-Type"]
        if upstream.content_length is not None:
            answer.content_length = upstream.content_length
        await answer.prepare(request)
        async for piece in upstream.content.iter_any():
            await answer.write(piece)
        await answer.write_eof()
        return answer


async def connected(application: web.Application) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
    ) as session:
        application[SESSION] = session
        yield


def main(port: int, upstream: str, workers: int) -> None:
    for _ in range(workers - 1):
        multiprocessing.Process(target=serve, args=(port, upstream), daemon=True).start()
    serve(port, upstream)


def serve(port: int, upstream: str) -> None:
    application = web.Application()
    application[UPSTREAM] = upstream
    application.cleanup_ctx.append(connected)
    application.router.add_post("/v1/chat/completions", relay)
    web.run_app(
        application,
        host="127.0.0.1",
        port=port,
        reuse_port=True,
        access_log=None,
        print=None,
        handler_cancellation=True,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

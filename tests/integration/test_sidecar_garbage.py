"""What a request held is free when it ends: the next search for garbage may be hundreds of requests away."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from aiohttp import web
from tests.support.garbage import run_without_search
from tests.support.sidecar import model_of, running_sidecar, snapshot_of, upstream_of
from tests.support.upstream import (
    DONE,
    Script,
    answers,
    cuts_body,
    disconnects,
    event,
    hangs,
    piece,
    running_upstream,
    says,
    streams,
)

from foresail_sidecar.flow.record import Exchange
from foresail_sidecar.fronts.http.context import CONTEXT

REQUESTS = 5
# A connection that waits for its next request holds the last response; the upstream is in this process, too.
CONNECTIONS = 2


async def kept(script: Script, body: dict[str, Any]) -> list[object]:
    """Return what is left of some requests over one connection."""
    async with (
        running_upstream(script) as upstream,
        running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
    ):
        for _ in range(REQUESTS):
            with contextlib.suppress(httpx.RemoteProtocolError):
                await sidecar.ask(**body)
        assert len(upstream.asked) == REQUESTS
        # By the type alone: to ask some objects of other libraries for their class warns.
        return [each for each in gc.get_objects() if issubclass(type(each), Exchange | web.StreamResponse)]


@pytest.mark.parametrize(
    ("script", "body"),
    [
        (answers(), {}),
        (streams(event(piece("Hello.")), event(piece("", "stop")), DONE), {"stream": True}),
        (says(400, b'{"error": {"message": "no"}}'), {}),
        (says(500, b"no"), {}),
        (says(200, b"no JSON"), {}),
        (disconnects, {}),
        (cuts_body(b"x" * 100, 10), {}),
        (streams(event(piece("Hello.")), then="cut"), {"stream": True}),
    ],
    ids=["answer", "stream", "refused", "failed", "broken", "disconnected", "cut", "stream-cut"],
)
def test_nothing_of_a_request_stays(script: Script, body: dict[str, Any]) -> None:
    left = run_without_search(kept(script, body))
    assert len(left) <= CONNECTIONS


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200"], ids=["before the answer", "in the middle of a stream"])
def test_nothing_of_a_request_stays_whose_client_leaves(head: bytes) -> None:
    async def left() -> int:
        script = streams(event(piece("Hello.")), then="hang") if head else hangs
        async with (
            running_upstream(script) as upstream,
            running_sidecar(snapshot_of(model_of("small", upstream_of(upstream.url)))) as sidecar,
        ):
            for number in range(1, REQUESTS + 1):
                await leave(sidecar.url, head, lambda number=number: len(upstream.asked) == number)
            assert await sidecar.application[CONTEXT].in_flight.finished(10)
            # What ends right after a request does.
            await asyncio.sleep(0.05)
            return sum(issubclass(type(each), Exchange) for each in gc.get_objects())

    assert run_without_search(left()) == 0


async def leave(url: str, head: bytes, arrived: Callable[[], bool]) -> None:
    """Ask for a stream, and break the connection off once the upstream was asked and the beginning of an answer, if any, is there."""
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "Hello."}], "stream": True}).encode()
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: sidecar\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    async with asyncio.timeout(10):
        assert await reader.readexactly(len(head)) == head
        while not arrived():  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0.01)
    writer.transport.abort()


def test_a_connection_that_waits_for_another_request_holds_no_answer() -> None:
    long = "x" * 10_000
    left = run_without_search(kept(answers(long), {}))
    ours = [each for each in left if isinstance(each, web.Response) and "x-foresail-model" in each.headers]
    assert [each.body for each in ours] == [None]

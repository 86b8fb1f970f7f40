"""Bytes that are no valid HTTP request: refused in the same shape as everything else, and quoted nowhere."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import zlib

import pytest
from tests.support.sidecar import Sidecar, model_of, running_sidecar, snapshot_of, upstream_of

SECRET = "sk-live-SECRET"
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
KEY = b"Authorization: Bearer sk-live-SECRET"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SNAPSHOT = snapshot_of(model_of("small", upstream_of("http://127.0.0.1:1/v1")))

MALFORMED = {
    "a field that is too long": [CHAT + KEY + b"x" * 20_000 + b"\r\n\r\n"],
    "a path that is too long": [b"GET /sk-live-SECRET" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"],
    "too many fields": [CHAT + b"".join(b"x-%d: sk-live-SECRET\r\n" % number for number in range(300)) + b"\r\n"],
    "a NUL in a field": [CHAT + KEY + b"\0\r\n\r\n"],
    "a field without a name": [CHAT + b": sk-live-SECRET\r\n\r\n"],
    "a method that is none": [b"sk-live-SECRET{} / HTTP/1.1\r\nHost: x\r\n\r\n"],
    "a version that is none": [b"GET /sk-live-SECRET HTTP/x\r\nHost: x\r\n\r\n"],
    "no HTTP at all": [b"\x16\x03\x01 sk-live-SECRET\r\n\r\n"],
    "two lengths": [CHAT + CHUNKED + b"Content-Length: 5\r\n" + KEY + b"\r\n\r\n0\r\n\r\n"],
    "a length that is none": [CHAT + b"Content-Length: sk-live-SECRET\r\n\r\n"],
    "a chunk size that is none": [CHAT + CHUNKED + b"\r\nsk-live-SECRET\r\n\r\n"],
    "a chunk size that is none, after a refusal": [
        CHAT + CHUNKED + b"Content-Encoding: gzip\r\n\r\n5\r\nplain\r\n",
        b"sk-live-SECRET\r\n\r\n",
    ],
}


async def told(sidecar: Sidecar, *pieces: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes over one connection until it is closed; return the status, the headers and all that follows them."""
    host, port = sidecar.url.removeprefix("http://").split(":")
    async with asyncio.timeout(15):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.05)
            answer = await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
    return int(first.split(" ")[1]), headers, body


def assert_refused(headers: dict[str, str], body: bytes, code: str) -> None:
    assert headers["content-type"].startswith("application/json")
    assert headers["connection"] == "close"
    assert headers.get("server", "foresail") == "foresail"
    # One answer and nothing after it.
    assert len(body) == int(headers["content-length"])
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, code)


@pytest.mark.parametrize("pieces", MALFORMED.values(), ids=MALFORMED)
async def test_what_is_no_http_is_refused_and_quoted_nowhere(
    pieces: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running_sidecar(SNAPSHOT) as sidecar:
        status, headers, body = await told(sidecar, *pieces)
        alive = await sidecar.http.get("/healthz")
    assert (status, alive.status_code) == (400, 200)
    assert_refused(headers, body, "invalid_request" if len(pieces) > 1 else "invalid_http")
    assert SECRET not in body.decode() + str(headers) + caplog.text
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/nothing"])
async def test_an_expectation_that_cannot_be_met_is_refused_and_quoted_nowhere(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    request = f"POST {path} HTTP/1.1\r\nHost: x\r\nExpect: {SECRET}\r\nContent-Length: 0\r\n\r\n"
    async with running_sidecar(SNAPSHOT) as sidecar:
        status, headers, body = await told(sidecar, request.encode())
    assert status == 417
    assert_refused(headers, body, "expectation_failed")
    assert SECRET not in body.decode() + str(headers) + caplog.text


async def test_a_client_that_asks_to_continue_is_told_so() -> None:
    async with running_sidecar(SNAPSHOT) as sidecar:
        request = CHAT + b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        status, _, rest = await told(sidecar, request, b"{}")
    assert status == 100
    assert rest.startswith(b"HTTP/1.1 400 ")
    assert b'"param": "model"' in rest


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/route", "/v1/nothing"])
@pytest.mark.parametrize(
    "body",
    [b"no gzip but sk-live-SECRET", zlib.compress(b"deflated")],
    ids=["plain", "deflated"],
)
async def test_a_broken_compressed_body_leaves_no_error_in_the_log(
    path: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    async with running_sidecar(SNAPSHOT) as sidecar:
        status, headers, answer = await told(sidecar, head.encode() + body)
    assert status == (404 if path == "/v1/nothing" else 400)
    assert_refused(headers, answer, "not_found" if path == "/v1/nothing" else "invalid_request")
    assert SECRET not in answer.decode() + caplog.text
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []

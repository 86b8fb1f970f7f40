"""A large body is read beside the event loop, with the same outcome as a small one."""

from __future__ import annotations

import asyncio
import json

import pytest

from foresail_sidecar.fronts.http.deciding import parsed_body
from foresail_sidecar.protocols.errors import BadRequest
from foresail_sidecar.protocols.openai import ParsedChat, parse_request

CONTAINERS = b"[" + b"{}," * 500_000 + b"{}]"


def body(tool_choice: bytes) -> bytes:
    return b'{"model":"auto","messages":[{"role":"user","content":"hi"}],"tool_choice":' + tool_choice + b"}"


async def turns_meanwhile(raw: bytes) -> tuple[ParsedChat, int]:
    turns = 0
    reading = asyncio.create_task(parsed_body(raw))
    await asyncio.sleep(0)
    while not reading.done():
        turns += 1
        await asyncio.sleep(0)
    return await reading, turns


def test_other_requests_go_on_while_a_large_body_is_read() -> None:
    raw = body(CONTAINERS)
    parsed, turns = asyncio.run(turns_meanwhile(raw))
    assert turns > 1
    assert parsed == parse_request(raw)


@pytest.mark.parametrize(
    "raw",
    [
        body(CONTAINERS[:-1]),
        body(b"[" * 600_000 + b"]" * 600_000),
        b"\xff" * 1_100_000,
        json.dumps({"model": "auto", "messages": ["x" * 1_100_000]}).encode(),
    ],
)
def test_a_large_body_is_refused_in_the_same_words(raw: bytes) -> None:
    with pytest.raises(BadRequest) as direct:
        parse_request(raw)
    with pytest.raises(BadRequest) as beside:
        asyncio.run(parsed_body(raw))
    assert beside.value.message == direct.value.message
    assert beside.value.param == direct.value.param

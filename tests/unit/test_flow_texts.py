"""What a tokenizer counts of a request's messages, and when bytes have to do instead. The tokenizer is a real one."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import given
from hypothesis import strategies as st
from tests.support.counted_models import tokenizer_content
from tests.support.decisions import model

from foresail_api.snapshot import SnapshotTokenizer
from foresail_router.decision.counts import CountedTexts
from foresail_router.decision.price import bound_input
from foresail_sidecar.configuration.tokenizers import Tokenizers, read
from foresail_sidecar.flow.texts import counted_texts
from foresail_sidecar.protocols.openai import parse_request

# The tokenizer frames each text with two tokens of its own.
FRAME = 2


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    file.write_bytes(tokenizer_content())
    return {"t": read(SnapshotTokenizer(claim=None, path=str(file), digest=digest_of(file)), {})}


def digest_of(file: Path) -> str:
    return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


async def counted(tokenizers: Tokenizers, *contents: Any) -> CountedTexts | None:
    body = {"model": "auto", "messages": [{"role": "user", "content": content} for content in contents]}
    return await counted_texts(tokenizers, parse_request(json.dumps(body).encode()).message_texts)


async def test_each_message_is_counted_alone(tokenizers: Tokenizers) -> None:
    assert await counted(tokenizers, "hello world", "hello") == CountedTexts(16, {"t": 2 + 1 + 2 * FRAME})


async def test_the_texts_of_parts_are_counted_and_media_are_not(tokenizers: Tokenizers) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    parts = [{"type": "text", "text": "hello"}, image, {"type": "text", "text": "world"}]
    assert await counted(tokenizers, parts) == CountedTexts(11, {"t": 2 + FRAME})


async def test_a_special_token_in_a_text_is_counted_by_its_letters(tokenizers: Tokenizers) -> None:
    said = await counted(tokenizers, "[SEP]" * 20)
    assert said is not None
    assert said.tokens["t"] == 20 * 3 + FRAME


async def test_half_of_a_surrogate_pair_is_counted(tokenizers: Tokenizers) -> None:
    assert await counted(tokenizers, "hello \ud800") == CountedTexts(7, {"t": 2 + FRAME})


async def test_a_long_text_holds_up_nobody_and_is_counted_whole(tokenizers: Tokenizers) -> None:
    long = "hello world " * 20_000
    with blockbuster_ctx(scanned_modules=["foresail_sidecar"]):
        said = await counted(tokenizers, long)
    assert said == CountedTexts(len(long), {"t": 40_000 + FRAME})


async def test_more_than_a_million_bytes_are_not_counted(tokenizers: Tokenizers) -> None:
    assert await counted(tokenizers, "a " * 500_000) is not None
    assert await counted(tokenizers, "a " * 500_000, "a") is None


@given(st.lists(st.text(max_size=60), min_size=1, max_size=5))
def test_the_bound_covers_the_texts_in_one_piece_and_a_frame_around_each(
    tokenizers: Tokenizers, contents: list[str]
) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": content} for content in contents]}
    parsed = parse_request(json.dumps(body).encode())
    said = asyncio.run(counted_texts(tokenizers, parsed.message_texts))
    declared = model("m", overhead_tokens=0, tokenizer=SnapshotTokenizer(claim=None, path="/t.json", digest="t"))
    bound = bound_input(declared, replace(parsed.neutral, counted=said))
    assert bound is not None
    together = "\n".join(contents).encode("utf-8", "replace").decode()
    # A usual template: a special token, the role and a line before each text, two more after it.
    assert bound.text >= tokenizers["t"].count(together) - FRAME + 5 * len(contents)
    assert bound.text <= parsed.neutral.input_bytes + FRAME * len(contents)

"""What a tokenizer counts of a request's messages, and when bytes have to do instead. The tokenizer is a real one."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import replace
from itertools import pairwise
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
from foresail_sidecar.configuration.tokenizers import TextCounter, Tokenizers, read
from foresail_sidecar.flow import texts
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


async def test_a_text_with_half_of_a_surrogate_pair_stays_bytes(tokenizers: Tokenizers) -> None:
    """What an upstream makes of it is unknown: one sign for each half, three bytes, or a refusal."""
    assert await counted(tokenizers, "hello \ud800") == CountedTexts(0, {"t": 0})
    assert await counted(tokenizers, "hello \ud800", "hello") == CountedTexts(5, {"t": 1 + FRAME})


def altered(file: Path, definition: Any) -> TextCounter:
    file.write_text(json.dumps(definition))
    return read(SnapshotTokenizer(claim=None, path=str(file), digest=digest_of(file)), {})


def bounded(tokenizers: Tokenizers, *messages: Any) -> int:
    parsed = parse_request(json.dumps({"model": "auto", "messages": messages}).encode())
    said = asyncio.run(counted_texts(tokenizers, parsed.message_texts))
    declared = model("m", overhead_tokens=0, tokenizer=SnapshotTokenizer(claim=None, path="/t.json", digest="t"))
    bound = bound_input(declared, replace(parsed.neutral, counted=said))
    assert bound is not None
    return bound.text


@pytest.mark.parametrize("role", ["tool", "function", "ipython"])
def test_the_bound_covers_what_a_tool_answered_also_where_a_template_prints_that_as_json(
    tokenizers: Tokenizers, role: str
) -> None:
    text = "\n" * 500
    assert bounded(tokenizers, {"role": role, "content": text}) >= tokenizers["t"].count(json.dumps(text))


def test_the_bound_covers_space_that_a_tokenizer_drops_only_at_the_ends_of_all_it_reads(tmp_path: Path) -> None:
    definition = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "Strip", "strip_left": True, "strip_right": True},
        "model": {"type": "BPE", "vocab": {"a": 0, " ": 1, "\u3000": 2}, "merges": []},
    }
    strips = altered(tmp_path / "tokenizer.json", definition)
    for text in (" " * 500 + "a", "a" + "\u3000" * 500, " " * 500):
        assert strips.count(f"a{text}a") > 500
        assert bounded({"t": strips}, {"role": "user", "content": text}) >= strips.count(f"a{text}a")


def others_get_on(tokenizers: Tokenizers, contents: list[str]) -> bool:
    """Return whether no other task waits for its turn for half of the time that counting the texts takes."""

    async def turns() -> list[float]:
        counting = asyncio.create_task(counted_texts(tokenizers, contents))
        taken = [time.perf_counter()]
        while not counting.done():
            await asyncio.sleep(0)
            taken.append(time.perf_counter())
        return taken

    taken = asyncio.run(turns())
    return max(after - before for before, after in pairwise(taken)) < (taken[-1] - taken[0]) / 2


def test_others_get_on_while_a_long_text_is_counted(tokenizers: Tokenizers) -> None:
    assert others_get_on(tokenizers, ["hello world " * 40_000])


def test_many_tokenizers_hold_up_nobody(tokenizers: Tokenizers) -> None:
    assert others_get_on({str(number): tokenizers["t"] for number in range(100)}, ["hello world " * 160])


async def test_messages_without_text_take_no_time(tokenizers: Tokenizers) -> None:
    assert await counted(tokenizers, "", "hello", "", "") == CountedTexts(5, {"t": 1 + FRAME})


class SlowCounter:
    """Takes its time for a text, and remembers how many it was asked about."""

    def __init__(self) -> None:
        self.asked = 0

    def count(self, text: str) -> int:
        self.asked += 1
        time.sleep(0.02)
        return 1


async def test_what_nobody_waits_for_any_more_is_not_counted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_MOST_SECONDS", 0.1)
    slow = SlowCounter()
    assert await counted_texts({"t": slow}, ["word"] * 1_000) is None
    asked = slow.asked
    await asyncio.sleep(0.2)
    assert slow.asked <= asked + 2


async def test_what_the_library_of_tokenizers_breaks_at_stays_bytes(tokenizers: Tokenizers, tmp_path: Path) -> None:
    pattern = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    broken = altered(tmp_path / "tokenizer.json", json.loads(tokenizer_content()) | {"pre_tokenizer": pattern})
    text = "a" * 40 + "!"
    assert await counted({"broken": broken}, text) == CountedTexts(len(text), {})


async def test_what_a_tokenizer_has_no_token_for_stays_bytes(tokenizers: Tokenizers, tmp_path: Path) -> None:
    definition = json.loads(tokenizer_content())
    del definition["model"]["vocab"]["[UNK]"]
    definition["added_tokens"] = [token for token in definition["added_tokens"] if token["content"] != "[UNK]"]
    strict = altered(tmp_path / "tokenizer.json", definition)
    both = {"strict": strict, **tokenizers}
    assert await counted(both, "hello") == CountedTexts(5, {"strict": 1 + FRAME, "t": 1 + FRAME})
    assert await counted(both, "hello \U00010348") == CountedTexts(10, {"t": 2 + FRAME})


async def test_a_long_text_holds_up_nobody_and_is_counted_whole(tokenizers: Tokenizers) -> None:
    long = "hello world " * 20_000
    with blockbuster_ctx(scanned_modules=["foresail_sidecar"]):
        said = await counted(tokenizers, long)
    assert said == CountedTexts(len(long) - 1, {"t": 40_000 + FRAME})


async def test_more_than_a_million_bytes_are_not_counted(tokenizers: Tokenizers) -> None:
    assert await counted(tokenizers, " a" * 499_999 + "aa") is not None
    assert await counted(tokenizers, " a" * 499_999 + "aa", "aa") is None


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

"""Counts the texts of a request's messages with the pool's tokenizers.

Owns when that is done in a thread, and when it is given up for bytes. It must not know files, nor what a bound is made of.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from foresail_router.decision.counts import CountedTexts
from foresail_sidecar.configuration.tokenizers import Tokenizers

# A thousand bytes take half a millisecond, and each text three microseconds beside; a thread takes a fifth of a millisecond.
_AT_ONCE_BYTES: Final = 2_000
_BYTES_PER_TEXT: Final = 6
_MOST_BYTES: Final = 1_000_000
_MOST_SECONDS: Final = 2.0
# A million bytes can take 260 MB while they are counted. Other threads are left to what must not wait for that.
_threads = ThreadPoolExecutor(2, "count-texts")


async def counted_texts(tokenizers: Tokenizers, texts: Sequence[str]) -> CountedTexts | None:
    """Return what each tokenizer counts; None where that would take too long, so that bytes have to do.

    Space at a text's ends is left out, and a text with half of a surrogate pair: upstreams put different characters there.
    """
    readable, size = _readable(texts)
    if size > _MOST_BYTES:
        return None
    until = time.monotonic() + _MOST_SECONDS
    if (size + _BYTES_PER_TEXT * len(readable)) * len(tokenizers) <= _AT_ONCE_BYTES:
        return _counted(tokenizers, readable, size, until)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_MOST_SECONDS):
            return await loop.run_in_executor(_threads, _counted, tokenizers, readable, size, until)
    except TimeoutError:
        return None


def _readable(texts: Sequence[str]) -> tuple[list[str], int]:
    readable, size = [], 0
    # Some tokenizers drop space at the ends of what they read, where a template's words stand around it.
    for text in map(str.strip, texts):
        try:
            size += len(text) if text.isascii() else len(text.encode())
        except UnicodeEncodeError:
            continue
        if text:
            readable.append(text)
    return readable, size


def _counted(tokenizers: Tokenizers, texts: Sequence[str], size: int, until: float) -> CountedTexts | None:
    tokens = {}
    for digest, tokenizer in tokenizers.items():
        total = 0
        try:
            # Each text alone: a chat template puts tokens of its own between them.
            for text in texts:
                total += tokenizer.count(text)
                # Nobody waits for it any more.
                if time.monotonic() > until:
                    return None
        except ValueError:
            continue
        tokens[digest] = total
    return CountedTexts(size, tokens)

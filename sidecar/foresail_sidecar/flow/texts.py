"""Counts the texts of a request's messages with the pool's tokenizers.

Owns when that is done in a thread, and when it is given up for bytes. It must not know files, nor what a bound is made of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from foresail_router.decision.counts import CountedTexts
from foresail_sidecar.configuration.tokenizers import Tokenizers

# A thousand bytes take half a millisecond; a thread takes a fifth of one.
_AT_ONCE_BYTES: Final = 2_000
_MOST_BYTES: Final = 1_000_000
_MOST_SECONDS: Final = 2.0


async def counted_texts(tokenizers: Tokenizers, texts: Sequence[str]) -> CountedTexts | None:
    """Return what each tokenizer counts; None where that would take too long, so that bytes have to do."""
    size = sum(len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in texts)
    if size > _MOST_BYTES:
        return None
    if size <= _AT_ONCE_BYTES:
        return _counted(tokenizers, texts, size)
    try:
        async with asyncio.timeout(_MOST_SECONDS):
            return await asyncio.to_thread(_counted, tokenizers, texts, size)
    except TimeoutError:
        return None


def _counted(tokenizers: Tokenizers, texts: Sequence[str], size: int) -> CountedTexts:
    read = [text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8") for text in texts]
    # Each text alone: a chat template puts tokens of its own between them.
    return CountedTexts(
        size, {digest: sum(tokenizer.count(text) for text in read) for digest, tokenizer in tokenizers.items()}
    )

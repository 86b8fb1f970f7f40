"""Prompts of a given number of tokens, all different, so that no cache answers for a router. It must not know who is asked."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from foresail_router.features.tokens import PromptTokenizer

# Each is one token of the packaged encoder.
_WORDS: Final = """
    about after again answer because before better between book bridge business change child city cold country day
    different door early east eight evening example family fast field find first five forest four friend garden give good
    great group hand hard heart help high history home house idea important island keep kind large last late learn letter
    level light line little long market matter minute money month morning mountain music name new next night north number
    office old open order paper part people piece place plan point power price problem question rain reason red river road
    room school second short side simple small south space special spring start station stone story street strong summer
    table ten thing three time tomorrow town train travel tree two value village voice wait walk wall warm water way week
    west white wind window winter wood word work world write year young
"""
_SPECIAL_TOKENS = 2


def prompts(tokenizer: PromptTokenizer, tokens: int, seed: int) -> Iterator[str]:
    """Yield texts without end, each of exactly `tokens` tokens, the two special ones included; other seeds give other texts."""
    draw, words = random.Random(seed), _WORDS.split()
    while True:
        text = " ".join(draw.choices(words, k=tokens - _SPECIAL_TOKENS))
        if len(tokenizer.ids([text])[0]) != tokens:
            raise ValueError("a word is not one token of this tokenizer")
        yield text

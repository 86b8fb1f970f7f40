"""Tokens by the kinds that prices tell apart: those that an attempt was billed for, and the most of them that a request can become.

Owns the kinds. It must not know prices, requests, nor who counted.
"""

from __future__ import annotations

from collections.abc import Mapping

from foresail_api.values import value


@value
class TokenCounts:
    """Billed tokens. No token is counted twice: the input is the sum of all kinds but the output, which holds reasoning too.

    `plain` is input of no other kind; `written` went to a cache for a time that nobody told, `written_short` and `written_long` for a known one.
    """

    plain: int = 0
    cached: int = 0
    written: int = 0
    written_short: int = 0
    written_long: int = 0
    image: int = 0
    audio: int = 0
    output_tokens: int = 0

    @property
    def input_tokens(self) -> int:
        """All input tokens together."""
        return (
            self.plain + self.cached + self.written + self.written_short + self.written_long + self.image + self.audio
        )


@value
class CountedTexts:
    """The texts of a request's messages as tokenizers count them: their UTF-8 bytes, and their tokens by tokenizer's digest."""

    bytes: int
    tokens: Mapping[str, int]


@value
class InputBound:
    """The most input tokens that a request can become: of its text, of its images, of its audio."""

    text: int
    image: int = 0
    audio: int = 0

    @property
    def total(self) -> int:
        """The most of all kinds together."""
        return self.text + self.image + self.audio

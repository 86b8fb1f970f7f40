"""From text to the token ids that an encoder reads: cut, tokenised, and where too long, its first and last tokens.

It must not know weights or how they run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

from foresail_router.features.text import readable

_NOT_PLAIN = re.compile(r"[^\t\n\r -~]")
_WORDS = re.compile(r"[a-z0-9]+|[!-/:-@\[-`{-~]")
_MOST_NEW_WORDS = 8
_MOST_KEPT_WORDS = 50_000


class PromptTokenizer:
    """Tokenises prompts for an encoder that reads at most `max_tokens` tokens, the two special ones included."""

    def __init__(self, definition: bytes, *, max_tokens: int, opening: bool = False) -> None:
        """Build from the content of a `tokenizer.json`; raises `ValueError` when it is none. `opening` reads nothing but the start."""
        try:
            self._tokenizer = Tokenizer.from_buffer(definition)
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"not a tokenizer definition: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        first, last = self._tokenizer.token_to_id("[CLS]"), self._tokenizer.token_to_id("[SEP]")
        if first is None or last is None:
            raise ValueError("not a BERT tokenizer: it has no [CLS] or no [SEP]")
        self._first, self._last = int(first), int(last)
        self._plain = _PlainWords(self._tokenizer) if _splits_plainly(definition) else None
        self._content = max_tokens - 2
        self._tail = 0 if opening else self._content // 2

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's token ids; of a text that is too long, as many from its start as from its end, or its opening."""
        return [self._framed(self._unframed(readable(text))) for text in texts]

    def _unframed(self, text: str) -> list[int]:
        plain = None if self._plain is None else self._plain.ids(text)
        # One at a time: a batch would start a thread per CPU inside the tokenizer.
        return _encoded(self._tokenizer, text) if plain is None else plain

    def _framed(self, ids: list[int]) -> list[int]:
        if len(ids) > self._content:
            ids = ids[: self._content - self._tail] + ids[len(ids) - self._tail :]
        return [self._first, *ids, self._last]


class _PlainWords:
    """Plain ASCII texts, word by word out of a table: the ids that the tokenizer gives, in a fraction of its time."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._vocabulary: dict[str, int] = tokenizer.get_vocab()
        self._special = tuple(token.content for token in tokenizer.get_added_tokens_decoder().values())
        self._pieces: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int] | None:
        """Return a text's ids, or None where only the tokenizer knows, or knows faster."""
        if _NOT_PLAIN.search(text) or any(token in text for token in self._special):
            return None
        words = _WORDS.findall(text.lower())
        try:
            return [self._vocabulary[word] for word in words]
        except KeyError:
            return self._of_pieces(words)

    def _of_pieces(self, words: list[str]) -> list[int] | None:
        if len(self._pieces) > _MOST_KEPT_WORDS:
            self._pieces = {}
        # Another thread may replace the table meanwhile.
        pieces = self._pieces
        new = {word for word in words if word not in self._vocabulary and word not in pieces}
        if len(new) > _MOST_NEW_WORDS:
            return None
        pieces.update({word: _encoded(self._tokenizer, word) for word in new})
        return [
            number
            for word in words
            for number in ((self._vocabulary[word],) if word in self._vocabulary else pieces[word])
        ]


def _encoded(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def _splits_plainly(definition: bytes) -> bool:
    """Return whether a tokenizer treats plain ASCII as BERT does: lower case, words and single signs, pieces from the longest on."""
    parts: dict[str, Any] = json.loads(definition)
    normaliser = parts.get("normalizer") or {}
    return (
        normaliser.get("type") == "BertNormalizer"
        and normaliser.get("lowercase") is True
        and normaliser.get("clean_text") is True
        and (parts.get("pre_tokenizer") or {}).get("type") == "BertPreTokenizer"
        and (parts.get("model") or {}).get("type") == "WordPiece"
    )

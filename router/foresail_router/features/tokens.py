"""From text to the token ids that an encoder reads: cut, tokenised, and where too long, its first and last tokens.

It must not know weights or how they run.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from foresail_router.features.text import readable


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
        self._content = max_tokens - 2
        self._tail = 0 if opening else self._content // 2

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's token ids; of a text that is too long, as many from its start as from its end, or its opening."""
        # One at a time: a batch would start a thread per CPU inside the tokenizer.
        return [self._framed(self._tokenizer.encode(readable(text), add_special_tokens=False).ids) for text in texts]

    def _framed(self, ids: list[int]) -> list[int]:
        if len(ids) > self._content:
            ids = ids[: self._content - self._tail] + ids[len(ids) - self._tail :]
        return [self._first, *ids, self._last]

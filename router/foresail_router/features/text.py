"""Which part of a text a router reads. Pure functions; they must not know tokenizers or encoders."""

from __future__ import annotations

import hashlib

HALF_CHARACTERS = 2048


def readable(text: str) -> str:
    """Return what any router reads of a text: all of it, or its first and last 2,048 characters with a line break between.

    A tokenizer reads a whole text before it truncates, so a long prompt costs time unless it is cut first. What is not valid Unicode
    (half of a surrogate pair, as JSON may hold) becomes a question mark.
    """
    if len(text) > 2 * HALF_CHARACTERS + 1:
        text = f"{text[:HALF_CHARACTERS]}\n{text[-HALF_CHARACTERS:]}"
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def text_key(text: str) -> bytes:
    """Return the SHA-256 of what a router reads of a text: the key under which its features and estimates are cached."""
    return hashlib.sha256(readable(text).encode()).digest()

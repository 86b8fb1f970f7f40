"""How many bytes a value becomes as prompt text: an upper bound on what an upstream's tokenizer can see of it. Pure and linear.

It must not know which fields of a body count.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

_INDENT = 4
_HTML_MARKS = "<>&'"
_ESCAPE_BYTES = len(r"\u0026")
# Normalising sorts combining marks in quadratic time; this many take a few milliseconds at worst.
_MOST_MARKS = 2000

_ASCII = bytes(range(128))
# Where more of a text is something else, to look for it takes as long as to look at everything.
_MOST_OTHERS = 0.3
STANDING_ALONE: Final = re.compile(
    "[\x80-\u02ff\u0370-\u0482\u048a-\u0590\u2000-\u206f\u20a0-\u20bf\u2100-\u2bff\ufe00-\ufe0f\U0001f000-\U0001faff]*"
)
"""Characters of which none combines with one before it, as far as that is ASCII."""


_unescaped = json.JSONEncoder(ensure_ascii=False)


def text_bytes(text: str) -> int:
    """Return the UTF-8 bytes of a text, or of its NFKC form where that is longer (never less, sometimes more, for extreme texts)."""
    if text.isascii():
        return len(text)
    size = _size(text)
    if unicodedata.is_normalized("NFKC", text):
        return size
    counts = Counter(text)
    if sum(number for character, number in counts.items() if unicodedata.combining(character)) <= _MOST_MARKS:
        return max(size, _size(unicodedata.normalize("NFKC", text)))
    # Composing never adds bytes, so the sum of the decomposed characters bounds the normal form.
    return max(
        size,
        sum(number * _size(unicodedata.normalize("NFKD", character)) for character, number in counts.items()),
    )


def json_bytes(value: Any) -> int:
    """Return the bytes of a value printed as JSON, unescaped, with a space after each comma and colon."""
    return text_bytes(_unescaped.encode(value))


def texts_bytes(objects: Sequence[Mapping[str, str]]) -> int:
    """Return the `json_bytes` of a list of at least one object with two texts each."""
    try:
        printed = orjson.dumps(objects)
    except orjson.JSONEncodeError:  # half of a surrogate pair
        return json_bytes(objects)
    spaces = 4 * len(objects) - 1
    if printed.isascii() or _is_surely_normal(printed):
        return spaces + len(printed)
    return spaces + text_bytes(printed.decode())


def is_unicode(text: str) -> bool:
    """Return whether a text has no half of a surrogate pair."""
    try:
        orjson.dumps(text)
    except orjson.JSONEncodeError:
        return False
    return True


def _is_surely_normal(utf8: bytes) -> bool:
    """Return whether a text is its own NFKC form; also False where that would take a look at all of it."""
    # Most that is no ASCII are some quotes, dashes, accented letters and emoji, which combine with no ASCII before them.
    others = utf8.translate(None, _ASCII)
    if len(others) > len(utf8) * _MOST_OTHERS:
        return False
    text = others.decode()
    return STANDING_ALONE.fullmatch(text) is not None and unicodedata.is_normalized("NFKC", text)


def printed_bytes(value: Any) -> int:
    """Return the bytes of a value as chat templates print tools: indented by four spaces, and escaped where that is longer."""
    return max(json_bytes(value), _escaped_bytes(value)) + _indentation(value)


def _escaped_bytes(value: Any) -> int:
    """Return the bytes of JSON in ASCII that is also safe inside of HTML, which is what some template engines print."""
    text = json.dumps(value)
    return len(text) + sum(text.count(mark) for mark in _HTML_MARKS) * (_ESCAPE_BYTES - 1)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _indentation(value: Any) -> int:
    """Return the line breaks and spaces that indenting adds; it walks containers only."""
    added = 0
    level = [value] if isinstance(value, (dict, list)) else []
    depth = 0
    while level:
        deeper = []
        for container in level:
            children = container.values() if isinstance(container, dict) else container
            added += len(container) * (1 + _INDENT * (depth + 1)) + 1 + _INDENT * depth
            deeper += [child for child in children if isinstance(child, (dict, list))]
        level, depth = deeper, depth + 1
    return added

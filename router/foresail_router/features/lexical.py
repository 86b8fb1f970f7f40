"""What a text looks like: hashed counts of words, word pairs and character n-grams, and a few figures of its structure.

Counting is arithmetic on bytes, the same on every machine and fast enough for one prompt at a time. It must not know what is learned.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foresail_router.features.text import readable

BUCKETS = 2**15
STRUCTURE = 12
_WORD = re.compile(r"[a-z]+|[0-9]+|[^\sa-z0-9]")
_SIZES = np.array([3, 4, 5], dtype=np.uint32)
_HALF = BUCKETS // 2
_PRIME = np.uint32(0x01000193)


@dataclass(frozen=True, slots=True)
class LexicalCounts:
    """Sparse counts in rows (CSR: `values` and `columns` between the row's two `offsets`), and structure (prompts x STRUCTURE).

    A count c is kept as 1 + log c, each row scaled to unit length.
    """

    values: NDArray[np.float32]
    columns: NDArray[np.int32]
    offsets: NDArray[np.int64]
    structure: NDArray[np.float32]

    def rows(self, chosen: NDArray[np.int64]) -> LexicalCounts:
        """Return some rows, by index."""
        spans = [np.arange(self.offsets[row], self.offsets[row + 1]) for row in chosen]
        index = np.concatenate(spans) if spans else np.empty(0, dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum([len(span) for span in spans])]).astype(np.int64)
        return LexicalCounts(self.values[index], self.columns[index], offsets, self.structure[chosen])

    def csr(self) -> Any:
        """Return the counts as a `scipy.sparse.csr_matrix`, for training."""
        from scipy.sparse import csr_matrix

        return csr_matrix((self.values, self.columns, self.offsets), shape=(len(self.offsets) - 1, BUCKETS))


def count_lexical(texts: Sequence[str]) -> LexicalCounts:
    """Return the counts of each text."""
    values, columns, sizes, structure = [], [], [0], []
    for text in texts:
        read = readable(text)
        hashed = _hashes(read)
        buckets, counts = _counted(hashed)
        weights = 1.0 + np.log(counts)
        values.append((weights / max(math.sqrt(weights @ weights), 1e-12)).astype(np.float32))
        columns.append(buckets.astype(np.int32))
        sizes.append(len(buckets))
        structure.append(_structure(read, len(text)))
    return LexicalCounts(
        np.concatenate(values) if values else np.empty(0, dtype=np.float32),
        np.concatenate(columns) if columns else np.empty(0, dtype=np.int32),
        np.cumsum(sizes, dtype=np.int64),
        np.array(structure, dtype=np.float32).reshape(len(texts), STRUCTURE),
    )


def _hashes(text: str) -> NDArray[np.uint32]:
    """Return a bucket per word, word pair and character n-gram of the text in lower case; the first half is the words'."""
    lowered = text.lower()
    words = np.array([zlib.crc32(word.encode()) for word in _WORD.findall(lowered)], dtype=np.uint32)
    pairs = (words[:-1] * _PRIME) ^ words[1:]
    grams = _grams(np.frombuffer(f" {_spaced(lowered)} ".encode(), dtype=np.uint8).astype(np.uint32))
    hashes = np.concatenate([words, pairs, *grams])
    hashes ^= hashes >> np.uint32(16)
    hashes *= np.uint32(0x85EBCA6B)
    hashes ^= hashes >> np.uint32(13)
    hashes &= np.uint32(_HALF - 1)
    hashes[len(words) + len(pairs) :] += np.uint32(_HALF)
    return hashes


def _spaced(text: str) -> str:
    """Return the text with a single space for each run of white space; splitting takes half of the time of a pattern."""
    words = " ".join(text.split())
    if not words:
        return " " if text else ""
    return f"{' ' if text[0].isspace() else ''}{words}{' ' if text[-1].isspace() else ''}"


def _grams(characters: NDArray[np.uint32]) -> list[NDArray[np.uint32]]:
    """Return the rolled hashes of all runs of 3, 4 and 5 characters; what two of the sizes share is worked out once."""
    count = len(characters)
    if count < _SIZES[0]:
        return []
    threes = _rolled(
        _rolled(_rolled(_SIZES[:, None], characters[: count - 2]), characters[1 : count - 1]), characters[2:]
    )
    if count < _SIZES[1]:
        return [threes[0]]
    fours = _rolled(threes[1:, : count - 3], characters[3:])
    fives = _rolled(fours[1, : count - 4], characters[4:])
    return [threes[0], fours[0], fives]


def _rolled(hashes: NDArray[np.uint32], characters: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return (hashes * _PRIME) ^ characters


def _counted(hashes: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return the sorted distinct hashes and how often each stands there; `np.unique` takes three times as long for one prompt."""
    if not len(hashes):
        return hashes, np.empty(0, dtype=np.int64)
    hashes.sort()
    changes = (hashes[1:] != hashes[:-1]).nonzero()[0]
    bounds = np.empty(len(changes) + 2, dtype=np.int64)
    bounds[0], bounds[1:-1], bounds[-1] = -1, changes, len(hashes) - 1
    return hashes.take(bounds[1:]), bounds[1:] - bounds[:-1]


def _structure(text: str, characters: int) -> list[float]:
    encoded = text.encode()
    size = max(len(text), 1)
    lines = text.count("\n")
    return [
        math.log1p(characters) / 8,
        math.log1p(lines) / 4,
        _signs(encoded, b"0123456789") / size,
        _signs(encoded, b"+-*/=<>^") / size * 4,
        _signs(encoded, b"{}[]();") / size * 4,
        text.count("?") / size * 50,
        float("```" in text or "def " in text or "return " in text),
        _signs(encoded, b"\\$") / size * 10,
        float("\nA" in text or "(A)" in text or "A." in text),
        text.count(",") / size * 20,
        0.0 if text.isascii() else 1.0,
        lines / size * 20,
    ]


def _signs(encoded: bytes, signs: bytes) -> int:
    """Return how many of the bytes are one of the signs: one pass, however many signs there are."""
    return len(encoded) - len(encoded.translate(None, signs))

"""Counts of words and character n-grams, compared with their definition, one number at a time."""

from __future__ import annotations

import itertools
import re
import zlib
from collections import Counter
from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foresail_router.features.lexical import BUCKETS, count_lexical

HALF = BUCKETS // 2
PRIME = 0x01000193


def spread(number: int) -> int:
    number = ((number ^ (number >> 16)) * 0x85EBCA6B) % 2**32
    return (number ^ (number >> 13)) % HALF


def defined(text: str) -> dict[int, float]:
    lowered = text.lower()
    words = [zlib.crc32(word.encode()) for word in re.findall(r"[a-z]+|[0-9]+|[^\sa-z0-9]", lowered)]
    pairs = [(first * PRIME % 2**32) ^ second for first, second in itertools.pairwise(words)]
    buckets = Counter(map(spread, words + pairs))
    squeezed = re.sub(r"\s+", " ", lowered)
    characters = f" {squeezed} ".encode()
    for size in (3, 4, 5):
        for start in range(len(characters) - size + 1):
            rolled = size
            for character in characters[start : start + size]:
                rolled = (rolled * PRIME % 2**32) ^ character
            buckets[HALF + spread(rolled)] += 1
    weights = {bucket: 1 + log(count) for bucket, count in sorted(buckets.items())}
    length = sqrt(sum(weight * weight for weight in weights.values()))
    return {bucket: weight / length for bucket, weight in weights.items()}


@given(st.lists(st.text("abA 1.\n?é🙂", max_size=40), min_size=1, max_size=3))
def test_counts_are_what_they_are_defined_to_be(texts: list[str]) -> None:
    counted = count_lexical(texts)
    for row, text in enumerate(texts):
        span = slice(counted.offsets[row], counted.offsets[row + 1])
        expected = defined(text)
        assert counted.columns[span].tolist() == list(expected)
        assert counted.values[span] == pytest.approx(list(expected.values()), rel=1e-6)


@pytest.mark.parametrize("text", ["", "a", "ab", "abc", " \n "])
def test_the_shortest_texts_have_counts_of_their_own(text: str) -> None:
    counted = count_lexical([text])
    assert dict(zip(counted.columns.tolist(), counted.values.tolist(), strict=True)) == pytest.approx(defined(text))
    assert counted.structure.shape == (1, 12)
    assert np.isfinite(counted.structure).all()

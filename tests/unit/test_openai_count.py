"""Bytes of prompt text: a bound from above on what tokenizers can see."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foresail_sidecar.protocols.openai.count import STANDING_ALONE, json_bytes, printed_bytes, text_bytes, texts_bytes

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.text() | st.text("a\u0301\u0323\u1e69\uac01\u1100\u1161\ufdfa\u00bd\u0344\U0001d15e"))
def test_no_normal_form_of_composition_is_longer(text: str) -> None:
    for form in ("NFC", "NFKC"):
        assert len(unicodedata.normalize(form, text).encode()) <= text_bytes(text)
    assert len(text.encode()) <= text_bytes(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("", 0), ("abc", 3), ("é", 2), ("漢", 3), ("\ufdfa", 33), ("½", 5), ("\ud800", 3)]
)
def test_bytes_of_a_text(text: str, expected: int) -> None:
    assert text_bytes(text) == expected


def test_no_character_that_stands_alone_combines_with_ascii() -> None:
    characters = [chr(code) for code in range(0x80, 0x110000)]
    alone = set(filter(STANDING_ALONE.fullmatch, characters))
    assert not any(map(unicodedata.combining, alone))
    decomposed = [unicodedata.normalize("NFD", character) for character in characters]
    assert not alone & {parts[1] for parts in decomposed if len(parts) > 1 and parts[0].isascii()}


TEXTS = (
    st.text()
    | st.text("ab ’“—é½ﬁ\u0301Åжй😀\ufe0f", max_size=30)
    | st.text('a"\\\x00\n\x7fé\ud800\u0301\u00bd', max_size=5)
)


@given(st.lists(st.fixed_dictionaries({"role": TEXTS, "content": TEXTS}), min_size=1, max_size=4))
def test_messages_of_texts_have_the_bytes_of_their_json(messages: list[dict[str, str]]) -> None:
    assert texts_bytes(messages) == json_bytes(messages)


@given(st.text("a\u1e69\uac01\ufdfa\u0301\u0323", min_size=1, max_size=30).map(lambda text: text * 1000))
def test_texts_with_too_many_marks_are_bounded_without_sorting_them(text: str) -> None:
    assert len(unicodedata.normalize("NFKC", text).encode()) <= text_bytes(text)


@given(VALUES)
def test_printing_with_an_indentation_is_never_longer(value: object) -> None:
    assert len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) <= json_bytes(value)
    for indent in (1, 2, 4):
        printed = json.dumps(value, ensure_ascii=False, indent=indent)
        assert len(printed.encode("utf-8", "surrogatepass")) <= printed_bytes(value)
        assert len(json.dumps(value, indent=indent)) <= printed_bytes(value)

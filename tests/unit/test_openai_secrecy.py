"""No part of a prompt is quoted in an error or in a reason: applications log what their SDK raises."""

from __future__ import annotations

import json
from typing import Any

import pytest

from foresail_sidecar.protocols.errors import BadRequest
from foresail_sidecar.protocols.openai import parse_request

MARK = "my patient Anna Smith has HIV"
WORDS = ["my", "patient", "Anna", "Smith", "HIV"]


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "auto", "messages": [user("hi")], **fields}).encode()


def said(raw: bytes) -> str:
    """Return all that Foresail says about a body: why it is refused, or why it has no bound on its cost."""
    try:
        return parse_request(raw).neutral.unpriceable or ""
    except BadRequest as error:
        return f"{error} {error.message} {error.param} {error.code}"


# What a client may put in place of a value: the prompt as a string, as an element, as a value, and as a name.
WRONG = [MARK, [MARK], {"type": MARK}, {MARK: 1}, [{"type": MARK}], [{MARK: MARK}], {"type": "text", "text": [MARK]}]
MALFORMED = {
    "messages": WRONG,
    "messages[0]": [[wrong] for wrong in WRONG],
    "role": [[{"role": wrong, "content": "x"}] for wrong in WRONG[1:]],
    "content": [[user(wrong)] for wrong in WRONG[2:]],
    "part": [[user([wrong])] for wrong in WRONG],
    "part's type": [[user([{"type": wrong}])] for wrong in WRONG],
    "part's text": [[user([{"type": "text", "text": wrong}])] for wrong in WRONG[1:]],
    "part's other field": [[user([{"type": "text", "text": "x", MARK: MARK}])]],
    "message's other field": [[{**user("x"), MARK: MARK}], [{**user("x"), "images": MARK}]],
    "tool calls": [[{"role": "assistant", "tool_calls": wrong}] for wrong in WRONG],
    "function call": [[{"role": "assistant", "function_call": wrong, "audio": wrong}] for wrong in WRONG],
}
PROMPT_FIELDS = [
    "audio",
    "chat_template",
    "chat_template_kwargs",
    "documents",
    "extra_body",
    "functions",
    "guided_json",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "modalities",
    "n",
    "parallel_tool_calls",
    "prediction",
    "prompt",
    "reasoning",
    "reasoning_effort",
    "response_format",
    "service_tier",
    "stop",
    "stream",
    "stream_options",
    "tool_choice",
    "tools",
    "unheard_of",
    "user",
    "web_search_options",
]


@pytest.mark.parametrize("place", MALFORMED)
def test_no_malformed_message_is_quoted(place: str) -> None:
    for messages in MALFORMED[place]:
        words = said(chat(messages=messages))
        assert not any(word in words.split() or word in words for word in WORDS), (words, messages)
    assert any(said(chat(messages=messages)) for messages in MALFORMED[place])


@pytest.mark.parametrize("name", PROMPT_FIELDS)
def test_no_field_that_can_hold_a_prompt_is_quoted(name: str) -> None:
    for wrong in [*WRONG, [{"type": "function", "function": {"name": "f"}, MARK: MARK}]]:
        words = said(chat(**{name: wrong}))
        assert not any(word in words for word in WORDS), words


@pytest.mark.parametrize(
    "raw",
    [
        chat(**{MARK: 1}),
        b'{"%s":1,"%s":2}' % (MARK.encode(), MARK.encode()),
        b'{"messages":[{"%s":1,"%s":2}]}' % (MARK.encode(), MARK.encode()),
        b'{"model":["%s"]}' % MARK.encode(),
        MARK.encode(),
        json.dumps(MARK).encode(),
        chat() + MARK.encode(),
    ],
)
def test_no_name_of_a_field_and_no_stray_text_is_quoted(raw: bytes) -> None:
    words = said(raw)
    assert words
    assert not any(word in words for word in WORDS), words


def test_broken_json_is_never_quoted() -> None:
    whole = chat(messages=[user(MARK)], tools=[MARK])
    for at in range(len(whole)):
        for broken in (whole[:at], whole[:at] + b"\x00" + whole[at:], whole[:at] + b"\\q" + whole[at + 1 :]):
            for inserted in (broken, whole[:at] + b'"' + whole[at:], whole[:at] + b"\xff" + whole[at:]):
                words = said(inserted)
                assert not any(word in words for word in WORDS[1:]), words


def test_a_short_word_in_a_setting_is_shown_and_anything_longer_is_not() -> None:
    assert '"yes"' in said(chat(stream="yes"))
    assert "a string" in said(chat(stream="x" * 41))
    assert "a number" in said(chat(messages=[7]))

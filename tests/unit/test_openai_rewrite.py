"""Rewriting requests: the model, the output limit and the wish for usage change; every other byte stays as the client wrote it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foresail_api.pool import OutputLimitField
from foresail_sidecar.protocols.openai import parse_request, rewrite

MAX_TOKENS = OutputLimitField.MAX_TOKENS
MAX_COMPLETION_TOKENS = OutputLimitField.MAX_COMPLETION_TOKENS


def rewritten(raw: str, limit_field: OutputLimitField = MAX_TOKENS) -> str:
    return rewrite(parse_request(raw.encode()), model="m", output_limit=7, limit_field=limit_field).decode()


def test_a_request_that_is_forgotten_keeps_what_it_was_counted_by() -> None:
    parsed = parse_request(b'{"model":"auto","stream":true,"messages":[{"role":"user","content":"a prompt"}]}')
    before = parsed.neutral
    parsed.forget()
    assert "a prompt" not in repr(parsed.members) + parsed.text + parsed.neutral.text
    assert parsed.neutral == replace(before, text="")
    assert before.text == "a prompt"


MESSAGES = '"messages":[{"role":"user"}]'


@pytest.mark.parametrize(
    ("raw", "limit_field", "expected"),
    [
        ('{"model":"auto",%s}', MAX_TOKENS, '{"model":"m",%s,"max_tokens":7}'),
        ('{"model":"auto",%s}', MAX_COMPLETION_TOKENS, '{"model":"m",%s,"max_completion_tokens":7}'),
        ('{ "model" : "auto" , %s } ', MAX_TOKENS, '{ "model" : "m" , %s,"max_tokens":7 } '),
        ('{"max_tokens":900,"model":"auto",%s}', MAX_TOKENS, '{"max_tokens":7,"model":"m",%s}'),
        ('{"max_tokens": null,"model":"auto",%s}', MAX_TOKENS, '{"max_tokens": 7,"model":"m",%s}'),
        (
            '{"max_tokens":900,"model":"auto",%s}',
            MAX_COMPLETION_TOKENS,
            '{"max_completion_tokens":7,"model":"m",%s}',
        ),
        ('{"max_completion_tokens":9,"model":"auto",%s}', MAX_TOKENS, '{"max_tokens":7,"model":"m",%s}'),
        (
            '{"max_completion_tokens":9, "model":"auto", "max_tokens":9, %s}',
            MAX_TOKENS,
            '{"model":"m", "max_tokens":7, %s}',
        ),
        (
            '{"max_tokens":9,"model":"auto",%s, "max_completion_tokens":9 }',
            MAX_TOKENS,
            '{"max_tokens":7,"model":"m",%s }',
        ),
        ('{"mod\\u0065l":"\\u0061uto",%s}', MAX_TOKENS, '{"mod\\u0065l":"m",%s,"max_tokens":7}'),
        ('{"model":"auto",%s,"stream":false}', MAX_TOKENS, '{"model":"m",%s,"stream":false,"max_tokens":7}'),
    ],
)
def test_model_and_limit(raw: str, limit_field: OutputLimitField, expected: str) -> None:
    assert rewritten(raw.replace("%s", MESSAGES), limit_field) == expected.replace("%s", MESSAGES)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", ',"stream_options":{"include_usage":true}'),
        (',"stream_options": null', ',"stream_options": {"include_usage":true}'),
        (',"stream_options":{}', ',"stream_options":{"include_usage":true}'),
        (',"stream_options":{ }', ',"stream_options":{"include_usage":true }'),
        (',"stream_options":{ "a": 1.0 }', ',"stream_options":{"include_usage":true, "a": 1.0 }'),
        (',"stream_options":{"include_usage": false}', ',"stream_options":{"include_usage": true}'),
        (',"stream_options":{"include_usage":null,"a":1}', ',"stream_options":{"include_usage":true,"a":1}'),
        (',"stream_options":{"include_usage": true}', ',"stream_options":{"include_usage": true}'),
    ],
)
def test_a_stream_asks_for_usage(options: str, expected: str) -> None:
    head = f'{{"model":"auto",{MESSAGES},"max_tokens":9,"stream":true'
    wanted = head.replace("auto", "m").replace("9", "7")
    assert rewritten(f"{head}{options}}}") == f"{wanted}{expected}}}"


def test_without_a_stream_its_options_stay() -> None:
    raw = f'{{"model":"auto",{MESSAGES},"max_tokens":9,"stream_options":{{}}}}'
    assert rewritten(raw).endswith('"stream_options":{}}')


def test_a_model_s_name_is_written_as_json() -> None:
    parsed = parse_request(f'{{"model":"auto",{MESSAGES}}}'.encode())
    forwarded = rewrite(parsed, model='say "hi"', output_limit=1, limit_field=MAX_TOKENS)
    assert json.loads(forwarded)["model"] == 'say "hi"'


BLANK = st.text(" \t\r\n", max_size=3)
NUMBERS = st.sampled_from(["0", "-0", "1.0", "1e400", "-1E+2", "0.10", "12345678901234567890123456789", "1e-999"])
STRINGS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\'), max_size=8).map('"{}"'.format),
    st.sampled_from(['"\\u00e9"', '"\\uD83D\\ude00"', '"\\ud800"', '"\\/"', '"\\n\\t\\u0000"', '"é"', '"\U0001f600"']),
)
KEYS = st.integers(0, 10**6).map('"k{}"'.format) | st.just('"\\u0073"')


def _array(items: list[str], blank: str) -> str:
    return f"[{blank}{f'{blank},'.join(items)}]"


def _object(members: dict[str, str], blank: str) -> str:
    return "{" + f",{blank}".join(f"{key}{blank}:{value}" for key, value in members.items()) + blank + "}"


VALUES = st.recursive(
    st.one_of(NUMBERS, STRINGS, st.sampled_from(["true", "false", "null"])),
    lambda inner: st.one_of(
        st.builds(_array, st.lists(inner, max_size=4), BLANK),
        st.builds(_object, st.dictionaries(KEYS, inner, max_size=4), BLANK),
    ),
    max_leaves=10,
)
LIMITS = st.sampled_from(["null", "1", "500", "9007199254740992"])
CONTENTS = st.builds('[{{"role":{0},"content":{1}}}]'.format, STRINGS, STRINGS)


@st.composite
def members_of_bodies(draw: st.DrawFn) -> list[list[str]]:
    """Members as [blank, key, blank with colon, value, blank]: joined by commas they are a body."""
    chosen = {'"model"': draw(STRINGS.filter(lambda text: text != '""')), '"messages"': draw(CONTENTS)}
    for name in ("max_tokens", "max_completion_tokens"):
        if draw(st.booleans()):
            chosen[f'"{name}"'] = draw(LIMITS)
    chosen |= draw(st.dictionaries(st.integers(0, 99).map('"x{}"'.format), VALUES, max_size=5))
    order = draw(st.permutations(sorted(chosen)))
    return [[draw(BLANK), key, f"{draw(BLANK)}:{draw(BLANK)}", chosen[key], draw(BLANK)] for key in order]


def _joined(members: list[list[str]]) -> str:
    return "{" + ",".join("".join(member) for member in members) + "}"


def _expected(members: list[list[str]], declared: str, other: str) -> str:
    members = [list(member) for member in members]
    names = [member[1] for member in members]
    members[names.index('"model"')][3] = '"m"'
    if declared in names:
        members[names.index(declared)][3] = "7"
        if other in names:
            at = names.index(other)
            gone = members.pop(at)
            if at < len(members):
                members[at][0] = gone[0]
            else:
                members[-1][4] = gone[4]
    elif other in names:
        members[names.index(other)][1] = declared
        members[names.index(other)][3] = "7"
    else:
        members[-1][3] += f",{declared}:7"
    return _joined(members)


@settings(max_examples=300)
@given(members=members_of_bodies(), outside=st.tuples(BLANK, BLANK), completion=st.booleans())
def test_every_other_byte_stays(members: list[list[str]], outside: tuple[str, str], completion: bool) -> None:
    names = ['"max_tokens"', '"max_completion_tokens"']
    declared, other = reversed(names) if completion else names
    raw = f"{outside[0]}{_joined(members)}{outside[1]}"
    expected = f"{outside[0]}{_expected(members, declared, other)}{outside[1]}"
    assert rewritten(raw, MAX_COMPLETION_TOKENS if completion else MAX_TOKENS) == expected


FIELDS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": st.none() | st.integers(1, 9),
        "max_completion_tokens": st.none() | st.integers(1, 9),
        "stream": st.none() | st.booleans(),
        "stream_options": st.none()
        | st.fixed_dictionaries({}, optional={"include_usage": st.booleans(), "a": st.just(1)}),
        "unknown": st.just({"max_tokens": 1, "model": "inner"}),
    },
)


@given(FIELDS, st.sampled_from(OutputLimitField), st.integers(1, 10**9))
def test_the_forwarded_body_says_what_it_must(
    fields: dict[str, Any], limit_field: OutputLimitField, limit: int
) -> None:
    sent = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], **fields}
    forwarded = json.loads(
        rewrite(parse_request(json.dumps(sent).encode()), model="m", output_limit=limit, limit_field=limit_field)
    )
    expected = {name: value for name, value in sent.items() if name not in ("max_tokens", "max_completion_tokens")}
    expected |= {"model": "m", "max_tokens" if limit_field == MAX_TOKENS else "max_completion_tokens": limit}
    if fields.get("stream"):
        expected["stream_options"] = {**(fields.get("stream_options") or {}), "include_usage": True}
    assert forwarded == expected

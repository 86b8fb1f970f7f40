"""Reading chat completion requests: what the decision learns, and what is refused with which words."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foresail_api.pool import Capability, OutputLimitField
from foresail_sidecar.protocols.errors import BadRequest
from foresail_sidecar.protocols.openai import parse_request, rewrite
from foresail_sidecar.protocols.openai.fields import LIMIT_FIELDS, SIMPLE


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "auto", "messages": [{"role": "user", "content": "hi"}], **fields}).encode()


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUFB", "detail": "high"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "QUFB/+==", "format": "wav"}}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def refusal(raw: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse_request(raw)
    return caught.value


def test_reads_what_the_decision_needs() -> None:
    parsed = parse_request(body(max_tokens=50, n=3, stream=True, stream_options={"include_usage": True}))
    assert parsed.neutral.model == "auto"
    assert parsed.neutral.text == "hi"
    assert parsed.neutral.output_limit == 50
    assert parsed.neutral.choices == 3
    assert parsed.neutral.stream
    assert parsed.wants_usage
    assert parsed.neutral.required == frozenset()
    assert parsed.neutral.unpriceable is None


READ_OF_EVERY_REQUEST = {"messages", "model", "stream", "stream_options", "n", "best_of", *LIMIT_FIELDS.values()}


@pytest.mark.parametrize("name", sorted(SIMPLE - READ_OF_EVERY_REQUEST))
def test_a_closer_look_at_fields_that_need_none_finds_nothing(name: str) -> None:
    simple = {name: {"any": ["value"]}}
    # Null asks for nothing, but this field is one that is looked at.
    assert parse_request(body(**simple)).neutral == parse_request(body(**simple, parallel_tool_calls=None)).neutral


def test_the_representation_of_a_parsed_request_holds_no_prompt() -> None:
    parsed = parse_request(body(messages=[user("a secret")]))
    assert "a secret" not in repr(parsed).replace(repr(parsed.neutral), "")


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, None),
        ({"max_tokens": 10}, 10),
        ({"max_completion_tokens": 10}, 10),
        ({"max_tokens": 10, "max_completion_tokens": 20}, 10),
        ({"max_tokens": 20, "max_completion_tokens": 10}, 10),
        ({"max_tokens": None, "max_completion_tokens": 10}, 10),
        ({"max_tokens": None}, None),
    ],
)
def test_the_smallest_output_limit_counts(limits: dict[str, Any], expected: int | None) -> None:
    assert parse_request(body(**limits)).neutral.output_limit == expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [({}, 1), ({"n": 4}, 4), ({"best_of": 5}, 5), ({"n": 2, "best_of": 7}, 7), ({"n": None, "best_of": None}, 1)],
)
def test_answers_are_counted_by_the_larger_of_both_fields(counts: dict[str, Any], expected: int) -> None:
    assert parse_request(body(**counts)).neutral.choices == expected


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([{"role": "system", "content": "be kind"}, user("why?")], "why?"),
        ([user("first"), {"role": "assistant", "content": "answer"}, user("second")], "second"),
        ([user("task"), {"role": "assistant", "content": None}, {"role": "tool", "content": "result"}], "task"),
        ([user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])], "a\nb"),
        ([{"role": "system", "content": "only this"}], "only this"),
        ([user("half a pair: \ud800")], "half a pair: ?"),
        ([user("")], ""),
    ],
)
def test_the_router_reads_the_last_user_message(messages: list[Any], text: str) -> None:
    assert parse_request(body(messages=messages)).neutral.text == text


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CACHED = {"type": "ephemeral"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


@pytest.mark.parametrize(
    ("fields", "required"),
    [
        ({"tools": [TOOL]}, {Capability.TOOLS}),
        ({"tools": [TOOL], "tool_choice": "none"}, {Capability.TOOLS}),
        ({"tools": [], "functions": None}, set()),
        ({"functions": [{"name": "f"}]}, {Capability.TOOLS}),
        ({"parallel_tool_calls": True}, {Capability.PARALLEL_TOOLS}),
        ({"parallel_tool_calls": False}, set()),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, {Capability.JSON_SCHEMA}),
        ({"response_format": {"type": "json_object"}}, set()),
        ({"reasoning_effort": "low"}, {Capability.REASONING}),
        ({"reasoning_effort": "none"}, set()),
        ({"reasoning": {"max_tokens": 100}}, {Capability.REASONING}),
        ({"reasoning": {"effort": "low"}}, {Capability.REASONING}),
        ({"reasoning": {"effort": "none"}}, set()),
        ({"reasoning": {"enabled": False}}, set()),
        ({"reasoning": None}, set()),
        ({"thinking": {"type": "enabled", "budget_tokens": 100}}, {Capability.REASONING}),
        ({"thinking": {"type": "disabled"}}, set()),
        ({"thinking_budget": 100}, {Capability.REASONING}),
        ({"modalities": ["text", "audio"], "audio": {"voice": "v", "format": "wav"}}, {Capability.AUDIO}),
        ({"messages": [user("x"), {"role": "assistant", "tool_calls": [CALL]}]}, {Capability.TOOLS}),
        (
            {"messages": [{"role": "assistant", "tool_calls": [CALL, CALL]}]},
            {Capability.TOOLS, Capability.PARALLEL_TOOLS},
        ),
        ({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}, {Capability.TOOLS}),
        ({"messages": [{"role": "assistant", "content": "x", "tool_calls": None, "function_call": None}]}, set()),
        ({"messages": [{"role": "tool", "content": "x"}]}, {Capability.TOOLS}),
        ({"messages": [user([{"type": "image_url", "image_url": {"url": "u"}}])]}, {Capability.VISION}),
        ({"messages": [user([{"type": "input_audio", "input_audio": {}}])]}, {Capability.AUDIO}),
        ({"messages": [user([{"type": "file", "file": {}}])]}, {Capability.FILES}),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, {Capability.AUDIO}),
    ],
)
def test_capabilities_are_required_also_when_used_earlier(fields: dict[str, Any], required: set[Capability]) -> None:
    assert parse_request(body(**fields)).neutral.required == required


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"messages": [user([{"type": "image_url", "image_url": {"url": "u"}}])]}, "`messages[0].content[0]`"),
        ({"messages": [user([{"type": "hologram"}])]}, "`messages[0].content[0]`"),
        ({"messages": [user([{"type": "text", "text": "x", "cache_control": {}}])]}, "`messages[0].content[0]`"),
        (
            {"messages": [user([{"type": "text", "text": "x", "cache_control": {**CACHED, "ttl": ["1h"]}}])]},
            "`messages[0].content[0]`",
        ),
        (
            {"messages": [user([{"type": "text", "text": "x", "cache_control": CACHED, "more": 1}])]},
            "`messages[0].content[0]`",
        ),
        ({"tools": [{**TOOL, "cache_control": {**CACHED, "ttl": "24h"}}]}, "`tools[0]`"),
        ({"cache_control": CACHED}, "`cache_control`"),
        ({"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, "`messages[0]`"),
        ({"web_search_options": {}}, "`web_search_options`"),
        ({"tools": [{"type": "web_search"}]}, "`tools[0]`"),
        ({"tools": [TOOL, {"google_search": {}}]}, "`tools[1]`"),
        ({"tools": [{**TOOL, "google_search": {}}]}, "`tools[0]`"),
        ({"tools": ["f"]}, "`tools[0]`"),
        ({"tools": [{"type": ["function"], "function": {}}]}, "`tools[0]`"),
        ({"service_tier": ["default"]}, "`service_tier`"),
        ({"audio": {"voice": "v"}}, "`audio`"),
        ({"modalities": ["image"]}, "`modalities`"),
        ({"service_tier": "priority"}, "`service_tier`"),
        ({"n_predict": -1}, "`n_predict`"),
        ({"fallbacks": ["dear"]}, "`fallbacks`: lets the provider choose another model"),
        ({"provider": {"order": ["dear"]}}, "`provider`"),
        ({"reasoning": {"effort": "high"}}, "`reasoning`: a thinking budget without a number of tokens"),
        ({"reasoning": {"max_tokens": 100, "effort": "high"}}, "`reasoning`"),
        ({"reasoning": {"max_tokens": "many"}}, "`reasoning`"),
        ({"reasoning": 100}, "`reasoning`"),
        ({"thinking_budget": -1}, "`thinking_budget`"),
        ({"thinking_budget": True}, "`thinking_budget`"),
        ({"thinking": {"type": "adaptive"}}, "`thinking`"),
        ({"thinking": {"type": "enabled", "budget_tokens": 10, "more": 1}}, "`thinking`"),
        ({"sampling_params": {"max_new_tokens": 10**6}}, "`sampling_params`"),
        ({"nvext": {}}, "`nvext`"),
        (
            {"unheard_of": 1},
            "`unheard_of`: Foresail does not know what it costs; leave it out, or use a policy without",
        ),
        ({"say it twice": 1}, "a field whose name is not an identifier"),
        ({"chat_template_kwargs": {"chat_template": "{{ messages * 9 }}"}}, "`chat_template_kwargs`: only these"),
        ({"chat_template_kwargs": {"padding": "max_length", "max_length": 10**6}}, "`chat_template_kwargs`"),
        ({"chat_template_kwargs": {"thinking": [1]}}, "`chat_template_kwargs`"),
        ({"chat_template_kwargs": "x"}, "`chat_template_kwargs`"),
        ({"thinking": {"budget_tokens": 10}}, "`thinking`"),
    ],
)
def test_what_has_no_bound_on_its_cost_is_named(fields: dict[str, Any], named: str) -> None:
    unpriceable = parse_request(body(**fields)).neutral.unpriceable
    assert unpriceable is not None
    assert named in unpriceable


@pytest.mark.parametrize(
    "fields",
    [
        {"service_tier": "default"},
        {"modalities": ["text"]},
        {"tools": [TOOL, {"type": "custom", "custom": {"name": "c"}}]},
        {"audio": None, "prediction": None},
        {"messages": [{"role": "assistant", "content": "x", "audio": None, "annotations": [], "refusal": None}]},
        {"temperature": 0.5, "seed": 1, "user": "me", "metadata": {"a": "b"}, "top_k": 3, "unheard_of": None},
        {
            "ignore_eos": True,
            "min_tokens": 3,
            "stop_token_ids": [1],
            "dry_base": 1.5,
            "cache_prompt": True,
            "id_slot": 1,
        },
        {"guided_json": {"type": "object"}, "guided_regex": "a+", "grammar": "root ::= [a-z]", "json_schema": {}},
        {"chat_template_kwargs": {"enable_thinking": False}, "include_reasoning": False, "documents": []},
        {"thinking": {"type": "enabled", "budget_tokens": 100}},
        {"reasoning": {"max_tokens": 100, "enabled": True, "exclude": True}},
        {"thinking_budget": 100},
        {"messages": [user([IMAGE, AUDIO])]},
        {"messages": [user([{"type": "text", "text": "x", "cache_control": CACHED}])]},
        {"messages": [user([{"type": "text", "text": "x", "cache_control": {**CACHED, "ttl": "1h"}}])]},
        {"messages": [user([{"type": "text", "text": "x", "cache_control": None}])]},
        {"tools": [{**TOOL, "cache_control": {**CACHED, "ttl": "5m"}}]},
    ],
)
def test_everyday_fields_keep_a_request_priceable(fields: dict[str, Any]) -> None:
    assert parse_request(body(**fields)).neutral.unpriceable is None


def bytes_of(**fields: Any) -> int:
    return parse_request(body(**fields)).neutral.input_bytes


def test_input_bytes_count_the_unescaped_json_of_all_that_becomes_prompt() -> None:
    assert bytes_of() == len('[{"role": "user", "content": "hi"}]')
    assert bytes_of(messages=[user("é")]) == bytes_of(messages=[user("e")]) + 1
    assert bytes_of(messages=[user("\ufdfa")]) == bytes_of(messages=[user("x" * 33)])
    assert bytes_of(messages=[user("")] * 10_000) > 10_000 * 20


@pytest.mark.parametrize(
    "name",
    ["tools", "functions", "response_format", "tool_choice", "documents", "guided_json", "verbosity", "unheard_of"],
)
def test_every_field_that_can_become_prompt_counts(name: str) -> None:
    value = ["x" * 100]
    assert bytes_of(**{name: value}) >= bytes_of() + 100


@pytest.mark.parametrize("name", ["user", "stop", "metadata", "logit_bias"])
def test_fields_that_no_upstream_reads_as_prompt_do_not_count(name: str) -> None:
    assert bytes_of(**{name: "x" * 100}) == bytes_of()


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, None),
        ({"thinking": {"type": "disabled"}}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 100}, "thinking_budget": 70}, 100),
        ({"reasoning": {"max_tokens": 50}}, 50),
        ({"reasoning": {"effort": "low"}}, None),
    ],
)
def test_the_largest_thinking_budget_counts(fields: dict[str, Any], tokens: int | None) -> None:
    assert parse_request(body(**fields)).neutral.thinking_tokens == tokens


def test_media_that_the_request_holds_are_counted() -> None:
    neutral = parse_request(body(messages=[user([IMAGE, IMAGE]), {"role": "tool", "content": [IMAGE, AUDIO]}])).neutral
    assert (neutral.images, neutral.audio_parts, neutral.unpriceable) == (3, 1, None)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://pictures.example/large.png"}},
        {"type": "image_url", "image_url": {"url": "data:application/pdf;base64,QUFB"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUFB", "max_pixels": 10**9}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUFB"}, "max_pixels": 10**9},
        {"type": "image_url", "image_url": "data:image/png;base64,QUFB"},
        {"type": "image_url", "image_url": None},
        {"type": "input_audio", "input_audio": {"data": "https://sounds.example/long.wav", "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": "//sounds.example/long.wav", "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": "QUFB", "format": "wav", "speed": 2}},
        {"type": "input_audio", "input_audio": {"format": "wav"}},
        {"type": "file", "file": {"file_data": "QUFB"}},
    ],
)
def test_media_that_are_elsewhere_or_have_settings_of_their_own_have_no_bound(part: dict[str, Any]) -> None:
    neutral = parse_request(body(messages=[user([part])])).neutral
    assert (neutral.images, neutral.audio_parts) == (0, 0)
    assert neutral.unpriceable is not None
    assert "`messages[0].content[0]`" in neutral.unpriceable


def test_media_are_not_counted_as_text() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:" + "A" * 100_000}}
    assert bytes_of(messages=[user([{"type": "text", "text": "see"}, picture])]) < 100


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"model": None}, "model", "null"),
        ({"model": 7}, "model", "7"),
        ({"model": ""}, "model", "auto"),
        ({"messages": []}, "messages", "empty list"),
        ({"messages": "hi"}, "messages", "not a list"),
        ({"messages": ["hi"]}, "messages[0]", "object"),
        ({"messages": [user("a"), {}]}, "messages[1].role", "string"),
        ({"messages": [{"role": 1}]}, "messages[0].role", "a number"),
        ({"messages": [user(7)]}, "messages[0].content", "a number"),
        ({"messages": [user(["text"])]}, "messages[0].content[0]", "type"),
        ({"messages": [user([{"type": "text", "text": 1}])]}, "messages[0].content[0].text", "string"),
        ({"messages": [{"role": "assistant", "tool_calls": {}}]}, "messages[0].tool_calls", "list"),
        ({"max_tokens": 0}, "max_tokens", "from 1"),
        ({"max_tokens": True}, "max_tokens", "true"),
        ({"max_tokens": 1.5}, "max_tokens", "1.5"),
        ({"max_tokens": 10**30}, "max_tokens", "from 1"),
        ({"max_completion_tokens": "9"}, "max_completion_tokens", '"9"'),
        ({"n": 129}, "n", "from 1 to 128"),
        ({"n": -1}, "n", "-1"),
        ({"best_of": 10**9}, "best_of", "128"),
        ({"stream": "yes"}, "stream", '"yes"'),
        ({"stream_options": True}, "stream_options", "true"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", "1"),
        ({"tools": {}}, "tools", "list"),
        ({"functions": "f"}, "functions", "list"),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls", "1"),
        ({"modalities": "audio"}, "modalities", "list"),
        ({"reasoning_effort": 3}, "reasoning_effort", "3"),
    ],
)
def test_wrong_types_are_refused_with_field_value_and_remedy(fields: dict[str, Any], param: str, words: str) -> None:
    error = refusal(body(**fields))
    assert error.param == param
    assert f"`{param}`" in error.message
    assert words in error.message


@pytest.mark.parametrize("arguments", ["", "{", "NaN", '{"a":1,"a":[1,2]}', "1" * 5000, "\x00", '"\\ud800"'])
def test_arguments_that_a_model_wrote_may_be_any_text(arguments: str) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
    plain = {"type": "function", "function": {"name": "f", "arguments": None}}
    counted = bytes_of(messages=[{"role": "assistant", "tool_calls": [call]}])
    assert counted >= bytes_of(messages=[{"role": "assistant", "tool_calls": [plain]}]) + len(arguments) - len("null")


@pytest.mark.parametrize("name", ["Max_Tokens", "MAX_COMPLETION_TOKENS", "N", "Model", "Stream", "max_to\u212aens"])
def test_a_name_that_some_upstreams_take_for_another_is_refused(name: str) -> None:
    error = refusal(body(**{name: 5}))
    assert (error.param, error.code) == (name, "unknown_parameter")
    assert f"`{name.casefold()}` in case only; write it in lower case" in error.message


@pytest.mark.parametrize("name", ["api_base", "api_key", "base_url", "API_Key"])
def test_a_field_that_would_send_the_request_elsewhere_is_always_refused(name: str) -> None:
    error = refusal(body(**{name: "https://elsewhere.example/secret"}))
    assert error.param == name.lower()
    assert f"`{name.lower()}`" in error.message
    assert "Leave it out" in error.message
    assert "elsewhere.example" not in error.message


def test_a_missing_field_is_named() -> None:
    assert refusal(b'{"model":"auto"}').message == "`messages` must be a list with at least one message; it is missing."
    assert refusal(b'{"messages":[{"role":"user"}]}').param == "model"


def test_a_long_value_is_shortened() -> None:
    assert len(refusal(body(max_tokens="9" * 1000)).message) < 150


DEEP = 100_000


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "must be an object"),
        (b"  ", "must be an object"),
        (b"[]", "must be an object"),
        (b'"text"', "must be an object"),
        (b"{", "Expecting value"),
        (b"{}x", "after the end"),
        (b'{"model":"a"', "expected ','"),
        (b'{"model" "a"}', "expected ':'"),
        (b'{"model":"a",}', "line 1"),
        (b'{"model":}', "line 1"),
        (b"{1:2}", "double quotes"),
        (b'{"model":"a" "b":1}', "expected ','"),
        (b'{"model":"\xff"}', "byte 10 is not UTF-8"),
        (b'{"model":"\xed\xa0\x80"}', "not UTF-8"),
        (b'\xef\xbb\xbf{"model":"a"}', "byte order mark"),
        (b'{"model":"a\x00"}', "control character"),
        (b'\x00{"model":"a"}', "must be an object"),
        (b'{"model":"a"}\x00', "after the end"),
        (b'{"temperature":NaN}', "NaN is not a number"),
        (b'{"temperature":-Infinity}', "-Infinity is not a number"),
        (b'{"seed":' + b"9" * (sys.get_int_max_str_digits() + 1) + b"}", "digits"),
        (b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}", "nested too deeply"),
        (b'{"a":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}", "nested too deeply"),
        (b'{"a":' + b"[" * DEEP, "nested too deeply"),
    ],
)
def test_broken_json_is_refused(raw: bytes, words: str) -> None:
    error = refusal(raw)
    assert words in error.message.replace("Invalid control", "control")
    assert error.code == "invalid_json"


@pytest.mark.parametrize("depth", [10, 100, *range(900, 1010), 5000])
@pytest.mark.parametrize("field", ["tool_choice", "stream_options", "user"])
def test_nesting_near_the_interpreter_s_limit_is_read_and_rewritten_or_refused(depth: int, field: str) -> None:
    nested = b'{"a":' * depth + b"1" + b"}" * depth
    raw = b'{"model":"a","messages":[{"role":"user"}],"stream":true,"' + field.encode() + b'":' + nested + b"}"
    try:
        parsed = parse_request(raw)
    except BadRequest as error:
        assert depth > 800
        assert "nested too deeply" in error.message  # noqa: PT017
    else:
        rewritten = rewrite(parsed, model="m", output_limit=1, limit_field=OutputLimitField.MAX_TOKENS)
        assert nested[5:-1] in rewritten


def test_deep_nesting_inside_of_arguments_is_refused() -> None:
    arguments = "[" * DEEP + "]" * DEEP
    call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
    assert "nested too deeply" in refusal(body(messages=[{"role": "assistant", "tool_calls": [call]}])).message


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","mod\\u0065l":"b"}',
        b'{"model":"a","messages":[{"role":"user","content":"a","content":"b"}]}',
        b'{"model":"a","tools":[{"x":{"y":1,"y":2}}]}',
    ],
)
def test_a_repeated_field_is_refused(raw: bytes) -> None:
    assert "appears twice" in refusal(raw).message


GOOD = body(
    max_tokens=5,
    n=2,
    stream=True,
    stream_options={"a": 1},
    tools=[TOOL],
    messages=[user([{"type": "text", "text": "é"}])],
)


@given(
    st.integers(0, len(GOOD)),
    st.integers(0, 9),
    st.binary(max_size=3) | st.sampled_from([b"[", b"{", b'"', b"null", b"1e9"]),
)
def test_a_damaged_body_is_read_or_refused_but_never_worse(at: int, cut: int, inserted: bytes) -> None:
    with contextlib.suppress(BadRequest):
        parsed = parse_request(GOOD[:at] + inserted + GOOD[at + cut :])
        json.loads(rewrite(parsed, model="m", output_limit=1, limit_field=OutputLimitField.MAX_TOKENS))


def test_a_whole_object_of_repeated_fields_is_refused_quickly() -> None:
    pairs = b",".join(b'"%d":1' % index for index in range(200_000))
    assert "appears twice" in refusal(b'{"a":{' + pairs + b',"199999":2}}').message

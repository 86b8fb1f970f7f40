"""Reading answers: what is relayed, what was used and how they ended, wherever the bytes are cut."""

from __future__ import annotations

import itertools
import json
from typing import Any

import httpx
import openai as sdk
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foresail_router.decision.counts import TokenCounts
from foresail_sidecar.protocols.answers import Ending, EndingKind
from foresail_sidecar.protocols.openai import answer_machine, error_body, error_event, models_body, read_error
from foresail_sidecar.protocols.openai.sse import MOST_EVENT_BYTES

USAGE = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}


def billed(input_tokens: int, output_tokens: int) -> TokenCounts:
    return TokenCounts(plain=input_tokens, output_tokens=output_tokens)


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, index: int = 0, **fields: Any) -> str:
    choices = [] if delta is None else [{"index": index, "delta": delta, "finish_reason": finish}]
    return json.dumps({"id": "1", "object": "chat.completion.chunk", "choices": choices, **fields}, ensure_ascii=False)


def events(*data: str, end: str = "\n") -> bytes:
    return "".join(f"data: {one}{end}{end}" for one in data).encode()


ANSWER = (chunk({"role": "assistant", "content": ""}), chunk({"content": "Grüße "}), chunk({"content": "漢"}, "stop"))
USAGE_CHUNK = chunk(usage=USAGE)


def read(pieces: list[bytes], *, wants_usage: bool = False) -> tuple[bytes, Ending, Any]:
    machine = answer_machine(stream=True, wants_usage=wants_usage)
    relayed = b"".join(one for piece in pieces for one in machine.feed(piece))
    ending = machine.finish()
    return relayed + ending.rest, ending, machine


def test_choices_that_never_began_are_missing_from_a_stream_that_broke() -> None:
    first, second = chunk({"content": "one"}, "stop"), chunk({"content": "two"}, "stop", index=1)

    def ending(choices: int, *data: str) -> EndingKind:
        machine = answer_machine(stream=True, wants_usage=False, choices=choices)
        machine.feed(events(*data))
        return machine.finish().kind

    assert ending(1, first) == EndingKind.COMPLETE
    assert ending(2, first) == EndingKind.CUT
    assert ending(2, first, second) == ending(2, first, "[DONE]") == EndingKind.COMPLETE


STREAMS = {
    "line feeds": events(*ANSWER, USAGE_CHUNK, "[DONE]"),
    "carriage returns and line feeds": events(*ANSWER, USAGE_CHUNK, "[DONE]", end="\r\n"),
    "carriage returns": events(*ANSWER, USAGE_CHUNK, "[DONE]", end="\r"),
    "mixed line ends": events(*ANSWER, end="\r\n") + events(USAGE_CHUNK) + events("[DONE]", end="\r"),
    "comments": b": ping\n\n" + events(*ANSWER) + b": ping\r\n\r\n" + events(USAGE_CHUNK, "[DONE]"),
    "byte order mark": b"\xef\xbb\xbf" + events(*ANSWER, USAGE_CHUNK, "[DONE]"),
    "no space after the colon": events(*ANSWER, USAGE_CHUNK, "[DONE]").replace(b"data: ", b"data:"),
    "data on several lines": events(*ANSWER, USAGE_CHUNK, "[DONE]").replace(b', "object"', b',\ndata:  "object"'),
    "other fields": events(*ANSWER, USAGE_CHUNK, "[DONE]").replace(
        b"data: ", b"id: 7\nretry: 5\nevent: message\ndata: "
    ),
    "no done": events(*ANSWER, USAGE_CHUNK),
    "no last empty line": events(*ANSWER, USAGE_CHUNK, "[DONE]")[:-2],
}


def without_usage_event(stream: bytes) -> bytes:
    """What is left for a client who did not ask: worked out on lines, apart from the reader under test."""
    kept, event = [], b""
    for line in stream.splitlines(keepends=True):
        event += line
        if not line.strip(b"\r\n"):
            kept.append(event)
            event = b""
    kept.append(event)
    return b"".join(one for one in kept if b'"prompt_tokens"' not in one)


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("wants_usage", [True, False])
def test_every_cut_gives_the_same(name: str, wants_usage: bool) -> None:
    stream = STREAMS[name]
    expected = stream if wants_usage else without_usage_event(stream)
    assert wants_usage or len(expected) < len(stream)
    cuts = [[stream], [stream[at : at + 1] for at in range(len(stream))]]
    cuts += [[stream[:at], stream[at:]] for at in range(len(stream))]
    for pieces in cuts:
        relayed, ending, machine = read(pieces, wants_usage=wants_usage)
        assert relayed == expected
        assert ending.kind == EndingKind.COMPLETE
        assert machine.usage == billed(11, 5)
        assert machine.started
        assert machine.output_bytes == len("Grüße 漢".encode())


@given(st.sampled_from(sorted(STREAMS)), st.lists(st.integers(0, 1200)), st.booleans())
def test_any_cuts_give_the_same(name: str, cuts: list[int], wants_usage: bool) -> None:
    stream = STREAMS[name]
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[start:end] for start, end in itertools.pairwise(places)]
    assert read(pieces, wants_usage=wants_usage)[:2] == read([stream], wants_usage=wants_usage)[:2]


@given(st.lists(st.binary(max_size=40)), st.booleans())
def test_nothing_that_an_upstream_sends_raises_or_is_invented(pieces: list[bytes], stream: bool) -> None:
    machine = answer_machine(stream=stream, wants_usage=True)
    relayed = b"".join(one for piece in pieces for one in machine.feed(piece))
    assert b"".join(pieces).startswith(relayed)
    machine.finish()


def test_events_are_relayed_as_they_come() -> None:
    machine = answer_machine(stream=True, wants_usage=False)
    first, second = events(ANSWER[1]), events(ANSWER[2])
    assert not machine.started
    assert machine.feed(first + second[:10]) == [first]
    assert machine.started
    assert machine.feed(second[10:]) == [second]


def test_a_role_alone_does_not_start_an_answer() -> None:
    machine = answer_machine(stream=True, wants_usage=False)
    machine.feed(events(ANSWER[0]))
    assert not machine.started
    machine.feed(events(chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]})))
    assert machine.started


def test_usage_on_the_last_content_chunk_is_read_and_relayed() -> None:
    stream = events(ANSWER[1], chunk({"content": "x"}, "stop", usage=USAGE), "[DONE]")
    relayed, ending, machine = read([stream])
    assert relayed == stream
    assert ending.kind == EndingKind.COMPLETE
    assert machine.usage == billed(11, 5)


@pytest.mark.parametrize("empty", [{"choices": []}, {"choices": None}])
def test_a_usage_event_without_choices_is_withheld_however_it_says_so(empty: dict[str, Any]) -> None:
    usage_event = json.dumps({"usage": USAGE, **empty})
    relayed, _, machine = read([events(*ANSWER, usage_event, "[DONE]")])
    assert relayed == events(*ANSWER, "[DONE]")
    assert machine.usage == billed(11, 5)


def test_events_without_choices_that_hold_no_usage_are_relayed() -> None:
    stream = events(chunk(prompt_filter_results=[]), chunk(usage=None), *ANSWER, "[DONE]")
    assert read([stream])[0] == stream


def test_the_last_of_several_usages_counts() -> None:
    growing = [chunk({"content": "x"}, usage={"prompt_tokens": 11, "completion_tokens": count}) for count in (1, 2)]
    assert read([events(*growing)])[2].usage == billed(11, 2)


def test_a_report_does_not_hold_what_comes_after_it() -> None:
    early = chunk({"role": "assistant"}, usage={"prompt_tokens": 11, "completion_tokens": 0})
    assert read([events(early)])[2].usage == billed(11, 0)
    _, ending, machine = read([events(early, chunk({"content": "a long answer"}))])
    assert (ending.kind, machine.usage, machine.output_bytes) == (EndingKind.CUT, None, 13)
    assert read([events(early, chunk({"content": "x"}), chunk({}, "stop"), chunk(usage=USAGE))])[2].usage == billed(
        11, 5
    )


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4}, billed(3, 4)),
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}, billed(3, 4)),
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 107}, billed(3, 104)),
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 1}, billed(3, 4)),
        ({"prompt_tokens": 3}, None),
        ({"prompt_tokens": -3, "completion_tokens": 4}, None),
        ({"prompt_tokens": True, "completion_tokens": 4}, None),
        ({"prompt_tokens": 10**30, "completion_tokens": 4}, None),
        ({"prompt_tokens": 10**9, "completion_tokens": 4}, billed(10**9, 4)),
        ({"prompt_tokens": 10**9 + 1, "completion_tokens": 4}, None),
        ({"prompt_tokens": "3", "completion_tokens": 4}, None),
        ({}, None),
        (7, None),
        (None, None),
    ],
)
def test_reasoning_that_only_the_total_holds_counts_as_output(usage: Any, expected: TokenCounts | None) -> None:
    assert read([events(chunk(usage=usage))])[2].usage == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 60}}, TokenCounts(plain=40, cached=60)),
        ({"prompt_tokens_details": None}, TokenCounts(plain=100)),
        ({"prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0}}, TokenCounts(plain=100)),
        (
            {"prompt_tokens_details": {"audio_tokens": 10, "image_tokens": 20}},
            TokenCounts(plain=70, audio=10, image=20),
        ),
        (
            {"prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 50}},
            TokenCounts(plain=20, cached=30, written=50),
        ),
        ({"prompt_tokens_details": {"cache_creation_tokens": 50}}, TokenCounts(plain=50, written=50)),
        (
            {"cache_read_input_tokens": 30, "cache_creation_input_tokens": 50},
            TokenCounts(plain=20, cached=30, written=50),
        ),
        (
            {
                "cache_creation_input_tokens": 50,
                "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 25},
            },
            TokenCounts(plain=50, written=5, written_short=20, written_long=25),
        ),
        ({"prompt_cache_hit_tokens": 60, "prompt_cache_miss_tokens": 40}, TokenCounts(plain=40, cached=60)),
        ({"cached_tokens": 60}, TokenCounts(plain=40, cached=60)),
        # More than the whole is cut to it; what is no count is none.
        ({"prompt_tokens_details": {"cached_tokens": 160}}, TokenCounts(cached=100)),
        (
            {"prompt_tokens_details": {"cached_tokens": 80, "audio_tokens": 70}, "cache_creation_input_tokens": 20},
            TokenCounts(written=20, audio=70, cached=10),
        ),
        ({"prompt_tokens_details": {"cached_tokens": -5, "audio_tokens": "7"}}, TokenCounts(plain=100)),
        ({"prompt_tokens_details": {"cached_tokens": True}}, TokenCounts(plain=100)),
        ({"prompt_tokens_details": [60]}, TokenCounts(plain=100)),
    ],
)
def test_input_is_told_apart_by_kind(more: dict[str, Any], expected: TokenCounts) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 0, **more}
    found = read([events(chunk(usage=usage))])[2].usage
    assert found == expected
    assert found.input_tokens == 100


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"cache_creation_input_tokens": 1000}, TokenCounts(plain=10, written=1000, output_tokens=5)),
        (
            {"cache_creation_input_tokens": 400, "cache_read_input_tokens": 600, "total_tokens": 1015},
            TokenCounts(plain=10, cached=600, written=400, output_tokens=5),
        ),
        (
            {"cache_creation": {"ephemeral_1h_input_tokens": 900}, "total_tokens": 15},
            TokenCounts(plain=10, written_long=900, output_tokens=5),
        ),
    ],
)
def test_what_a_server_leaves_out_of_the_prompt_is_billed_all_the_same(
    more: dict[str, Any], expected: TokenCounts
) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, **more}
    assert read([events(chunk(usage=usage))])[2].usage == expected


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (b"", EndingKind.CUT),
        (b": ping\n\n", EndingKind.CUT),
        (events(*ANSWER[:2]), EndingKind.CUT),
        (events(*ANSWER[:2]) + b'data: {"choi', EndingKind.CUT),
        (events(*ANSWER), EndingKind.COMPLETE),
        (events(*ANSWER[:2], "[DONE]"), EndingKind.COMPLETE),
        (events(chunk({"content": "a"}, "stop"), chunk({"content": "b"}, index=1)), EndingKind.CUT),
        (events(chunk({"content": "a"}, "stop"), chunk({"content": "b"}, "stop", index=1)), EndingKind.COMPLETE),
        (events(*ANSWER[:2], "not json"), EndingKind.CUT),
    ],
)
def test_how_a_stream_ended(stream: bytes, kind: EndingKind) -> None:
    assert read([stream])[1].kind == kind


def test_a_cut_event_is_not_relayed() -> None:
    whole = events(ANSWER[1])
    relayed, ending, _ = read([whole + b'data: {"choices": [{"delta"'])
    assert ending.kind == EndingKind.CUT
    assert relayed == whole


def test_what_came_and_cannot_be_read_counts_all_the_same() -> None:
    cut = b'data: {"choices": [{"delta": {"content": "' + b"word " * 1000
    assert read([cut])[2].output_bytes == len(cut)
    assert read([events("no JSON of ours")])[2].output_bytes == len("no JSON of ours")
    assert read([events("[DONE]") + b": keep-alive\n\n"])[2].output_bytes == 0


def test_a_whole_event_before_the_cut_is_ended_for_the_one_that_follows() -> None:
    relayed, ending, _ = read([events(ANSWER[1])[:-2]])
    assert ending.kind == EndingKind.CUT
    assert relayed == events(ANSWER[1])


def test_an_event_too_large_to_hold_is_relayed_unread() -> None:
    stream = events(ANSWER[0], chunk({"content": "x" * (3 * MOST_EVENT_BYTES)}), ANSWER[2], USAGE_CHUNK, "[DONE]")
    pieces = [stream[at : at + 65_536] for at in range(0, len(stream), 65_536)]
    machine = answer_machine(stream=True, wants_usage=True)
    relayed, fed = b"", 0
    for piece in pieces:
        relayed += b"".join(machine.feed(piece))
        fed += len(piece)
        assert fed - len(relayed) <= MOST_EVENT_BYTES
    ending = machine.finish()
    assert relayed + ending.rest == stream
    assert ending.kind == EndingKind.COMPLETE
    assert machine.usage == billed(11, 5)
    assert machine.output_bytes >= 3 * MOST_EVENT_BYTES


def test_a_cut_inside_of_a_large_event_ends_it_for_the_error_that_follows() -> None:
    relayed, ending, _ = read([events(chunk({"content": "x" * (2 * MOST_EVENT_BYTES)}))[:-9]])
    assert ending.kind == EndingKind.CUT
    assert relayed.endswith(b"\n\n")


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (b'data: {"error": {"message": "out of memory", "code": 500}}\n\n', "out of memory"),
        (b'data: {"error": "out of memory"}\n\n', "out of memory"),
        (b'data: {"object": "error", "message": "out of memory", "type": "x"}\n\n', "out of memory"),
        (b'event: error\ndata: {"message": "out of memory"}\n\n', "the upstream sent an error"),
        (b'data: {"choices": [{"index": 0, "delta": {}}], "error": {"message": "out of memory"}}\n\n', "out of memory"),
    ],
)
def test_an_error_event_is_found_and_kept_from_the_client(event: bytes, message: str) -> None:
    relayed, ending, _ = read([events(ANSWER[1]) + event + events("[DONE]")])
    assert ending.kind == EndingKind.ERROR
    assert ending.error == message
    assert b"error" not in relayed
    assert b"DONE" not in relayed
    with pytest.raises(sdk.APIError, match="the upstream failed"):
        sdk_reads(relayed + error_event("the upstream failed", "upstream_error", None))


def sdk_reads(stream: bytes) -> str:
    """Return what OpenAI's own SDK makes of a stream."""

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=stream)

    transport = httpx.Client(transport=httpx.MockTransport(answer))
    with sdk.OpenAI(api_key="none", base_url="http://sdk.test/v1", http_client=transport, max_retries=0) as client:
        chunks = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "hi"}], stream=True)
        return "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)


@pytest.mark.parametrize("name", [name for name in STREAMS if name not in ("carriage returns", "mixed line ends")])
def test_the_sdk_reads_what_is_relayed(name: str) -> None:
    assert sdk_reads(read([STREAMS[name]])[0]) == "Grüße 漢"


@pytest.mark.parametrize("cut", [events(ANSWER[1]), events(ANSWER[1])[:-2], events(ANSWER[1]) + b'data: {"cho', b""])
def test_the_sdk_raises_on_our_error_event_after_a_cut(cut: bytes) -> None:
    relayed, ending, _ = read([cut])
    assert ending.kind == EndingKind.CUT
    with pytest.raises(sdk.APIError, match="the upstream broke off"):
        sdk_reads(relayed + error_event("the upstream broke off", "upstream_error", "stream_cut"))


def whole(body: bytes, size: int = 7) -> tuple[list[bytes], Ending, Any]:
    machine = answer_machine(stream=False, wants_usage=False)
    relayed = [one for at in range(0, len(body), size) for one in machine.feed(body[at : at + size])]
    return relayed, machine.finish(), machine


def test_a_json_answer_is_given_whole_at_its_end() -> None:
    body = json.dumps({"choices": [{"message": {"role": "assistant", "content": "hé"}}], "usage": USAGE}).encode()
    relayed, ending, machine = whole(body)
    assert relayed == []
    assert ending == Ending(EndingKind.COMPLETE, body)
    assert machine.usage == billed(11, 5)
    assert machine.output_bytes == 3
    assert machine.started


@pytest.mark.parametrize("body", [b"", b'{"choices": [', b"<html>", b"[]", b"\xff", b"[" * 100_000])
def test_a_json_answer_that_is_none_counts_as_cut(body: bytes) -> None:
    _, ending, machine = whole(body, 4096)
    assert ending.kind == EndingKind.CUT
    assert machine.usage is None


def test_an_error_with_a_good_status_is_an_error() -> None:
    _, ending, _ = whole(b'{"error": {"message": "no"}}')
    assert ending.kind == EndingKind.ERROR
    assert ending.error == "no"


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (b'{"error": {"message": "too long", "type": "t", "param": "messages", "code": "c"}}', "too long", "c"),
        (b'{"error": {"message": "too long", "code": 400}}', "too long", "400"),
        (b'{"error": "too long"}', "too long", None),
        (b'{"object": "error", "message": "too long"}', "too long", None),
        (b'{"message": "too long"}', "too long", None),
        (b'{"detail": "too long"}', "too long", None),
        (b"too\n  long", "too long", None),
        (b"{}", "the upstream gave no message", None),
        (b'["too long"]', '["too long"]', None),
        (b"", "", None),
    ],
)
def test_upstream_errors_of_any_shape_are_read(body: bytes, message: str, code: str | None) -> None:
    error = read_error(body)
    assert (error.message, error.code) == (message, code)


def test_an_upstream_error_is_bounded() -> None:
    assert len(read_error(json.dumps({"error": {"message": "x" * 10**6}}).encode()).message) == 65536


def test_bodies_of_our_own() -> None:
    assert json.loads(error_body("no", "invalid_request_error", "model", None)) == {
        "error": {"message": "no", "type": "invalid_request_error", "param": "model", "code": None}
    }
    assert [model["id"] for model in json.loads(models_body(["auto", "small"]))["data"]] == ["auto", "small"]


def test_an_event_that_is_nested_too_deep_to_be_read_is_counted_and_relayed() -> None:
    machine = answer_machine(stream=True, wants_usage=False, choices=1)
    deep = '{"choices":[{"index":0,"delta":{"content":' + "[" * 1000 + "]" * 1000 + "}}]}"
    received = events(deep)
    assert b"".join(machine.feed(received)) == received
    assert machine.output_bytes >= 2000


def test_an_answer_that_is_nested_too_deep_to_be_read_is_counted_and_relayed() -> None:
    machine = answer_machine(stream=False, wants_usage=False, choices=1)
    deep = b'{"choices":[{"index":0,"message":{"content":' + b"[" * 1000 + b"]" * 1000 + b"}}]}"
    machine.feed(deep)
    assert machine.finish() == Ending(EndingKind.COMPLETE, deep)
    assert machine.output_bytes >= 2000

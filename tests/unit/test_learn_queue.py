"""The queue in front of the encoder, the cache behind it, and the frames that cross the socket."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from foresail_router.engine.interface import (
    ArtifactNotLoaded,
    DeadlineExceeded,
    Estimate,
    ModelNotInArtifact,
    ScoreRequest,
    ScoreResult,
    ScorerOverloaded,
    ScoringError,
)
from foresail_router.engine.lru import LruCache
from foresail_router.engine.queue import BatchQueue, Entry, expected_tokens
from foresail_router.engine.wire import (
    MAX_FRAME_BYTES,
    BadFrame,
    encode_frame,
    error_message,
    parse_error,
    parse_request,
    parse_result,
    read_frame,
    request_message,
    result_message,
)


def entry(tokens: int = 10, deadline: float = 100.0, key: bytes = b"k") -> Entry:
    return Entry("digest", key, "text", tokens, deadline, asyncio.get_running_loop().create_future())


async def test_a_batch_is_what_waits_up_to_the_token_budget() -> None:
    queue = BatchQueue(max_entries=10, max_batch_tokens=25)
    entries = [entry() for _ in range(5)]
    queue.admit(entries, 0.0)
    assert queue.next_batch(0.0) == entries[:2]
    assert queue.next_batch(0.0) == entries[2:4]
    assert queue.next_batch(0.0) == entries[4:]
    assert queue.next_batch(0.0) == []


async def test_an_entry_beyond_the_budget_runs_alone() -> None:
    queue = BatchQueue(max_entries=10, max_batch_tokens=25)
    large, small = entry(200), entry(1)
    queue.admit([large, small], 0.0)
    assert queue.next_batch(0.0) == [large]
    assert queue.next_batch(0.0) == [small]


async def test_what_is_cancelled_or_late_is_not_run() -> None:
    queue = BatchQueue(max_entries=10, max_batch_tokens=100)
    cancelled, late, good = entry(), entry(deadline=5.0), entry()
    queue.admit([cancelled, late, good], 0.0)
    cancelled.future.cancel()
    assert queue.next_batch(6.0) == [good]
    with pytest.raises(DeadlineExceeded):
        late.future.result()


async def test_a_full_queue_refuses_all_or_none() -> None:
    queue = BatchQueue(max_entries=3, max_batch_tokens=100)
    queue.admit([entry(), entry()], 0.0)
    with pytest.raises(ScorerOverloaded, match="2 texts are waiting already"):
        queue.admit([entry(), entry()], 0.0)
    assert len(queue) == 2


async def test_what_cannot_be_in_time_is_refused_at_once() -> None:
    queue = BatchQueue(max_entries=10, max_batch_tokens=100)
    queue.admit([entry(tokens=100, deadline=10.0)], 0.0)
    assert len(queue.next_batch(0.0)) == 1
    queue.finished(1.0)  # a hundredth of a second per token
    queue.admit([entry(tokens=100, deadline=10.0)], 1.0)
    assert queue.wait(1.0) == pytest.approx(1.0)
    with pytest.raises(DeadlineExceeded, match="the texts ahead will take about 1000 ms"):
        queue.admit([entry(tokens=10, deadline=2.2)], 1.0)
    queue.admit([entry(tokens=10, deadline=2.5)], 1.0)


async def test_one_batch_that_was_held_up_says_nothing_about_the_next() -> None:
    queue = BatchQueue(max_entries=10, max_batch_tokens=100)
    for seconds in (1.0, 1.1, 50.0, 0.9):
        queue.admit([entry(tokens=100, deadline=1e9)], 0.0)
        queue.next_batch(0.0)
        queue.finished(seconds)
    queue.admit([entry(tokens=100, deadline=1e9)], 0.0)
    assert queue.wait(0.0) == pytest.approx(1.05)


async def test_the_running_batch_counts_for_what_is_left_of_it() -> None:
    queue = BatchQueue(max_entries=10, max_batch_tokens=1000)
    queue.admit([entry(tokens=1000)], 0.0)
    queue.next_batch(0.0)
    assert queue.wait(0.0) > queue.wait(0.05) > 0
    assert queue.wait(10.0) == 0


async def test_an_idle_queue_always_tries_so_that_a_bad_estimate_mends_itself() -> None:
    queue = BatchQueue(max_entries=10, max_batch_tokens=100)
    queue.admit([entry(deadline=1e9)], 0.0)
    queue.next_batch(0.0)
    queue.finished(1e6)
    queue.admit([entry(deadline=1.001)], 1.0)
    assert len(queue.next_batch(1.0)) == 1


async def test_what_would_be_late_when_done_gives_way_to_what_is_not_but_never_to_nothing() -> None:
    queue = BatchQueue(max_entries=10, max_batch_tokens=100)
    queue.admit([entry(deadline=1e9)], 0.0)
    queue.next_batch(0.0)
    queue.finished(0.5)  # a twentieth of a second per token
    late, patient = entry(tokens=100, deadline=1.5), entry(tokens=100, deadline=9.0)
    queue.admit([late, patient], 0.0)
    assert queue.next_batch(1.0) == [patient]
    with pytest.raises(DeadlineExceeded):
        late.future.result()
    alone = entry(tokens=100, deadline=2.5)
    queue.finished(1.0)
    queue.admit([alone], 2.0)
    assert queue.next_batch(2.0) == [alone]


@pytest.mark.parametrize("rate", [50, 100, 150, 300, 1000])
async def test_under_any_load_work_in_time_is_done_and_hardly_anybody_waits_in_vain(rate: int) -> None:
    """A worker of 140 texts per second, give or take, that is asked `rate` times a second for estimates within 250 ms."""
    draw = random.Random(rate)
    queue = BatchQueue(max_entries=512, max_batch_tokens=128)
    arrivals = list(itertools.accumulate(draw.expovariate(rate) for _ in range(2000)))
    in_time = refused = 0
    free = took = 0.0
    running: list[Entry] = []
    waiting: list[Entry] = []

    def work_until(now: float) -> None:
        nonlocal free, took, in_time, running
        while free <= now:
            if running:
                queue.finished(took)
                in_time += sum(free <= each.deadline for each in running)
            running = queue.next_batch(free)
            if not running:
                return
            took = sum(draw.uniform(0.7, 1.3) / 140 for _ in running)
            free += took

    for now in arrivals:
        work_until(now)
        free = free if running else now
        waiting.append(entry(tokens=draw.randint(100, 156), deadline=now + 0.25))
        try:
            queue.admit(waiting[-1:], now)
        except DeadlineExceeded:
            refused += 1
        work_until(now)
    work_until(float("inf"))
    in_vain = len(arrivals) - in_time - refused
    assert in_vain <= 0.01 * len(arrivals)
    assert in_time >= 0.97 * min(len(arrivals), 140 * arrivals[-1])


async def test_all_that_waits_can_be_failed() -> None:
    queue = BatchQueue(max_entries=10, max_batch_tokens=100)
    first, second = entry(), entry()
    queue.admit([first, second], 0.0)
    first.future.cancel()
    queue.fail_all(ScoringError("closed"))
    assert len(queue) == 0
    with pytest.raises(ScoringError, match="closed"):
        second.future.result()


def test_tokens_are_guessed_from_characters_within_bounds() -> None:
    assert expected_tokens("") == 2
    assert expected_tokens("x" * 400) == 102
    assert expected_tokens("x" * 10**6) == 256


def test_the_cache_forgets_what_was_used_longest_ago() -> None:
    cache: LruCache[str, int] = LruCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c"), len(cache)) == (1, None, 3, 2)


def fed(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


async def test_frames_are_read_one_by_one_until_the_end() -> None:
    reader = fed(encode_frame({"id": 1, "text": "ü\ud800🙂"}) + encode_frame({"id": 2}))
    assert await read_frame(reader) == {"id": 1, "text": "ü\ud800🙂"}
    assert await read_frame(reader) == {"id": 2}
    assert await read_frame(reader) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x00\x00", "ended inside a frame"),
        (b"\x00\x00\x00\x09{}", "cut off"),
        (b"\x00\x00\x00\x02{]", "not JSON"),
        (b"\x00\x00\x00\x02[]", "not a JSON object"),
        (b"\xff\xff\xff\xff", "is larger than"),
        (b"GET / HTTP/1.1\r\n", "is larger than"),
        (b"\x00\x01\x86\xa0" + b"[" * 100_000, "not JSON"),
    ],
)
async def test_what_is_no_frame_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(BadFrame, match=message):
        await read_frame(fed(data))


def test_a_frame_has_a_limit() -> None:
    with pytest.raises(BadFrame, match="is larger than"):
        encode_frame({"text": "x" * MAX_FRAME_BYTES})


def test_requests_results_and_errors_survive_the_wire() -> None:
    request = ScoreRequest("sha256:1", ("one", "two"), ("a", "b"), 0.25)
    assert parse_request({**request_message(request), "texts": ["one", "two"], "models": ["a", "b"]}) == request
    estimates = tuple(Estimate(model, 0.1, 1 / 3, 100.0, 5.5, 1e6, 80.5) for model in ("a", "b"))
    result = ScoreResult((estimates, estimates))
    assert parse_result(result_message(result), ("a", "b")) == result
    for error in (ScoringError, DeadlineExceeded, ArtifactNotLoaded, ModelNotInArtifact, ScorerOverloaded):
        assert type(parse_error(error_message(error("why")))) is error
        assert str(parse_error(error_message(error("why")))) == "why"
    assert type(parse_error({"reason": "FromTheFuture"})) is ScoringError


@pytest.mark.parametrize(
    "change",
    [
        {"texts": "one"},
        {"texts": [1]},
        {"models": None},
        {"artifact_digest": 1},
        {"deadline_seconds": "soon"},
        {"deadline_seconds": -1.0},
    ],
)
def test_a_bad_request_is_refused(change: dict[str, object]) -> None:
    message = {"artifact_digest": "d", "texts": ["one"], "models": ["a"], "deadline_seconds": 1.0}
    with pytest.raises(BadFrame):
        parse_request(message | change)


@pytest.mark.parametrize("estimates", [None, [[[1, 2]]], [[["a", 1, 1, 1, 1]]], [[]]])
def test_a_bad_result_is_refused(estimates: object) -> None:
    with pytest.raises(BadFrame):
        parse_result({"estimates": estimates}, ("a",))

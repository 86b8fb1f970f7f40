"""The benchmark's upstream and load generator: what they report is what happened."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.bench.places import Mock, built_wire, load, mock, ran, shown, wire_command

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def wire() -> Path:
    return built_wire()


@pytest.fixture
def upstream(wire: Path, tmp_path: Path) -> Iterator[Mock]:
    with mock(wire, tmp_path) as running:
        yield running


def test_requests_and_answers_have_the_size_that_is_asked_for(wire: Path, upstream: Mock) -> None:
    upstream.set(answer=2048)
    answer = json.loads(shown(wire, upstream.address, size=2048))
    assert answer["choices"][0]["message"]["content"].startswith("The quick brown fox")
    assert 2040 <= len(shown(wire, upstream.address)) <= 2048
    report = load(wire, upstream.address, requests=20, warm_up=5, concurrency=3, size=2048)
    assert (report["requests"], report["warm_up_requests"], report["refused"]) == (20, 5, 0)


def test_latency_counts_from_the_intended_time_of_a_request(wire: Path, upstream: Mock) -> None:
    upstream.set(delay="50ms")
    # One connection answers twenty a second; of a hundred a second, the last waits for all before it.
    late = load(wire, upstream.address, rate=100, requests=20, concurrency=1, warm_up=0)
    assert late["latency_p50_ms"] >= 300
    closed = load(wire, upstream.address, requests=5, concurrency=1, warm_up=0)
    assert closed["latency_p50_ms"] >= 50
    assert closed["latency_p50_ms"] < late["latency_p50_ms"]


def test_a_stream_has_its_chunks_in_time(wire: Path, upstream: Mock) -> None:
    upstream.set(chunks=5, gap="10ms", delay="5ms")
    streamed = shown(wire, upstream.address, stream=True).decode()
    assert streamed.count('"content":"word ') == 5
    assert streamed.endswith("data: [DONE]\n\n")
    report = load(wire, upstream.address, stream=True, requests=3, warm_up=0)
    assert report["first_byte_p50_ms"] >= 5
    assert report["latency_p50_ms"] >= report["first_byte_p50_ms"] + 35


def test_connections_begin_evenly_over_the_spread(wire: Path, upstream: Mock) -> None:
    upstream.set(delay="400ms")
    # The last of five connections begins when four fifths have passed, before the first one could ask again.
    report = load(wire, upstream.address, requests=5, concurrency=5, warm_up=5, spread="250ms")
    assert report["requests"] == 5
    assert report["seconds"] >= 0.6
    with pytest.raises(SystemExit, match="exclude each other"):
        load(wire, upstream.address, requests=5, rate=10, spread="250ms")


def test_a_run_ends_where_nobody_listens_or_an_answer_is_wrong(wire: Path, upstream: Mock) -> None:
    with pytest.raises(SystemExit, match="the load generator failed"):
        load(wire, "127.0.0.1:9", requests=1)
    with pytest.raises(SystemExit, match="lacks"):
        load(wire, upstream.address, requests=3, expect="what it never says")


def test_the_upstream_sees_when_clients_leave(wire: Path, upstream: Mock) -> None:
    for after, delay in ((False, "60s"), (True, "0s")):
        upstream.set(chunks=1, hold=True, delay=delay)
        flags = {"count": 6, "upstream": upstream.address, "after_first": after, "patience": "500ms"}
        report = json.loads(ran(wire, "cancel", upstream.address, flags))
        assert (report["left"], report["seen"]) == (6, 6)
        assert 0 <= report["p50_ms"] <= report["p99_ms"]


def test_streams_are_held_until_told(wire: Path, upstream: Mock) -> None:
    upstream.set(chunks=1, hold=True)
    command = wire_command(wire, "hold", upstream.address, {"streams": 20})
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"20\n"
        process.stdin.close()
        assert process.wait(timeout=30) == 0

"""Server-sent events do not depend on where the chunks of a stream are cut."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from foresail_sidecar.protocols.openai.sse import Event, EventReader

PIECES = st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"data: a", b"data:b", b"event: error", b": ping", b"{}"])


def events_of(chunks: Sequence[bytes]) -> tuple[list[Event], Event | None]:
    reader = EventReader()
    events = [event for chunk in chunks for event in reader.feed(chunk)]
    return events, reader.finish()


@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_one_chunk_gives_what_single_bytes_give(stream: bytes) -> None:
    assert events_of([stream]) == events_of([bytes([byte]) for byte in stream])


@given(st.lists(st.lists(PIECES, max_size=4).map(b"".join), max_size=4))
def test_any_chunks_give_what_one_gives(chunks: list[bytes]) -> None:
    assert events_of(chunks) == events_of([b"".join(chunks)])

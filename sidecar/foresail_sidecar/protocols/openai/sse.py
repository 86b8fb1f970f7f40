"""Server-sent events out of a byte stream, each with its exact bytes. Bounded, and indifferent to where the chunks are cut.

It must not know what the events mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

MOST_EVENT_BYTES = 1 << 20

# An event ends with an empty line. `(?>` keeps a CR LF from being read as two line ends.
_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_LONGEST_END = 4
_DATA = b"data: "
_EMPTY_LINE = b"\n\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


# One event: its bytes with the empty line, its joined data, and its name. Comments alone give empty data; it is None for a piece of an
# event that is too large to be held, which can be relayed but not read. A bare tuple, because there is one for every few bytes.
Event = tuple[bytes, bytes | None, bytes]


class EventReader:
    """Cuts a byte stream into events. Holds at most one event of up to a mebibyte, plus the chunk that completes it."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._oversized = False

    @property
    def inside_event(self) -> bool:
        """Whether an event that was relayed in part has not ended."""
        return self._oversized

    def feed(self, chunk: bytes) -> Iterable[Event]:
        """Return the events that the chunk completes, to be iterated over before the next chunk."""
        if not self._buffer and chunk.endswith(_EMPTY_LINE) and b"\r" not in chunk:
            if chunk.find(b"\n") == len(chunk) - len(_EMPTY_LINE) and chunk.startswith(_DATA):
                # One event with one line of data, which is what nearly every chunk is.
                return ((chunk, chunk[len(_DATA) : -len(_EMPTY_LINE)], b""),)
            *events, rest = chunk.split(_EMPTY_LINE)
            if not rest:
                return [_of_lines(lines) for lines in events]
        return self._cut(chunk)

    def _cut(self, chunk: bytes) -> Iterator[Event]:
        self._buffer += chunk
        start = 0
        while match := _END.search(self._buffer, max(start, self._searched)):
            if match.end() == len(self._buffer) and self._buffer[-1:] == b"\r":
                break  # a LF that belongs to this end may follow
            raw = bytes(self._buffer[start : match.end()])
            start = self._searched = match.end()
            yield (raw, None, b"") if self._oversized else read_event(raw)
            self._oversized = False
        del self._buffer[:start]
        self._searched = max(0, len(self._buffer) - _LONGEST_END)
        if len(self._buffer) > MOST_EVENT_BYTES:
            keep = _LONGEST_END
            self._oversized = True
            yield (bytes(self._buffer[:-keep]), None, b"")
            del self._buffer[:-keep]
            self._searched = 0

    def finish(self) -> Event | None:
        """Return what is left of a stream that ended without an empty line."""
        raw = bytes(self._buffer)
        self._buffer.clear()
        if not raw:
            return None
        return (raw, None, b"") if self._oversized else read_event(raw)


def _of_lines(lines: bytes) -> Event:
    """Return the event of lines that end with line feeds, and lack the empty one."""
    raw = lines + _EMPTY_LINE
    return (raw, lines[len(_DATA) :], b"") if lines.startswith(_DATA) and b"\n" not in lines else read_event(raw)


def read_event(raw: bytes) -> Event:
    """Return the event of those bytes."""
    data, name = [], b""
    for line in _LINE_END.split(raw.removeprefix(_BYTE_ORDER_MARK)):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return (raw, b"\n".join(data), name)

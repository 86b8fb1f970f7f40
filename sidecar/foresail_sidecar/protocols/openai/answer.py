"""Reads the answers of chat completions, whole or streamed: what to relay, what was used, how it ended. No I/O, never raises.

It must not know prices, connections, or which request it answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import orjson

from foresail_router.decision.counts import TokenCounts
from foresail_sidecar.protocols.answers import AnswerMachine, Ending, EndingKind
from foresail_sidecar.protocols.openai.bodies import error_in
from foresail_sidecar.protocols.openai.sse import EventReader
from foresail_sidecar.protocols.openai.usage import usage_in

MOST_BODY_BYTES: Final = 32 << 20
_DONE = b"[DONE]"
_NOT_GENERATED = frozenset({"role", "id", "type", "index"})


def answer_machine(*, stream: bool, wants_usage: bool, choices: int = 1) -> AnswerMachine:
    """Return the machine for one answer of so many choices: `stream` if the upstream sends events, `wants_usage` if the client asked
    for usage on them.
    """
    return StreamedAnswer(wants_usage, choices) if stream else WholeAnswer()


class WholeAnswer:
    """A JSON answer. It is held until its end, because its headers state what it cost; beyond 32 MiB it counts as cut."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._bytes = 0
        self._too_large = False
        self.usage: TokenCounts | None = None
        self.started = False
        self.output_bytes = 0
        self.error: str | None = None

    def feed(self, chunk: bytes) -> list[bytes]:
        """Keep the bytes; nothing is relayed before the end."""
        if self._bytes + len(chunk) > MOST_BODY_BYTES:
            self._too_large = True
        else:
            self._bytes += len(chunk)
            self._chunks.append(chunk)
        self.started = self.started or bool(chunk)
        return []

    def finish(self) -> Ending:
        """Return the whole body as the rest, if it is one JSON object."""
        body = b"".join(self._chunks)
        value = None if self._too_large else _json(body)
        if not isinstance(value, dict):
            return Ending(EndingKind.CUT, b"")
        self.usage = usage_in(value)
        error = error_in(value)
        if error is not None:
            self.error = error.message
            return Ending(EndingKind.ERROR, body, error.message)
        try:
            self.output_bytes = sum(_generated_bytes(choice.get("message")) for choice in _choices(value))
        except RecursionError:
            # Nobody can read that deep, and yet it came.
            self.output_bytes = len(body)
        return Ending(EndingKind.COMPLETE, body)


class StreamedAnswer:
    """A stream of events, relayed event by event as their bytes came; the usage event only if the client asked for it."""

    def __init__(self, wants_usage: bool, choices: int) -> None:
        self._wants_usage = wants_usage
        self._choices = choices
        self._events = EventReader()
        self._done = False
        self._finished: dict[int, bool] = {}
        self.usage: TokenCounts | None = None
        self.started = False
        self.output_bytes = 0
        self.error: str | None = None

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the bytes of the events that the chunk completes."""
        relayed = []
        for raw, data, name in self._events.feed(chunk):
            if kept := self._take(raw, data, name):
                relayed.append(kept)
        return relayed

    def finish(self) -> Ending:
        """Say how the stream ended. What is left of an event that was cut is not relayed, so that it cannot pass for one."""
        inside = self._events.inside_event
        raw, data, name = self._events.finish() or (b"", b"", b"")
        rest = b""
        if inside or (data and _is_whole(data)):
            rest = self._take(raw, data, name)
        else:
            # Nobody can read it, and yet it came.
            self.output_bytes += len(raw)
        # Of several choices, those to come may not have begun.
        closed = len(self._finished) >= self._choices and all(self._finished.values())
        if self.error is None and (self._done or closed):
            return Ending(EndingKind.COMPLETE, rest)
        kind = EndingKind.CUT if self.error is None else EndingKind.ERROR
        return Ending(kind, rest + b"\n\n" if rest or inside else b"", self.error)

    def _take(self, raw: bytes, data: bytes | None, name: bytes) -> bytes:
        if self.error is not None:
            return b""  # what follows an error could make the answer look whole
        if not data:
            if data is None:
                self.started = True
                self.output_bytes += len(raw)
                self.usage = None
            return raw
        if data.strip() == _DONE:
            self._done = True
            return raw
        value = _json(data)
        if not isinstance(value, dict):
            self.output_bytes += len(data)
            return raw
        error = error_in(value)
        if error is not None or name == b"error":
            # Nothing of it is relayed: its words can hold what clients must not learn.
            self.error = error.message if error else "the upstream sent an error"
            return b""
        choices, before = _choices(value), self.output_bytes
        for choice in choices:
            self._take_choice(choice, data)
        reports = isinstance(value.get("usage"), dict)
        reported = usage_in(value) if reports else None
        # What was reported before this event does not hold what it brings.
        if reported is not None or self.output_bytes > before:
            self.usage = reported
        return b"" if reports and not choices and not self._wants_usage else raw

    def _take_choice(self, choice: Mapping[str, Any], data: bytes) -> None:
        index = choice.get("index", 0)
        index = index if isinstance(index, int) else 0
        self._finished.setdefault(index, False)
        try:
            generated = _generated_bytes(choice.get("delta"))
        except RecursionError:
            # Nobody can read that deep, and yet it came.
            generated = len(data)
        self.output_bytes += generated
        self.started = self.started or generated > 0
        if choice.get("finish_reason") is not None:
            self._finished[index] = True


def _is_whole(data: bytes) -> bool:
    return data.strip() == _DONE or isinstance(_json(data), dict)


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    # Some servers write what is not quite JSON, such as NaN, and their clients read it.
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _choices(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    choices = value.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _generated_bytes(part: Any) -> int:
    """Return the UTF-8 bytes of all generated text in a message or a delta of one."""
    if isinstance(part, str):
        return len(part) if part.isascii() else len(part.encode("utf-8", "surrogatepass"))
    if isinstance(part, list):
        return sum(map(_generated_bytes, part))
    if isinstance(part, dict):
        total = 0
        for name, value in part.items():
            if name not in _NOT_GENERATED:
                total += len(value) if type(value) is str and value.isascii() else _generated_bytes(value)
        return total
    return 0

"""What crosses the socket to a scoring process: frames, and how requests, results and errors become plain JSON and back.

A frame is four bytes of length, big-endian, and so many bytes of JSON. It must not know connections or scorers.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields
from operator import attrgetter
from typing import Any

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

_numbers = attrgetter(*[field.name for field in fields(Estimate)][1:])

MAX_FRAME_BYTES = 16 * 2**20
_HEADER_BYTES = 4
_BODY_SECONDS = 30.0
_ERRORS: dict[str, type[ScoringError]] = {
    error.reason: error
    for error in (ScoringError, DeadlineExceeded, ArtifactNotLoaded, ModelNotInArtifact, ScorerOverloaded)
}
Message = dict[str, Any]


class BadFrame(Exception):
    """The other side does not speak this protocol, or said too much at once."""


def encode_frame(message: Message) -> bytes:
    """Return a message as a frame; raises `BadFrame` when it is too large."""
    body = json.dumps(message, separators=(",", ":"), allow_nan=False).encode("ascii")
    if len(body) > MAX_FRAME_BYTES:
        raise BadFrame(f"a message of {len(body)} bytes is larger than {MAX_FRAME_BYTES}")
    return len(body).to_bytes(_HEADER_BYTES, "big") + body


async def read_frame(reader: asyncio.StreamReader) -> Message | None:
    """Return the next message, or None at the end; waits for its start as long as it takes, for the rest a bounded time.

    Raises `BadFrame`.
    """
    try:
        header = await reader.readexactly(_HEADER_BYTES)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise BadFrame("the connection ended inside a frame") from error
        return None
    size = int.from_bytes(header, "big")
    if size > MAX_FRAME_BYTES:
        raise BadFrame(f"a message of {size} bytes is larger than {MAX_FRAME_BYTES}")
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            message = json.loads(await reader.readexactly(size))
    except (asyncio.IncompleteReadError, TimeoutError, ValueError, RecursionError) as error:
        raise BadFrame("a frame is cut off or is not JSON") from error
    if not isinstance(message, dict):
        raise BadFrame("a frame is not a JSON object")
    return message


def request_message(request: ScoreRequest) -> Message:
    """Return a request as plain data."""
    return {
        "operation": "score",
        "artifact_digest": request.artifact_digest,
        "texts": request.texts,
        "models": request.models,
        "deadline_seconds": request.deadline_seconds,
    }


def parse_request(message: Message) -> ScoreRequest:
    """Return the request of a message; raises `BadFrame`."""
    try:
        digest, texts, models = message["artifact_digest"], message["texts"], message["models"]
        seconds = float(message["deadline_seconds"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadFrame("a request lacks a field") from error
    if not isinstance(digest, str) or not _strings(texts) or not _strings(models) or not 0 <= seconds <= 3600:
        raise BadFrame("a request has a field of the wrong type")
    return ScoreRequest(digest, tuple(texts), tuple(models), seconds)


def result_message(result: ScoreResult) -> Message:
    """Return a result as plain data: per text and model six numbers, the models being those of the request in order."""
    return {"estimates": [[_numbers(estimate) for estimate in estimates] for estimates in result.estimates]}


def parse_result(message: Message, models: tuple[str, ...]) -> ScoreResult:
    """Return the result of a message; raises `BadFrame`."""
    try:
        return ScoreResult(
            tuple(
                tuple(Estimate(model, *map(float, numbers)) for model, numbers in zip(models, row, strict=True))
                for row in message["estimates"]
            )
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadFrame("a result lacks estimates") from error


def error_message(error: ScoringError) -> Message:
    """Return an error as plain data."""
    return {"reason": error.reason, "message": str(error)}


def parse_error(message: Message) -> ScoringError:
    """Return the error of a message, of the class that was raised on the other side."""
    return _ERRORS.get(str(message.get("reason")), ScoringError)(str(message.get("message", "")))


def _strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)

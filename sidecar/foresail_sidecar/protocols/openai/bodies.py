"""Bodies that Foresail itself writes or reads apart from answers: errors in OpenAI's shape, their stream event, the list of models.

It must not know status codes, nor what went wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

# Longer ones are shortened where they are redacted, or a credential that is cut in two would not be known again.
_LONGEST_MESSAGE = 64 * 1024


@dataclass(frozen=True, slots=True)
class UpstreamError:
    """An error body of an upstream: what OpenAI's error shape needs of it, in its own words."""

    message: str
    type: str | None = None
    param: str | None = None
    code: str | None = None


def error_body(
    message: str,
    type: str,  # noqa: A002  OpenAI's name
    param: str | None,
    code: str | None,
    details: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """Return an error in OpenAI's shape, with further fields that its clients may ignore."""
    error = {"message": message, "type": type, "param": param, "code": code, **details}
    return json.dumps({"error": error}).encode()


def error_event(message: str, type: str, code: str | None) -> bytes:  # noqa: A002  OpenAI's name
    """Return the server-sent event on which OpenAI's SDK raises: how a broken stream ends instead of seeming complete."""
    return b"data: " + error_body(message, type, None, code) + b"\n\n"


def models_body(names: Iterable[str]) -> bytes:
    """Return the list of models, as `GET /v1/models` answers it."""
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "foresail"} for name in names]
    return json.dumps({"object": "list", "data": models}).encode()


def read_error(body: bytes) -> UpstreamError:
    """Return what an upstream's error body says, in any of the shapes that servers use; never raises."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return UpstreamError(_in_one_line(body.decode("utf-8", "replace")))
    error = error_in(value)
    if error is None and isinstance(value, dict):
        error = _fields(value)
    return error or UpstreamError(_in_one_line(json.dumps(value, ensure_ascii=False)))


def error_in(value: Any) -> UpstreamError | None:
    """Return the error that a decoded body or event holds, or None if it is none."""
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if isinstance(error, dict):
        return _fields(error)
    if error:
        return UpstreamError(_in_one_line(str(error)))
    if value.get("object") == "error":
        return _fields(value)
    return None


def _fields(error: Mapping[str, Any]) -> UpstreamError:
    message = next((error[name] for name in ("message", "detail") if isinstance(error.get(name), str)), "")
    kind, param, code = (error.get(name) for name in ("type", "param", "code"))
    return UpstreamError(
        _in_one_line(message or "the upstream gave no message"),
        kind if isinstance(kind, str) else None,
        param if isinstance(param, str) else None,
        str(code) if isinstance(code, str | int) else None,
    )


def _in_one_line(message: str) -> str:
    return " ".join(message[:_LONGEST_MESSAGE].split())

"""Which parts of a message are media that the request itself holds, so that the pool can say what one of them becomes at most.

Whatever is elsewhere, or has settings that could make more of it, is not. It must not know prices, nor how many tokens a part has.
"""

from __future__ import annotations

from typing import Any

_IMAGE_URL = "data:image/"
_IMAGE_FIELDS = frozenset({"url", "detail"})
_AUDIO_FIELDS = frozenset({"data", "format"})


def is_held_image(part: dict[str, Any]) -> bool:
    """Return whether a part is one image in a `data:` URL."""
    image = _only(part, "image_url", _IMAGE_FIELDS)
    url = None if image is None else image.get("url")
    return isinstance(url, str) and url.startswith(_IMAGE_URL)


def is_held_audio(part: dict[str, Any]) -> bool:
    """Return whether a part is one piece of audio in base64."""
    audio = _only(part, "input_audio", _AUDIO_FIELDS)
    data = None if audio is None else audio.get("data")
    # Some servers take a URL here; base64 has no colon and no dot.
    return isinstance(data, str) and data.isascii() and ":" not in data and "." not in data


def _only(part: dict[str, Any], kind: str, known: frozenset[str]) -> dict[str, Any] | None:
    """Return what a part of that kind holds, if it and the part have no other fields than these."""
    held = part.get(kind)
    if part.get("type") != kind or len(part) != 2 or not isinstance(held, dict) or not held.keys() <= known:
        return None
    return held

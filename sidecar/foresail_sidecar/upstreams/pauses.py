"""How long an upstream asks to be left alone. It must not know what becomes of that."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_HEADER = "Retry-After"


def retry_after_seconds(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return what `Retry-After` asks for, as seconds or as a date; None where it is absent or says neither.

    `now` is in seconds of the Unix epoch.
    """
    value = headers.get(_HEADER, "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - (time.time() if now is None else now))

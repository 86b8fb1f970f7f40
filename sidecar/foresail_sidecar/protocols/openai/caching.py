"""Marks in a request that say up to where an upstream should keep the prompt in its cache.

Owns the form that has a bound: what is written to a cache costs no more than the dearest price of an input token, which every bound counts
with. It must not know prices.
"""

from __future__ import annotations

from typing import Any, Final

CACHE_MARK: Final = "cache_control"
_MARK_FIELDS: Final = frozenset({"type", "ttl"})
_TIMES: Final = ("5m", "1h")


def is_cache_mark(value: Any) -> bool:
    """Return whether a value is such a mark, for a short time or a long one, or null."""
    if value is None:
        return True
    if not isinstance(value, dict) or not value.keys() <= _MARK_FIELDS or value.get("type") != "ephemeral":
        return False
    return value.get("ttl", _TIMES[0]) in _TIMES

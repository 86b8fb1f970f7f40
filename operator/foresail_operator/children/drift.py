"""Whether a live object still says what was applied: everything that is wanted is there, whatever else others added.

Owns the comparison. It must not know any kind of object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_ITEM_KEYS: Final = ("uid", "name", "key", "type")


def says(live: Any, wanted: Any) -> bool:
    """Return whether `live` holds all of `wanted`: mappings key by key, lists of items with a key of their own by that key, all else by equality."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(key in live and says(live[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return isinstance(live, list) and _list_says(live, wanted)
    return bool(live == wanted)


def _list_says(live: list[Any], wanted: list[Any]) -> bool:
    for key in _ITEM_KEYS:
        if wanted and all(isinstance(item, Mapping) and key in item for item in wanted):
            found = {item.get(key): item for item in live if isinstance(item, Mapping)}
            return all(says(found.get(item[key]), item) for item in wanted)
    return len(live) == len(wanted) and all(map(says, live, wanted))

"""Whether the indices still tell the truth: a deletion that fell into a gap of the watch is never delivered later.

Owns the comparison with what the API server lists. It must not know what the objects are for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from foresail_operator.api import Api
from foresail_operator.names import CHILD_SELECTOR
from foresail_operator.resources import CHILDREN, MODEL_POOL, ROUTING_POLICY, Key, Version
from foresail_operator.watching import Indices

# Longer than any event takes to arrive, so that only what will never arrive is left.
GRACE_SECONDS: Final = 30.0


class StaleIndices(Exception):
    """What was seen of some objects is no longer true; only a new start lists them anew."""


async def check_indices(
    api: Api, indices: Indices, namespaces: tuple[str, ...], *, grace_seconds: float = GRACE_SECONDS
) -> None:
    """Raise StaleIndices if an object differs from what was seen of it, and still does after a while without any news."""
    before = differing(indices.versions(), await _stored(api, namespaces))
    if not before:
        return
    await asyncio.sleep(grace_seconds)
    after = differing(indices.versions(), await _stored(api, namespaces))
    stuck = sorted(str(key) for key in before.keys() & after.keys() if before[key] == after[key])
    if stuck:
        raise StaleIndices(f"the watch has missed changes of {', '.join(stuck[:5])}; a new start lists everything anew")


def differing(seen: Mapping[Key, Version], stored: Mapping[Key, Version]) -> dict[Key, Version | None]:
    """Return what was seen of each object that is not stored so: None where it was not seen at all."""
    return {key: seen.get(key) for key in seen.keys() | stored.keys() if seen.get(key) != stored.get(key)}


async def _stored(api: Api, namespaces: tuple[str, ...]) -> dict[Key, Version]:
    stored: dict[Key, Version] = {}
    for namespace in namespaces or (None,):
        for resource in (MODEL_POOL, ROUTING_POLICY):
            stored |= await api.versions(resource, namespace)
        for resource in CHILDREN:
            stored |= await api.versions(resource, namespace, labels=CHILD_SELECTOR)
    return stored

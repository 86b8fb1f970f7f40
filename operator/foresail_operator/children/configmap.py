"""The ConfigMap: carries the snapshot to the pods, which read it anew whenever it changes.

Owns where the snapshot is kept and its sequence number. It must not know what a snapshot holds.
"""

from __future__ import annotations

from typing import Any, Final

from foresail_api.errors import UserError
from foresail_api.snapshot import SnapshotEnvelope, read_envelope
from foresail_operator.children.base import PolicyName, child_manifest
from foresail_operator.observation import Child
from foresail_operator.resources import CONFIG_MAP

SNAPSHOT_FILE: Final = "snapshot.json"


def config_map(policy: PolicyName, envelope: SnapshotEnvelope) -> dict[str, Any]:
    """Return the manifest of the ConfigMap that hands `envelope` to the pods."""
    return child_manifest(CONFIG_MAP, policy, {"data": {SNAPSHOT_FILE: envelope.to_json()}})


def held_envelope(live: Child | None) -> SnapshotEnvelope | None:
    """Return what a live ConfigMap hands to the pods; None if there is none that could be read."""
    text = None if live is None else (live.manifest.get("data") or {}).get(SNAPSHOT_FILE)
    if text is None:
        return None
    try:
        return read_envelope(text, SNAPSHOT_FILE)
    except UserError:
        return None

"""What all children have in common: who owns them, their labels, and a digest of what was applied.

It must not know any one kind of child.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foresail_api.common import API_VERSION
from foresail_operator.names import DIGEST_ANNOTATION, child_labels, child_name
from foresail_operator.resources import ROUTING_POLICY, Resource


@dataclass(frozen=True, slots=True)
class PolicyName:
    """The policy that children belong to."""

    namespace: str
    name: str
    uid: str


def child_manifest(resource: Resource, policy: PolicyName, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of a child with that content (`data` or `spec`).

    Its annotation holds a digest of all the rest, so that a field that is no longer wanted shows too. The owner reference
    does not block the policy's deletion: that would need a right on its finalizers.
    """
    manifest: dict[str, Any] = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": child_name(policy.name),
            "namespace": policy.namespace,
            "labels": child_labels(policy.name),
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": ROUTING_POLICY.kind,
                    "name": policy.name,
                    "uid": policy.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        **content,
    }
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    manifest["metadata"]["annotations"] = {DIGEST_ANNOTATION: digest}
    return manifest

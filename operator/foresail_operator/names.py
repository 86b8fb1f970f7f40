"""Names that the operator gives: its field manager, the labels of what it makes, and what a policy's children are called.

Owns the words. It must not know what a child holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from foresail_api.common import GROUP

FIELD_MANAGER: Final = "foresail-operator"
POLICY_LABEL: Final = f"{GROUP}/policy"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
CHILD_SELECTOR: Final = f"{MANAGED_BY_LABEL}={FIELD_MANAGER},{POLICY_LABEL}"
DIGEST_ANNOTATION: Final = f"{GROUP}/manifest-digest"


def child_name(policy: str) -> str:
    """Return the name that all children of a policy share."""
    return f"{policy}-foresail"


def selector_labels(policy: str) -> dict[str, str]:
    """Return the labels that tell a policy's pods from all others. They can never change: a Deployment's selector cannot."""
    return {"app.kubernetes.io/name": "foresail", POLICY_LABEL: policy}


def child_labels(policy: str) -> dict[str, str]:
    """Return the labels of a policy's children."""
    return {
        **selector_labels(policy),
        "app.kubernetes.io/component": "router",
        "app.kubernetes.io/part-of": "foresail",
        MANAGED_BY_LABEL: FIELD_MANAGER,
    }


def policy_of(labels: Mapping[str, str]) -> str | None:
    """Return the policy that an object with these labels belongs to, if to any."""
    return labels.get(POLICY_LABEL) if labels.get(MANAGED_BY_LABEL) == FIELD_MANAGER else None

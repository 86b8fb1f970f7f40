"""The rights that the operator needs on the Kubernetes API, and no others: the chart grants them, start-up checks them.

Owns the list. It must not know how a right is granted.
"""

from __future__ import annotations

from dataclasses import dataclass

from foresail_api.common import GROUP


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a ClusterRole (or of a Role per namespace): a group, its resources and what is done with them."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]

    def manifest(self) -> dict[str, list[str]]:
        """Return the rule as an item of a ClusterRole's `rules`."""
        return {"apiGroups": [self.group], "resources": list(self.resources), "verbs": list(self.verbs)}


RULES = (
    Rule(GROUP, ("modelpools", "routingpolicies"), ("list", "watch")),
    Rule(GROUP, ("modelpools/status", "routingpolicies/status"), ("patch",)),
    Rule("", ("configmaps", "services"), ("get", "list", "watch", "create", "patch")),
    Rule("apps", ("deployments",), ("get", "list", "watch", "create", "patch")),
    Rule("", ("events",), ("create",)),
)

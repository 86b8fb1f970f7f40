"""The kinds that the operator reads and writes, and their paths on the API server.

Owns where a kind is found. It must not know what is done with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from foresail_api.common import API_VERSION


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of namespaced object."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """Return the path of one object, or of all objects in a namespace, or in all."""
        root = "/apis/" if "/" in self.api_version else "/api/"
        scope = "" if namespace is None else f"namespaces/{namespace}/"
        collection = f"{root}{self.api_version}/{scope}{self.plural}"
        return collection if name is None else f"{collection}/{name}"


MODEL_POOL: Final = Resource(API_VERSION, "ModelPool", "modelpools")
ROUTING_POLICY: Final = Resource(API_VERSION, "RoutingPolicy", "routingpolicies")
CONFIG_MAP: Final = Resource("v1", "ConfigMap", "configmaps")
SERVICE: Final = Resource("v1", "Service", "services")
DEPLOYMENT: Final = Resource("apps/v1", "Deployment", "deployments")
EVENT: Final = Resource("v1", "Event", "events")

# In the order in which they are written: what a pod mounts comes before the pod.
CHILDREN: Final = (CONFIG_MAP, SERVICE, DEPLOYMENT)


# No object ever has this version, because the store's first revision holds none: applying with it can only create.
MUST_NOT_EXIST: Final = "1"


@dataclass(frozen=True, slots=True)
class Key:
    """Names one object of a kind; what the work queue holds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Version:
    """Which object, and which state of it, stands under a key."""

    uid: str
    resource_version: str

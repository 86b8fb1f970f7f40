"""The Service: the address under which clients of the namespace, and of others, reach a policy's pods.

It must not know what the pods run.
"""

from __future__ import annotations

from typing import Any, Final

from foresail_operator.children.base import PolicyName, child_manifest
from foresail_operator.names import child_name, selector_labels
from foresail_operator.resources import SERVICE

PORT_NAME: Final = "http"


def service(policy: PolicyName) -> dict[str, Any]:
    """Return the manifest of the Service."""
    port = {"name": PORT_NAME, "port": 80, "targetPort": PORT_NAME, "protocol": "TCP", "appProtocol": "http"}
    spec = {"type": "ClusterIP", "selector": selector_labels(policy.name), "ports": [port]}
    return child_manifest(SERVICE, policy, {"spec": spec})


def endpoint(policy: PolicyName) -> str:
    """Return the base URL for OpenAI clients inside of the cluster."""
    return f"http://{child_name(policy.name)}.{policy.namespace}.svc/v1"

"""Small manifests for tests of what is served: a pool of two models and a policy, with what a test wants to be different."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]


def model(name: str, url: str = "http://127.0.0.1:9/v1", *, price: str | None = "1", **changes: Any) -> Object:
    """Return a pool model with one upstream; `secret` (name, key) gives it a credential."""
    upstream: Object = {"name": "main", "url": url}
    if secret := changes.pop("secret", None):
        upstream["auth"] = {"secretRef": {"name": secret[0], "key": secret[1]}}
    read = {"name": name, "upstreams": [upstream], "contextWindowTokens": 8192, "maxOutputTokens": 1024}
    if price is not None:
        read["price"] = {"inputPerMillionTokens": price, "outputPerMillionTokens": price}
    return read | changes


def pool(models: Sequence[Object], name: str = "pool", namespace: str = "default") -> Object:
    """Return a ModelPool."""
    return _object("ModelPool", name, namespace, {"models": list(models)})


def policy(name: str = "policy", namespace: str = "default", **spec: Any) -> Object:
    """Return a RoutingPolicy that lets anybody in and takes the cheapest model."""
    usual = {"poolRef": {"name": "pool"}, "router": {"strategy": "Cheapest"}, "tenants": {"anonymous": "Allow"}}
    return _object("RoutingPolicy", name, namespace, usual | spec)


def secret(values: Mapping[str, str], name: str = "keys", namespace: str = "default") -> Object:
    """Return a Secret."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(values)}


def learned(digest: str, claim: str = "routers", path: str = "router", **router: Any) -> Object:
    """Return the `router` of a policy that asks an artifact on a volume claim."""
    artifact = {"volumeClaim": {"name": claim, "path": path}, "digest": digest}
    return {"strategy": "Learned", "artifact": artifact} | router


def write(path: Path, *objects: Object) -> Path:
    """Write manifests into one file, replacing it in one step."""
    draft = path.with_suffix(".draft")
    draft.write_text(yaml.safe_dump_all(objects, sort_keys=False))
    return draft.replace(path)


def _object(kind: str, name: str, namespace: str, spec: Object) -> Object:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "foresail.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}

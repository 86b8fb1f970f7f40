"""Pools and policies for tests of the operator: small, valid, and changed by keyword."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def pool(name: str = "models", *models: Object, namespace: str = "default") -> Object:
    """A ModelPool; without models it has `small` and `large`."""
    spec = {"models": list(models) or [model("small"), model("large")]}
    return {**_object("ModelPool", name, namespace), "spec": spec}


def model(name: str, *, url: str = "http://127.0.0.1:9/v1", secret: str | None = None, **fields: object) -> Object:
    """A model of a pool with one upstream; `secret` names the Secret of its key `api-key`."""
    auth = {"auth": {"scheme": "Bearer", "secretRef": {"name": secret, "key": "api-key"}}} if secret else {}
    limits = {"contextWindowTokens": 8192, "maxOutputTokens": 1024}
    return {"name": name, "upstreams": [{"name": "main", "url": url, **auth}], **limits, **fields}


def policy(name: str = "chat", *, pool: str = "models", namespace: str = "default", **spec: object) -> Object:
    """A RoutingPolicy with strategy `Cheapest` that admits everybody."""
    default = {"poolRef": {"name": pool}, "router": {"strategy": "Cheapest"}, "tenants": {"anonymous": "Allow"}}
    return {**_object("RoutingPolicy", name, namespace), "spec": {**default, **spec}}


def stored(manifest: Object, *, uid: str = "u-1", version: str = "7", generation: int = 1) -> Object:
    """The object as an API server that has taken it would deliver it."""
    metadata = {"uid": uid, "resourceVersion": version, "generation": generation, **manifest["metadata"]}
    return {**manifest, "metadata": metadata}


def conditions(status: Object) -> dict[str, Object]:
    """The conditions of a status by type."""
    return {condition["type"]: condition for condition in status["conditions"]}


def told(status: Object) -> dict[str, str]:
    """Status and reason of each condition, as in `False PoolNotFound`."""
    return {name: f"{condition['status']} {condition['reason']}" for name, condition in conditions(status).items()}


def _object(kind: str, name: str, namespace: str) -> Object:
    return {"apiVersion": "foresail.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": namespace}}

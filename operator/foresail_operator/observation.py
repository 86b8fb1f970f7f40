"""What the operator saw, as frozen values: pools, policies and children, read once from the objects that a watch delivers.

Owns the translation of raw objects, also of those that the API's models refuse. It must not know what follows from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from foresail_api.manifests import describe
from foresail_api.policy import RoutingPolicy
from foresail_api.pool import ModelPool
from foresail_operator.resources import Resource


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one object, and one version of it, from another."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    deleting: bool


@dataclass(frozen=True, slots=True)
class PoolRecord:
    """A ModelPool: `pool` is None where the models refuse it, and `faults` says why."""

    identity: Identity
    pool: ModelPool | None
    faults: tuple[str, ...]
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """A RoutingPolicy: `policy` is None where the models refuse it, and `faults` says why. `pool_name` is what it asks for."""

    identity: Identity
    policy: RoutingPolicy | None
    pool_name: str
    faults: tuple[str, ...]
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Owner:
    """The object that controls another one."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Child:
    """A live object that has the name of a child; it may be anybody's."""

    identity: Identity
    controller: Owner | None
    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PolicyObservation:
    """All that decides what becomes of one policy. `pool` is None where it does not exist, a child likewise."""

    policy: PolicyRecord
    pool: PoolRecord | None
    children: Mapping[Resource, Child | None]


def pool_record(body: Mapping[str, Any]) -> PoolRecord:
    """Read a ModelPool as the API server holds it."""
    try:
        pool, faults = ModelPool.model_validate(_without_status(body)), ()
    except ValidationError as error:
        return PoolRecord(_identity(body), None, tuple(describe(error)), dict(body.get("status") or {}))
    return PoolRecord(_identity(body), pool, faults, dict(body.get("status") or {}))


def policy_record(body: Mapping[str, Any]) -> PolicyRecord:
    """Read a RoutingPolicy as the API server holds it."""
    pool_name = str(((body.get("spec") or {}).get("poolRef") or {}).get("name", ""))
    status = dict(body.get("status") or {})
    try:
        policy = RoutingPolicy.model_validate(_without_status(body))
    except ValidationError as error:
        return PolicyRecord(_identity(body), None, pool_name, tuple(describe(error)), status)
    return PolicyRecord(_identity(body), policy, pool_name, (), status)


def child(body: Mapping[str, Any]) -> Child:
    """Read any object; of its metadata only what can be compared is kept."""
    metadata = body["metadata"]
    owners = [owner for owner in metadata.get("ownerReferences") or () if owner.get("controller")]
    controller = Owner(owners[0]["kind"], owners[0]["name"], owners[0]["uid"]) if owners else None
    kept = {key: metadata[key] for key in ("labels", "annotations", "ownerReferences") if metadata.get(key)}
    manifest = {key: value for key, value in body.items() if key not in ("apiVersion", "kind", "metadata")}
    return Child(_identity(body), controller, {**manifest, "metadata": kept})


def _identity(body: Mapping[str, Any]) -> Identity:
    metadata = body["metadata"]
    return Identity(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        generation=metadata.get("generation", 0),
        deleting="deletionTimestamp" in metadata,
    )


def _without_status(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != "status"}

"""What should be: from what was seen of a pool, or of a policy with its pool and children, to writes and a status. Pure.

Owns all decisions of the control plane. It must not know Kopf, the client, or when it is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from foresail_api.compile import Compilation, Problem, Target, compile_policy
from foresail_api.policy import RoutingPolicy
from foresail_api.reasons import ConditionType, Reason
from foresail_api.revocation import without_revoked
from foresail_api.snapshot import Snapshot, SnapshotEnvelope
from foresail_operator import verdicts
from foresail_operator.children.base import PolicyName
from foresail_operator.children.configmap import config_map, held_envelope
from foresail_operator.children.deployment import NO_MOUNTS, SidecarImage, deployment, mounts_of
from foresail_operator.children.drift import says
from foresail_operator.children.service import endpoint, service
from foresail_operator.conditions import status_fields
from foresail_operator.observation import Child, PolicyObservation, PolicyRecord, PoolRecord
from foresail_operator.resources import CONFIG_MAP, DEPLOYMENT, MUST_NOT_EXIST, SERVICE, Resource

# What a policy that cannot be read still serves, as its status said before.
_KEPT_FIELDS: Final = ("snapshotHash", "snapshotSequence", "endpoint")


@dataclass(frozen=True, slots=True)
class Write:
    """An object to apply, meant for exactly the version in its `metadata.resourceVersion`."""

    resource: Resource
    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write, children before status. `unfinished` says what to look at again though no event may tell of it."""

    writes: tuple[Write, ...]
    status: Mapping[str, Any]
    unfinished: str | None = None

    @property
    def creates(self) -> bool:
        """Whether any of the objects to write does not exist yet."""
        return any(write.manifest["metadata"]["resourceVersion"] == MUST_NOT_EXIST for write in self.writes)


@dataclass(frozen=True, slots=True)
class _Served:
    """What the pods should serve; None where there is nothing, or where it was `withdrawn` from pods that still run."""

    envelope: SnapshotEnvelope | None
    withdrawn: bool = False


def plan_pool(record: PoolRecord, now: datetime) -> Plan:
    """Return the status of a pool; it has no children."""
    fields = {"models": 0 if record.pool is None else len(record.pool.spec.models)}
    verdict = verdicts.pool_accepted(record)
    return Plan((), status_fields(record.identity, record.status, [verdict], fields, now))


def plan_policy(seen: PolicyObservation, image: SidecarImage, now: datetime, failure: str | None = None) -> Plan:
    """Return what a policy's children and status should be. `failure` is what the API server said to the writes, if it refused."""
    record = seen.policy
    name = PolicyName(record.identity.namespace, record.identity.name, record.identity.uid)
    ours = {resource: _ours(live, name) for resource, live in seen.children.items()}
    available = _available_replicas(ours[DEPLOYMENT])
    if record.policy is None:
        found = verdicts.refused(record.faults)
        kept = {field: record.status[field] for field in _KEPT_FIELDS if field in record.status}
        fields = {**kept, "availableReplicas": available}
        return Plan((), status_fields(record.identity, record.status, found, fields, now))
    compilation = _compile(record.policy, seen.pool)
    served = _served(record, record.policy, compilation, seen.pool, ours)
    wanted = _wanted(name, served, image, record.policy.spec.serving.replicas)
    strangers = [verdicts.stranger(resource, seen.children[resource], name) for resource in wanted]
    blocked = [stranger for stranger in strangers if stranger is not None]
    found = verdicts.policy_verdicts(
        verdicts.Facts(
            problems=compilation.problems,
            warnings=compilation.warnings,
            pool=record.pool_name,
            blocked=tuple(blocked),
            failure=failure,
            serves=served.envelope is not None,
            withdrawn=served.withdrawn,
            replicas=record.policy.spec.serving.replicas,
            available=available,
        )
    )
    addressed = SERVICE in wanted and (seen.children[SERVICE] is None or ours[SERVICE] is not None)
    fields = _fields(record, served, endpoint(name) if addressed else None, available)
    writes = tuple(
        _write(resource, manifest, ours[resource])
        for resource, manifest in wanted.items()
        if _differs(seen.children[resource], ours[resource], manifest)
    )
    unfinished = blocked[0].message if blocked else None
    return Plan(writes, status_fields(record.identity, record.status, found, fields, now), unfinished)


def _compile(policy: RoutingPolicy, pool: PoolRecord | None) -> Compilation:
    if pool is not None and pool.pool is None:
        message = (
            f"`spec.poolRef.name`: ModelPool {pool.identity.name!r} is not accepted; its condition `Accepted` says why"
        )
        return Compilation(None, (Problem(ConditionType.RESOLVED_REFS, Reason.POOL_NOT_ACCEPTED, message),))
    return compile_policy(policy, None if pool is None else pool.pool, Target.CLUSTER)


def _served(
    record: PolicyRecord,
    policy: RoutingPolicy,
    compilation: Compilation,
    pool: PoolRecord | None,
    ours: Mapping[Resource, Child | None],
) -> _Served:
    before = held_envelope(ours[CONFIG_MAP])
    if compilation.snapshot is not None:
        return _Served(_sealed(compilation.snapshot, before, record.status))
    if pool is None:
        return _Served(None, withdrawn=ours[DEPLOYMENT] is not None)
    if before is None:
        return _Served(None)
    if pool.pool is None:
        return _Served(_sealed(before.snapshot, before, record.status))
    rest = without_revoked(before.snapshot, policy, pool.pool)
    if rest is None:
        return _Served(None, withdrawn=ours[DEPLOYMENT] is not None)
    return _Served(_sealed(rest, before, record.status))


def _sealed(snapshot: Snapshot, before: SnapshotEnvelope | None, status: Mapping[str, Any]) -> SnapshotEnvelope:
    """Number the snapshot: as before if it is the same, else above every number that was ever given to this policy.

    The status remembers the last number for the day on which somebody deletes the ConfigMap.
    """
    digest = snapshot.content_hash()
    given = int(status.get("snapshotSequence") or 0)
    if before is not None and before.hash == digest and before.sequence >= given:
        return before
    if before is None and status.get("snapshotHash") == digest:
        return SnapshotEnvelope.seal(snapshot, max(given, 1))
    return SnapshotEnvelope.seal(snapshot, max(given, before.sequence if before is not None else 0) + 1)


def _wanted(name: PolicyName, served: _Served, image: SidecarImage, replicas: int) -> dict[Resource, dict[str, Any]]:
    if served.envelope is not None:
        return {
            CONFIG_MAP: config_map(name, served.envelope),
            SERVICE: service(name),
            DEPLOYMENT: deployment(name, image, mounts_of(served.envelope.snapshot), replicas),
        }
    # The pods go, while the Service keeps its address for the day on which there is something to serve again.
    return {DEPLOYMENT: deployment(name, image, NO_MOUNTS, 0)} if served.withdrawn else {}


def _ours(live: Child | None, policy: PolicyName) -> Child | None:
    """Return the child if this very policy controls it; a namesake, deleted or not, is somebody else."""
    if live is None or live.controller is None or live.controller.uid != policy.uid:
        return None
    return live


def _differs(live: Child | None, ours: Child | None, manifest: Mapping[str, Any]) -> bool:
    if live is None:
        return True
    if ours is None:
        return False
    metadata = {key: manifest["metadata"][key] for key in ("labels", "annotations", "ownerReferences")}
    content = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind", "metadata")}
    return not says(ours.manifest, {**content, "metadata": metadata})


def _write(resource: Resource, manifest: Mapping[str, Any], ours: Child | None) -> Write:
    version = MUST_NOT_EXIST if ours is None else ours.identity.resource_version
    return Write(resource, {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": version}})


def _available_replicas(ours: Child | None) -> int:
    return 0 if ours is None else int((ours.manifest.get("status") or {}).get("availableReplicas") or 0)


def _fields(record: PolicyRecord, served: _Served, address: str | None, available: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"availableReplicas": available}
    if served.envelope is not None:
        fields["snapshotHash"] = served.envelope.hash
        fields["snapshotSequence"] = served.envelope.sequence
    else:
        fields["snapshotSequence"] = int(record.status.get("snapshotSequence") or 0)
    if address is not None:
        fields["endpoint"] = address
    return fields

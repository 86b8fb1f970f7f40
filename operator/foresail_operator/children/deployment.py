"""The Deployment: the pods that route a policy's requests, and all that they are given.

Owns the pod template. It must not know the snapshot's content beyond the Secrets and the volumes that it names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from foresail_api.snapshot import Snapshot
from foresail_operator.children.base import PolicyName, child_manifest
from foresail_operator.children.configmap import SNAPSHOT_FILE
from foresail_operator.children.service import PORT_NAME
from foresail_operator.names import child_labels, child_name, selector_labels
from foresail_operator.resources import DEPLOYMENT

CONTAINER: Final = "router"
PORT: Final = 8080
SNAPSHOT_DIRECTORY: Final = "/etc/foresail/snapshot"
SECRETS_DIRECTORY: Final = "/etc/foresail/secrets"
VOLUMES_DIRECTORY: Final = "/volumes"
STATE_DIRECTORY: Final = "/var/lib/foresail"
_STATE: Final = "state"

# The group of the image's user, so that it can write on a volume that belongs to root.
GROUP: Final = 65532

# A pod that ends answers new requests until no node sends it any, then gives the open ones so long; the server may
# take that time twice (open requests, then open connections), and some is left before it is killed.
SHUTDOWN_DELAY_SECONDS: Final = 5
DRAIN_SECONDS: Final = 20
TERMINATION_SECONDS: Final = SHUTDOWN_DELAY_SECONDS + 2 * DRAIN_SECONDS + 15


@dataclass(frozen=True, slots=True)
class SidecarImage:
    """What the pods run."""

    name: str
    pull_policy: str


@dataclass(frozen=True, slots=True)
class Mounts:
    """What the pods need beside the snapshot: keys by Secret, None for all of its keys, and volume claims.

    `read_claims` hold the trained router and tokenizers, `ledger_claim` an embedded ledger.
    """

    secrets: Mapping[str, tuple[str, ...] | None]
    read_claims: tuple[str, ...]
    ledger_claim: str | None


NO_MOUNTS: Final = Mounts({}, (), None)


def mounts_of(snapshot: Snapshot) -> Mounts:
    """Return what a snapshot names."""
    keys: dict[str, set[str]] = {}
    for secret_name, secret_key in _named_keys(snapshot):
        keys.setdefault(secret_name, set()).add(secret_key)
    secrets: dict[str, tuple[str, ...] | None] = {name: tuple(sorted(named)) for name, named in keys.items()}
    if snapshot.tenants.secret_name is not None:
        secrets[snapshot.tenants.secret_name] = None
    read = [snapshot.router.artifact, *(model.tokenizer for model in snapshot.models)]
    return Mounts(
        {name: secrets[name] for name in sorted(secrets)},
        read_claims=tuple(dict.fromkeys(each.claim for each in read if each is not None and each.claim is not None)),
        ledger_claim=snapshot.ledger.claim,
    )


def _named_keys(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    for model in snapshot.models:
        for upstream in model.upstreams:
            if upstream.auth is not None:
                yield upstream.auth.secret_name, upstream.auth.secret_key
    ledger = snapshot.ledger
    if ledger.secret_name is not None and ledger.secret_key is not None:
        yield ledger.secret_name, ledger.secret_key
    if ledger.ca_secret_name is not None and ledger.ca_secret_key is not None:
        yield ledger.ca_secret_name, ledger.ca_secret_key


def deployment(policy: PolicyName, image: SidecarImage, mounts: Mounts, replicas: int) -> dict[str, Any]:
    """Return the manifest of the Deployment.

    Nothing of the snapshot itself is in it: a changed snapshot reaches running pods through the mounted ConfigMap and
    restarts none. Only other mounts or another image do.
    """
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": selector_labels(policy.name)},
        "strategy": _strategy(mounts),
        "template": {
            "metadata": {"labels": child_labels(policy.name)},
            "spec": _pod(policy, image, mounts),
        },
    }
    return child_manifest(DEPLOYMENT, policy, {"spec": spec})


def _strategy(mounts: Mounts) -> dict[str, Any]:
    # A volume of one node cannot be in two pods on two nodes: the old pod must be gone before the new one can start.
    if mounts.ledger_claim is not None:
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def _pod(policy: PolicyName, image: SidecarImage, mounts: Mounts) -> dict[str, Any]:
    snapshot = {"name": "snapshot", "configMap": {"name": child_name(policy.name)}}
    secrets = map(_secret_volume, mounts.secrets, mounts.secrets.values())
    volumes = [snapshot, *secrets, *_read_volumes(mounts), _state_volume(mounts.ledger_claim)]
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": TERMINATION_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
            **({"fsGroup": GROUP, "fsGroupChangePolicy": "OnRootMismatch"} if mounts.ledger_claim else {}),
        },
        "containers": [_container(image, mounts)],
        "volumes": [*volumes, {"name": "tmp", "emptyDir": {}}],
    }


def _container(image: SidecarImage, mounts: Mounts) -> dict[str, Any]:
    return {
        "name": CONTAINER,
        "image": image.name,
        "imagePullPolicy": image.pull_policy,
        "command": ["foresail"],
        "args": _arguments(mounts),
        "ports": [{"name": PORT_NAME, "containerPort": PORT, "protocol": "TCP"}],
        # Only liveness restarts a pod: waiting for a Secret or for the trained router is not cured by that.
        "startupProbe": _probe("/healthz", period_seconds=2, failures=60),
        "livenessProbe": _probe("/healthz", period_seconds=10, failures=3),
        "readinessProbe": _probe("/readyz", period_seconds=5, failures=2),
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "snapshot", "mountPath": SNAPSHOT_DIRECTORY, "readOnly": True},
            *(
                {"name": _secret_volume_name(name), "mountPath": f"{SECRETS_DIRECTORY}/{name}", "readOnly": True}
                for name in mounts.secrets
            ),
            *(
                {
                    "name": _claim_volume_name(claim, mounts),
                    "mountPath": f"{VOLUMES_DIRECTORY}/{claim}",
                    "readOnly": True,
                }
                for claim in mounts.read_claims
            ),
            {"name": _STATE, "mountPath": STATE_DIRECTORY},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  a volume of the pod's own
        ],
    }


def _arguments(mounts: Mounts) -> list[str]:
    return [
        "serve",
        f"--snapshot={SNAPSHOT_DIRECTORY}/{SNAPSHOT_FILE}",
        *([f"--secrets={SECRETS_DIRECTORY}"] if mounts.secrets else []),
        *(f"--volume-claim={claim}={VOLUMES_DIRECTORY}/{claim}" for claim in mounts.read_claims),
        f"--state={STATE_DIRECTORY}",
        "--host=0.0.0.0",
        f"--port={PORT}",
        f"--shutdown-delay-seconds={SHUTDOWN_DELAY_SECONDS}",
        f"--drain-seconds={DRAIN_SECONDS}",
    ]


def _probe(path: str, *, period_seconds: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": PORT_NAME},
        "periodSeconds": period_seconds,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _secret_volume(name: str, keys: tuple[str, ...] | None) -> dict[str, Any]:
    # Optional: a Secret that is missing takes its models or tenants out, and the pod says so, instead of never starting.
    items = {} if keys is None else {"items": [{"key": key, "path": key} for key in keys]}
    return {"name": _secret_volume_name(name), "secret": {"secretName": name, "optional": True, **items}}


def _secret_volume_name(secret: str) -> str:
    """A Secret's name can be longer than a volume's and hold dots."""
    return f"secret-{hashlib.sha256(secret.encode()).hexdigest()[:16]}"


def _read_volumes(mounts: Mounts) -> list[dict[str, Any]]:
    return [
        {
            "name": _claim_volume_name(claim, mounts),
            "persistentVolumeClaim": {"claimName": claim, "readOnly": True},
        }
        for claim in mounts.read_claims
        if claim != mounts.ledger_claim
    ]


def _claim_volume_name(claim: str, mounts: Mounts) -> str:
    """A claim's name can be longer than a volume's and hold dots."""
    if claim == mounts.ledger_claim:
        # A pod with two volumes of one claim can wait for the second one forever.
        return _STATE
    return f"claim-{hashlib.sha256(claim.encode()).hexdigest()[:16]}"


def _state_volume(claim: str | None) -> dict[str, Any]:
    # Settlements that a ledger on a server has not taken yet wait here too, so every pod has one, if only for its lifetime.
    return {"name": _STATE, **({"persistentVolumeClaim": {"claimName": claim}} if claim else {"emptyDir": {}})}

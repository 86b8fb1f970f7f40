"""Kubernetes Events: what `kubectl describe` shows below the conditions, one for each change that somebody may want to know of.

Owns which changes are told, and how. It must not know why they came about.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from foresail_api.reasons import ConditionType, Reason
from foresail_api.status import ConditionStatus
from foresail_operator.conditions import timestamp, transitions
from foresail_operator.names import FIELD_MANAGER
from foresail_operator.observation import Identity
from foresail_operator.resources import EVENT, Resource


def events_of(
    resource: Resource, identity: Identity, before: Mapping[str, Any], after: Mapping[str, Any], now: datetime
) -> list[dict[str, Any]]:
    """Return the events that tell how an object's status changed."""
    was_ready = any(
        condition["type"] == ConditionType.READY and condition["status"] == ConditionStatus.TRUE
        for condition in before.get("conditions") or ()
    )
    return [
        _event(resource, identity, condition, now)
        for condition in transitions(before, after)
        if _worth_telling(condition, was_ready)
    ]


def _worth_telling(condition: Mapping[str, Any], was_ready: bool) -> bool:
    # A condition that waits for another one, and `Ready`, repeat what that says; but to become ready, or to lose it, is news.
    if condition["reason"] == Reason.WAITING:
        return False
    if condition["type"] == ConditionType.READY:
        return was_ready or bool(condition["status"] == ConditionStatus.TRUE)
    return bool(condition["status"] == ConditionStatus.FALSE or condition["type"] == ConditionType.PROGRAMMED)


def _event(resource: Resource, identity: Identity, condition: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    time = timestamp(now)
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": f"{identity.name[:200]}.{uuid.uuid4().hex[:16]}", "namespace": identity.namespace},
        "involvedObject": {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "namespace": identity.namespace,
            "name": identity.name,
            "uid": identity.uid,
            "resourceVersion": identity.resource_version,
        },
        "type": "Normal" if condition["status"] == ConditionStatus.TRUE else "Warning",
        "reason": condition["reason"],
        "message": condition["message"][:1024],
        "source": {"component": FIELD_MANAGER},
        "reportingComponent": FIELD_MANAGER,
        "firstTimestamp": time,
        "lastTimestamp": time,
        "count": 1,
    }

"""Conditions and the status documents that are applied: the first visit states all of them, and times stay until a status flips.

Owns the shape of what is written. It must not know why a condition holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from foresail_api.reasons import ConditionType, Reason
from foresail_api.status import ConditionStatus
from foresail_operator.children.drift import says
from foresail_operator.observation import Identity
from foresail_operator.resources import Resource

_LONGEST_MESSAGE: Final = 4096


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of one condition."""

    type: ConditionType
    status: ConditionStatus
    reason: Reason
    message: str


def true(condition: ConditionType, reason: Reason, message: str) -> Verdict:
    """Return the verdict that all is well."""
    return Verdict(condition, ConditionStatus.TRUE, reason, message)


def false(condition: ConditionType, reason: Reason, message: str) -> Verdict:
    """Return the verdict that it is not; the message says what to do."""
    return Verdict(condition, ConditionStatus.FALSE, reason, message)


def unknown(condition: ConditionType, reason: Reason, message: str) -> Verdict:
    """Return the verdict that it could not be found out."""
    return Verdict(condition, ConditionStatus.UNKNOWN, reason, message)


def status_fields(
    identity: Identity, before: Mapping[str, Any], verdicts: Iterable[Verdict], fields: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """Return the status of an object: `fields`, the generation that all of it describes, and the conditions."""
    known = {condition.get("type"): condition for condition in before.get("conditions") or ()}
    return {
        "observedGeneration": identity.generation,
        **fields,
        "conditions": [_condition(verdict, known.get(verdict.type), identity.generation, now) for verdict in verdicts],
    }


def status_manifest(resource: Resource, identity: Identity, status: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is applied to `/status`, meant for exactly the version of the object that was seen."""
    metadata = {"name": identity.name, "namespace": identity.namespace, "resourceVersion": identity.resource_version}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "status": dict(status)}


def same_status(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether nothing needs to be written: others may have added conditions of their own."""
    return says(before, wanted) and set(before) <= set(wanted)


def transitions(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the wanted conditions whose status or reason differs from before."""
    known = {condition["type"]: condition for condition in before.get("conditions") or ()}

    def changed(condition: Mapping[str, Any]) -> bool:
        old = known.get(condition["type"], {})
        return (old.get("status"), old.get("reason")) != (condition["status"], condition["reason"])

    return [condition for condition in wanted["conditions"] if changed(condition)]


def _condition(verdict: Verdict, before: Mapping[str, Any] | None, generation: int, now: datetime) -> dict[str, Any]:
    unchanged = before is not None and before.get("status") == verdict.status
    time = before["lastTransitionTime"] if before is not None and unchanged else timestamp(now)
    message = verdict.message
    if len(message) > _LONGEST_MESSAGE:
        message = message[: _LONGEST_MESSAGE - 1] + "…"
    return {
        "type": verdict.type.value,
        "status": verdict.status.value,
        "reason": verdict.reason.value,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": time,
    }


def timestamp(now: datetime) -> str:
    """Return a time as Kubernetes writes it, to the second."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""The words of the control plane: what each condition of a pool and of a policy says, and what to do about it.

Owns reasons and messages, and what makes a policy `Ready`; docs/reference/conditions.md holds the same as tables.
It must not know how anything is written.
"""

from __future__ import annotations

from dataclasses import dataclass

from foresail_api.compile import Problem
from foresail_api.reasons import ConditionType, Reason
from foresail_api.status import ConditionStatus
from foresail_operator.children.base import PolicyName
from foresail_operator.conditions import Verdict, false, true, unknown
from foresail_operator.names import child_name
from foresail_operator.observation import Child, PoolRecord
from foresail_operator.resources import ROUTING_POLICY, Resource


@dataclass(frozen=True, slots=True)
class Stranger:
    """An object that has the name of a child and is not this policy's."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the conditions of a policy rest on."""

    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    pool: str
    blocked: tuple[Stranger, ...]
    failure: str | None
    serves: bool
    withdrawn: bool
    replicas: int
    available: int


def pool_accepted(record: PoolRecord) -> Verdict:
    """Return the one condition of a pool."""
    if record.pool is None:
        return false(ConditionType.ACCEPTED, Reason.INVALID, "; ".join(record.faults))
    count = len(record.pool.spec.models)
    return true(ConditionType.ACCEPTED, Reason.ACCEPTED, f"The pool has {_count(count, 'model')}")


def refused(faults: tuple[str, ...]) -> list[Verdict]:
    """Return the conditions of a policy that cannot be read; what it served before is left as it is."""
    waits = "Not looked at until the policy is accepted"
    return [
        false(ConditionType.ACCEPTED, Reason.INVALID, "; ".join(faults)),
        unknown(ConditionType.RESOLVED_REFS, Reason.WAITING, waits),
        false(
            ConditionType.PROGRAMMED, Reason.WAITING, "Nothing was changed in the cluster; mend what `Accepted` says"
        ),
        false(ConditionType.READY, Reason.INVALID, "; ".join(faults)),
    ]


def policy_verdicts(facts: Facts) -> list[Verdict]:
    """Return the four conditions of a policy."""
    first = [_accepted(facts), _resolved(facts), _programmed(facts)]
    return [*first, _ready(facts, first)]


def stranger(resource: Resource, live: Child | None, policy: PolicyName) -> Stranger | None:
    """Return what stands in the place of a child, if it is not this policy's."""
    if live is None or (live.controller is not None and live.controller.uid == policy.uid):
        return None
    controller = live.controller
    title = f"{resource.kind} {child_name(policy.name)!r}"
    if controller is not None and (controller.kind, controller.name) == (ROUTING_POLICY.kind, policy.name):
        message = (
            f"{title} of a deleted RoutingPolicy of this name is still being removed; it will be written anew then"
        )
        return Stranger(Reason.WAITING, message)
    whose = "nothing" if controller is None else f"{controller.kind} {controller.name!r}"
    remedy = "delete or rename it, or create this policy under another name"
    return Stranger(
        Reason.NAME_CONFLICT,
        f"{title} exists and is controlled by {whose}, not by this policy; it was not touched; {remedy}",
    )


def _accepted(facts: Facts) -> Verdict:
    problems = _problems(facts, ConditionType.ACCEPTED)
    if problems:
        return problems[0]
    return true(ConditionType.ACCEPTED, Reason.ACCEPTED, "; ".join(["The policy is valid", *facts.warnings]))


def _resolved(facts: Facts) -> Verdict:
    problems = _problems(facts, ConditionType.RESOLVED_REFS)
    if problems:
        return problems[0]
    return true(ConditionType.RESOLVED_REFS, Reason.RESOLVED, f"ModelPool {facts.pool!r} was found")


def _problems(facts: Facts, condition: ConditionType) -> list[Verdict]:
    found = [problem for problem in facts.problems if problem.condition == condition]
    return [false(condition, found[0].reason, "; ".join(problem.message for problem in found))] if found else []


def _programmed(facts: Facts) -> Verdict:
    if facts.failure is not None:
        return false(ConditionType.PROGRAMMED, Reason.APPLY_FAILED, f"The API server refused: {facts.failure}")
    if facts.blocked:
        reasons = [stranger.reason for stranger in facts.blocked]
        reason = Reason.NAME_CONFLICT if Reason.NAME_CONFLICT in reasons else reasons[0]
        return false(ConditionType.PROGRAMMED, reason, "; ".join(stranger.message for stranger in facts.blocked))
    if facts.withdrawn:
        message = "What was served has been taken away, so no pods run; mend what the other conditions say"
        return false(ConditionType.PROGRAMMED, Reason.WITHDRAWN, message)
    if facts.problems:
        served = "The configuration of before" if facts.serves else "Nothing new"
        return false(ConditionType.PROGRAMMED, Reason.WAITING, f"{served} is served until the other conditions are met")
    return true(ConditionType.PROGRAMMED, Reason.PROGRAMMED, "ConfigMap, Service and Deployment are as they should be")


def _ready(facts: Facts, others: list[Verdict]) -> Verdict:
    pods = f"{facts.available} of {_count(facts.replicas, 'pod')} {'is' if facts.replicas == 1 else 'are'} available"
    for verdict in others:
        if verdict.status != ConditionStatus.TRUE:
            return false(ConditionType.READY, verdict.reason, f"`{verdict.type}` is not met; {pods}")
    if facts.replicas == 0:
        return false(ConditionType.READY, Reason.SCALED_TO_ZERO, "`spec.serving.replicas` is 0, so nobody answers")
    if facts.available < facts.replicas:
        why = "`kubectl describe pod` of the pods with the label `foresail.dev/policy` says why"
        return false(ConditionType.READY, Reason.PODS_NOT_READY, f"{pods}; {why} if that lasts")
    return true(ConditionType.READY, Reason.READY, pods)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

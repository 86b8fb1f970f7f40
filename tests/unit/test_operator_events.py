"""Which changes of a status are told as Kubernetes Events."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.support.routing import Object, policy, stored

from foresail_operator.events import events_of
from foresail_operator.observation import policy_record
from foresail_operator.resources import ROUTING_POLICY

NOW = datetime(2026, 1, 1, tzinfo=UTC)
IDENTITY = policy_record(stored(policy())).identity


def status(**verdicts: str) -> Object:
    found = [(name, *verdict.split()) for name, verdict in verdicts.items()]
    return {
        "conditions": [
            {"type": name, "status": state, "reason": reason, "message": "m"} for name, state, reason in found
        ]
    }


def told(before: Object, after: Object) -> list[str]:
    events = events_of(ROUTING_POLICY, IDENTITY, before, after, NOW)
    return [f"{event['type']} {event['reason']}" for event in events]


WAITING = status(Accepted="True Accepted", Programmed="True Programmed", Ready="False PodsNotReady")
READY = status(Accepted="True Accepted", Programmed="True Programmed", Ready="True Ready")


def test_becoming_ready_and_losing_it_are_told() -> None:
    assert told({}, WAITING) == ["Normal Programmed"]
    assert told(WAITING, READY) == ["Normal Ready"]
    assert told(READY, WAITING) == ["Warning PodsNotReady"]


def test_a_fault_is_told_once_and_not_repeated_by_ready() -> None:
    broken = status(Accepted="False AliasConflict", Programmed="False Waiting", Ready="False AliasConflict")
    assert told(WAITING, broken) == ["Warning AliasConflict"]
    assert told(broken, broken) == []


def test_an_event_names_the_object_and_its_time() -> None:
    (event,) = events_of(ROUTING_POLICY, IDENTITY, WAITING, READY, NOW)
    assert event["metadata"]["namespace"] == "default"
    assert event["involvedObject"]["uid"] == "u-1"
    assert event["involvedObject"]["kind"] == "RoutingPolicy"
    assert event["firstTimestamp"] == event["lastTimestamp"] == "2026-01-01T00:00:00Z"

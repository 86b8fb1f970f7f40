"""Conditions as they are written: when a status must be written at all, and what is kept of the one before."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.support.routing import Object, policy, stored

from foresail_api.reasons import ConditionType, Reason
from foresail_operator.conditions import false, same_status, status_fields, status_manifest, true
from foresail_operator.observation import policy_record
from foresail_operator.resources import ROUTING_POLICY

IDENTITY = policy_record(stored(policy(), version="41", generation=3)).identity
EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


def status(before: Object | None = None, now: datetime = EARLY, message: str = "fine") -> Object:
    return status_fields(IDENTITY, before or {}, [true(ConditionType.ACCEPTED, Reason.ACCEPTED, message)], {}, now)


def test_a_status_that_says_the_same_is_not_written_again() -> None:
    assert same_status(status(), status(status(), LATE))
    assert not same_status({}, status())
    assert not same_status(status(), status(status(), message="other"))


def test_conditions_of_others_are_theirs() -> None:
    both = status()
    both["conditions"].append({"type": "Audited", "status": "True"})
    assert same_status(both, status(both, LATE))


def test_a_field_that_is_no_longer_said_is_a_change() -> None:
    assert not same_status({**status(), "snapshotHash": "sha256:0"}, status())


def test_a_time_changes_with_the_status_alone() -> None:
    (kept,) = status(status(), LATE, "another message")["conditions"]
    assert (kept["lastTransitionTime"], kept["message"]) == ("2026-01-01T00:00:00Z", "another message")
    verdict = false(ConditionType.ACCEPTED, Reason.INVALID, "broken")
    (flipped,) = status_fields(IDENTITY, status(), [verdict], {}, LATE)["conditions"]
    assert flipped["lastTransitionTime"] == "2026-01-02T00:00:00Z"


def test_a_status_is_meant_for_the_version_that_was_seen() -> None:
    manifest = status_manifest(ROUTING_POLICY, IDENTITY, status())
    assert manifest["metadata"] == {"name": "chat", "namespace": "default", "resourceVersion": "41"}
    assert manifest["status"]["observedGeneration"] == 3
    assert all(item["observedGeneration"] == 3 for item in manifest["status"]["conditions"])


def test_a_message_has_an_end() -> None:
    (condition,) = status(message="x" * 100_000)["conditions"]
    assert len(condition["message"]) == 4096
    assert condition["message"].endswith("…")

"""What users say about attempts at upstreams: its defaults, its bounds, and what a snapshot makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from foresail_api.attempts import Fallback, OnClientCancel, OutlierDetection, StreamUsage, Timeouts
from foresail_api.compile import Target, compile_policy
from foresail_api.policy import RoutingPolicy
from foresail_api.pool import ModelPool
from foresail_api.snapshot import (
    Snapshot,
    SnapshotFallback,
    SnapshotOutlierDetection,
    SnapshotTimeouts,
    SnapshotUpstream,
)


def compiled(upstream: dict[str, Any], pool: dict[str, Any], policy: dict[str, Any]) -> Snapshot:
    model = {
        "name": "small",
        "upstreams": [{"name": "main", "url": "https://models.example/v1", **upstream}],
        "contextWindowTokens": 8192,
        "maxOutputTokens": 1024,
    }
    spec = {"poolRef": {"name": "pool"}, "router": {"strategy": "Cheapest"}, **policy}
    result = compile_policy(
        RoutingPolicy.model_validate({"metadata": {"name": "policy"}, "spec": spec}),
        ModelPool.model_validate({"metadata": {"name": "pool"}, "spec": {"models": [model], **pool}}),
        Target.LOCAL,
    )
    assert result.snapshot is not None
    return result.snapshot


def test_what_is_not_said_is_what_snapshots_of_earlier_releases_meant() -> None:
    snapshot = compiled({}, {}, {})
    (upstream,) = snapshot.models[0].upstreams
    assert upstream.timeouts == SnapshotTimeouts()
    assert (
        upstream.on_client_cancel == SnapshotUpstream.model_fields["on_client_cancel"].default == OnClientCancel.ABORT
    )
    assert upstream.stream_usage == SnapshotUpstream.model_fields["stream_usage"].default == StreamUsage.REQUESTED
    assert snapshot.fallback == SnapshotFallback()
    assert snapshot.outlier_detection == SnapshotOutlierDetection()


def test_a_snapshot_holds_what_was_said() -> None:
    timeouts = {"connectMilliseconds": 20, "firstByteSeconds": 3, "idleSeconds": 4, "totalSeconds": 50}
    snapshot = compiled(
        {"timeouts": timeouts, "onClientCancel": "Drain", "streamUsage": "NotSupported"},
        {"outlierDetection": {"consecutiveFailures": 2, "ejectionSeconds": 7}},
        {"fallback": {"maxAttempts": 5, "models": "Same", "retryBudgetPercent": 0}},
    )
    (upstream,) = snapshot.models[0].upstreams
    assert upstream.timeouts == SnapshotTimeouts(
        connect_milliseconds=20, first_byte_milliseconds=3000, idle_milliseconds=4000, total_milliseconds=50_000
    )
    assert (upstream.on_client_cancel, upstream.stream_usage) == (OnClientCancel.DRAIN, StreamUsage.NOT_SUPPORTED)
    assert snapshot.outlier_detection == SnapshotOutlierDetection(consecutive_failures=2, ejection_seconds=7)
    assert snapshot.fallback == SnapshotFallback(max_attempts=5, other_models=False, retry_budget_percent=0)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Timeouts, {"connectMilliseconds": 0}),
        (Timeouts, {"totalSeconds": 86_401}),
        (Timeouts, {"idleSeconds": "5"}),
        (Timeouts, {"firstByteSeconds": 100, "totalSeconds": 99}),
        (OutlierDetection, {"consecutiveFailures": 0}),
        (Fallback, {"maxAttempts": 11}),
        (Fallback, {"retryBudgetPercent": 101}),
        (Fallback, {"models": "Any"}),
    ],
)
def test_what_makes_no_sense_is_refused(
    kind: type[Timeouts | OutlierDetection | Fallback], said: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(said)

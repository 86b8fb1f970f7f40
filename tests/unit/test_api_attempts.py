"""What users say about attempts at upstreams: its defaults, its bounds, and what a snapshot makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from foresail_api.attempts import Fallback, OnClientCancel, OutlierDetection, StreamUsage, Timeouts, UpstreamLimits
from foresail_api.compile import Compilation, Target, compile_policy
from foresail_api.policy import RoutingPolicy
from foresail_api.pool import ModelPool
from foresail_api.reasons import Reason
from foresail_api.snapshot import (
    Snapshot,
    SnapshotEnvelope,
    SnapshotFallback,
    SnapshotLimits,
    SnapshotOutlierDetection,
    SnapshotTimeouts,
    SnapshotUpstream,
    read_envelope,
)

REDIS = {"ledger": {"type": "Redis", "redis": {"url": "redis://redis.example:6379"}}}


def compilation(upstream: dict[str, Any], pool: dict[str, Any], policy: dict[str, Any]) -> Compilation:
    model = {
        "name": "small",
        "upstreams": [{"name": "main", "url": "https://models.example/v1", **upstream}],
        "contextWindowTokens": 8192,
        "maxOutputTokens": 1024,
    }
    spec = {"poolRef": {"name": "pool"}, "router": {"strategy": "Cheapest"}, **policy}
    return compile_policy(
        RoutingPolicy.model_validate({"metadata": {"name": "policy"}, "spec": spec}),
        ModelPool.model_validate({"metadata": {"name": "pool"}, "spec": {"models": [model], **pool}}),
        Target.LOCAL,
    )


def compiled(upstream: dict[str, Any], pool: dict[str, Any], policy: dict[str, Any]) -> Snapshot:
    snapshot = compilation(upstream, pool, policy).snapshot
    assert snapshot is not None
    return snapshot


def test_what_is_not_said_is_what_snapshots_of_earlier_releases_meant() -> None:
    snapshot = compiled({}, {}, {})
    (upstream,) = snapshot.models[0].upstreams
    assert upstream.timeouts == SnapshotTimeouts()
    assert upstream.limits is None
    assert not snapshot.needs_ledger
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


def test_limits_are_counted_in_a_ledger() -> None:
    limits = {"concurrentRequests": 4, "requestsPerMinute": 60, "tokensPerMinute": 90_000}
    snapshot = compiled({"limits": limits}, {}, {})
    (upstream,) = snapshot.models[0].upstreams
    assert upstream.limits == SnapshotLimits(concurrent_requests=4, requests_per_minute=60, tokens_per_minute=90_000)
    assert snapshot.needs_ledger
    sealed = SnapshotEnvelope.seal(snapshot, sequence=1)
    assert read_envelope(sealed.to_json(), "the file") == sealed
    (one,) = compiled({"limits": {"requestsPerMinute": 1}}, {}, {}).models[0].upstreams
    assert one.limits == SnapshotLimits(requests_per_minute=1)


@pytest.mark.parametrize(
    "limits",
    [{}, {"concurrentRequests": 0}, {"requestsPerMinute": 10_000_001}, {"tokensPerMinute": 10**12 + 1}, {"other": 1}],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        UpstreamLimits.model_validate(limits)


def test_limits_of_several_pods_need_a_ledger_that_they_share() -> None:
    several = {"serving": {"replicas": 2}}
    limits = {"limits": {"concurrentRequests": 4}}
    (problem,) = compilation(limits, {}, several).problems
    assert problem.reason is Reason.LEDGER_NOT_SHARED
    assert "`spec.models[small].upstreams[main].limits`" in problem.message
    assert "set `spec.costLimits.ledger.type` to `Redis`" in problem.message
    assert compilation(limits, {}, several | {"costLimits": REDIS}).problems == ()
    assert compilation(limits, {}, {}).problems == ()
    assert compilation({}, {}, several).problems == ()

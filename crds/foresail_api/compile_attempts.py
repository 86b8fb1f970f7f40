"""The part of `compile` about attempts at upstreams: from what users write to what a snapshot holds. Pure.

Owns those conversions. It must not know the rest of either kind.
"""

from __future__ import annotations

from foresail_api.attempts import Fallback, FallbackModels, OutlierDetection, Timeouts, UpstreamLimits
from foresail_api.snapshot import SnapshotFallback, SnapshotLimits, SnapshotOutlierDetection, SnapshotTimeouts

_MILLISECONDS = 1000


def compiled_timeouts(timeouts: Timeouts) -> SnapshotTimeouts:
    """Return the time-outs of an upstream, all in milliseconds."""
    return SnapshotTimeouts(
        connect_milliseconds=timeouts.connect_milliseconds,
        first_byte_milliseconds=timeouts.first_byte_seconds * _MILLISECONDS,
        idle_milliseconds=timeouts.idle_seconds * _MILLISECONDS,
        total_milliseconds=timeouts.total_seconds * _MILLISECONDS,
    )


def compiled_limits(limits: UpstreamLimits | None) -> SnapshotLimits | None:
    """Return what an upstream takes at most, None where nothing is declared."""
    if limits is None:
        return None
    return SnapshotLimits(
        concurrent_requests=limits.concurrent_requests,
        requests_per_minute=limits.requests_per_minute,
        tokens_per_minute=limits.tokens_per_minute,
    )


def compiled_fallback(fallback: Fallback) -> SnapshotFallback:
    """Return what follows a failed attempt."""
    return SnapshotFallback(
        max_attempts=fallback.max_attempts,
        other_models=fallback.models == FallbackModels.OTHER,
        retry_budget_percent=fallback.retry_budget_percent,
    )


def compiled_detection(detection: OutlierDetection) -> SnapshotOutlierDetection:
    """Return when an upstream is left alone."""
    return SnapshotOutlierDetection(
        consecutive_failures=detection.consecutive_failures, ejection_seconds=detection.ejection_seconds
    )

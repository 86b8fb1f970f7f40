"""When a failed question is asked again: which failures, after what pause, and how many times in all.

Pure but for the random numbers it is given. It must not know connections.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from foresail_sidecar.upstreams.failures import FailureKind

_BASE_SECONDS = 0.5
_LONGEST_SECONDS = 30.0
_LONGEST_ASKED_SECONDS = 120.0
_TRANSIENT_STATUS = frozenset({408, 409, 425, 429, *range(500, 600)})


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a question has no outcome: `status` of an answer that was none, or how the attempt ended, in `reason`'s words."""

    reason: str
    status: int | None = None
    kind: FailureKind | None = None
    retry_after_seconds: float | None = None

    @property
    def transient(self) -> bool:
        """Whether asking again can help."""
        return self.status in _TRANSIENT_STATUS if self.status is not None else self.kind is not None

    @property
    def remedy(self) -> str:
        """What to do about it."""
        if self.status in (401, 403):
            return "check the model's `auth` in the pool, its Secret, and what the key may use"
        if self.status == 404:
            return (
                "check `url` (it includes the version, as in `https://host/v1`) and `model` of the upstream in the pool"
            )
        if self.status == 429:
            return "lower --concurrency, or wait, and run the same command again"
        if self.status is not None and 400 <= self.status < 500 and not self.transient:
            return "check the upstream's `model` and `outputLimitField`, and --max-output-tokens; some models take no --temperature"
        if self.kind == FailureKind.UNREACHABLE:
            return (
                "check that the upstream's `url` in the pool is right and that it runs; then run the same command again"
            )
        if self.kind == FailureKind.TIMED_OUT:
            return "raise --timeout, or lower --concurrency; then run the same command again"
        return "run the same command again; what was answered is kept"


class RetryBudget:
    """How many repetitions a whole collection has left, so that a broken pool is not asked without end."""

    def __init__(self, questions: int) -> None:
        self.left = max(20, questions // 5)

    def take(self) -> bool:
        """Use up one repetition; False if none is left."""
        if self.left <= 0:
            return False
        self.left -= 1
        return True


def pause_seconds(failure: Failure, attempt: int, rng: random.Random) -> float:
    """Return the pause after the failed attempt number `attempt` (from 1): what the upstream asked for, else a random part of a doubling bound."""
    backoff = rng.uniform(0.1, 1.0) * min(_LONGEST_SECONDS, _BASE_SECONDS * 2.0 ** min(attempt, 10))
    asked = min(failure.retry_after_seconds or 0.0, _LONGEST_ASKED_SECONDS)
    return max(backoff, asked + rng.uniform(0.0, _BASE_SECONDS))

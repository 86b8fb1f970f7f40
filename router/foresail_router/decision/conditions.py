"""What besides a request rules models out: the estimates of its input, missing credentials, failing upstreams, what the caller may use.

Owns these values. It must not know where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Final

from foresail_api.reasons import Elimination
from foresail_api.snapshot import Snapshot
from foresail_api.values import value


@value
class RequestLimits:
    """What a caller's own headers tighten. `max_cost` is in nano-dollars, `models` are the only ones that may answer.

    `routed` is False where the caller wants no prediction: the default model answers, or the cheapest.
    """

    max_cost: int | None = None
    models: frozenset[str] | None = None
    routed: bool = True


NO_LIMITS: Final = RequestLimits()


@value
class Unavailable:
    """Why a model cannot be asked just now, in a word and in a sentence."""

    reason: Elimination
    detail: str


@value
class Conditions:
    """The circumstances of one decision.

    `input_tokens` holds, for every model, the estimate of the input that is not media. `allowed_models` are those that the caller's tenant may use,
    None where it may use all. `distrusted` are models whose upstreams reported more than their bound too often: no cap and no budget holds for them.
    `budgeted` says that an enforced budget applies, so that what has no bound on its cost is out.
    """

    input_tokens: Mapping[str, int]
    missing_credentials: frozenset[str] = frozenset()
    limits: RequestLimits = NO_LIMITS
    allowed_models: frozenset[str] | None = None
    unavailable: Mapping[str, Unavailable] = field(default_factory=dict)
    distrusted: frozenset[str] = frozenset()
    budgeted: bool = False


def effective_cap(snapshot: Snapshot, limits: RequestLimits) -> int | None:
    """Return the cap on all attempts of a request together, in nano-dollars: the policy's, or the caller's where that is lower."""
    cap, own = snapshot.per_request_nano_dollars, limits.max_cost
    if cap is None or own is None:
        return own if cap is None else cap
    return min(cap, own)

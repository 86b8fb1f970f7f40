"""What an attempt takes of the limits that upstreams declare, and what is said where they leave no room.

Owns the limits of a policy's upstreams and the figures of their refusal. It must not know how a ledger keeps accounts, HTTP, or budgets. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from math import inf

from foresail_api.snapshot import Snapshot
from foresail_api.values import value
from foresail_router.decision.types import Candidate, NeutralRequest
from foresail_sidecar.flow.offers import Offer
from foresail_sidecar.ledger.accounts import UpstreamRule, upstream_claims
from foresail_sidecar.ledger.interface import Claim, Measure, Shortage


@value
class Limits:
    """The limits of a policy's upstreams, by the names of model and upstream. Most upstreams have none."""

    each: Mapping[tuple[str, str], UpstreamRule] = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: Snapshot) -> Limits:
        """Return the limits that a snapshot declares."""
        return cls(
            {
                (model.name, upstream.name): UpstreamRule(
                    upstream.limits.concurrent_requests,
                    upstream.limits.requests_per_minute,
                    upstream.limits.tokens_per_minute,
                )
                for model in snapshot.models
                for upstream in model.upstreams
                if upstream.limits is not None
            }
        )

    def __bool__(self) -> bool:
        return bool(self.each)

    def apply_to(self, model: str, upstream: str) -> bool:
        """Return whether an upstream has limits."""
        return bool(self.each) and (model, upstream) in self.each

    def claims(self, request: NeutralRequest, candidate: Candidate, upstream: str) -> tuple[Claim, ...]:
        """Return what `candidate` takes of an upstream's limits: of tokens the most that it can use, as far as that is known."""
        rule = self.each.get((candidate.model, upstream))
        if rule is None:
            return ()
        bound = candidate.input_tokens_bound
        input_tokens = candidate.input_tokens if bound is None else bound
        tokens = input_tokens + request.choices * candidate.output_limit
        return upstream_claims(rule, candidate.model, upstream, tokens)


@value
class LimitRefusal:
    """A request for which the limits of upstreams leave no room, with the figures of the one that has room first.

    `spent` is what counts for some time yet, `reserved` what requests under way hold; `limit` and `needed` are of the same measure.
    """

    model: str
    upstream: str
    measure: Measure
    limit: int
    spent: int
    reserved: int
    needed: int
    retry_after_seconds: float = 1.0

    @property
    def never_fits(self) -> bool:
        """Whether the request needs more than the limit is at all."""
        return self.needed > self.limit


def limit_refusal(offer: Offer, shortages: Iterable[Shortage], now_ms: int) -> LimitRefusal:
    """Return the refusal of an offer that lacks these: the one that is waited for longest says when to come again."""
    shortage = max(shortages, key=lambda each: _waiting_ms(each, now_ms))
    return LimitRefusal(
        model=offer.candidate.model,
        upstream=offer.upstream,
        measure=shortage.measure,
        limit=shortage.limit,
        spent=shortage.spent,
        reserved=shortage.reserved,
        needed=shortage.needed,
        retry_after_seconds=_waiting_ms(shortage, now_ms) / 1000,
    )


def has_room_within(shortage: Shortage, milliseconds: int, now_ms: int) -> bool:
    """Return whether a limit may have room that soon."""
    return _waiting_ms(shortage, now_ms) <= milliseconds


def _waiting_ms(shortage: Shortage, now_ms: int) -> float:
    """Return when there may be room: at once for what requests under way may give back, else when the oldest use leaves the minute."""
    if shortage.needed > shortage.limit:
        return inf
    given_back = shortage.measure != Measure.REQUESTS and shortage.spent + shortage.needed <= shortage.limit
    if given_back or shortage.ends_ms is None:
        return 0
    return max(0, shortage.ends_ms - now_ms)

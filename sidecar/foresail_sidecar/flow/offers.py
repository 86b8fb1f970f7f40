"""What a candidate would reserve at an upstream, and what it becomes under what it is granted.

Owns the arithmetic between candidates and reservations. It must not know how a ledger keeps them. Pure.
"""

from __future__ import annotations

from math import ceil

from foresail_api.snapshot import SnapshotModel
from foresail_api.values import value
from foresail_router.decision.eliminate import capped, least_useful_limit
from foresail_router.decision.price import MOST_RESERVED_NANO, worst_case
from foresail_router.decision.types import Candidate, NeutralRequest
from foresail_sidecar.ledger.interface import Claim


@value
class Offer:
    """A candidate that could answer for `wanted` nano-dollars at worst, and usefully for no less than `least`, at one upstream.

    Both are 0 for what costs nothing, and where no bound can be given (which only observed budgets let pass). `claims` are what it takes
    of the upstream's limits.
    """

    candidate: Candidate
    model: SnapshotModel
    wanted: int
    least: int
    overdraws: bool = False
    upstream: str = ""
    claims: tuple[Claim, ...] = ()


def offer_of(
    request: NeutralRequest,
    model: SnapshotModel,
    candidate: Candidate,
    *,
    overdraws: bool = False,
    upstream: str = "",
    claims: tuple[Claim, ...] = (),
) -> Offer:
    """Return what `candidate` would reserve for `request`; the cheapest of all candidates is the one that overdraws."""
    price, bound, wanted = model.price, candidate.input_bound, candidate.worst_case
    if price is None or bound is None or wanted is None:
        return Offer(candidate, model, 0, 0, overdraws, upstream, claims)
    least = least_useful_limit(request, model, candidate.output_limit)
    if candidate.estimate is not None:
        # An answer that is sure to be cut off is not worth its money.
        least = max(least, min(candidate.output_limit, ceil(candidate.estimate.output_tokens_p50)))
    wanted = min(wanted, MOST_RESERVED_NANO)
    least_worst = min(wanted, worst_case(price, bound, request.choices, least))
    return Offer(candidate, model, wanted, least_worst, overdraws, upstream, claims)


def granted(request: NeutralRequest, offer: Offer, amount: int) -> Candidate:
    """Return the candidate with its output limit lowered so that `amount` nano-dollars cover its worst case."""
    if amount >= offer.wanted:
        return offer.candidate
    return capped(request, offer.model, offer.candidate, amount)

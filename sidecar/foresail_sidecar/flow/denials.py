"""What a ledger's answer says of offers that it did not take: which were left out and why, whether to wait, what to refuse with.

Owns the order between budgets and limits of upstreams where both leave no room. It must not know HTTP or attempts. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from foresail_api.reasons import Elimination
from foresail_sidecar.flow.budgets import BudgetRefusal, Budgets, budget_refusal, is_exhausted, shortages_by_option
from foresail_sidecar.flow.limits import LimitRefusal, has_room_within, limit_refusal
from foresail_sidecar.flow.offers import Offer
from foresail_sidecar.ledger.interface import Claim, Denied, Granted, Measure, Shortage

Refusal = BudgetRefusal | LimitRefusal


def refusal_of(denied: Denied, budgets: Budgets, tenant: str, offers: Sequence[Offer]) -> Refusal:
    """Return what a denial means. A limit of an upstream comes before money, because it has room again within a minute."""
    now, by_option = denied.now_ms, shortages_by_option(denied)
    limited = [
        limit_refusal(offers[option], shortages, now)
        for option, shortages in by_option.items()
        if not any(map(_of_money, shortages))
    ]
    passing = [refusal for refusal in limited if not refusal.never_fits]
    if passing:
        return min(passing, key=lambda refusal: refusal.retry_after_seconds)
    money = tuple(filter(_of_money, denied.shortages))
    return budget_refusal(replace(denied, shortages=money), budgets, tenant) if money else limited[0]


def is_worth_waiting(denied: Denied, milliseconds: int) -> bool:
    """Return whether some offer may fit that soon, for all that it lacks is held by requests under way or leaves its window."""
    return any(
        all(
            not is_exhausted(each) if _of_money(each) else has_room_within(each, milliseconds, denied.now_ms)
            for each in shortages
        )
        for shortages in shortages_by_option(denied).values()
    )


def refused_models(denied: Denied, offers: Sequence[Offer]) -> Mapping[str, Elimination]:
    """Return why each model was left out by a denial: for a limit where at one of its upstreams nothing else was short."""
    reasons: dict[str, Elimination] = {}
    for option, shortages in shortages_by_option(denied).items():
        model = offers[option].candidate.model
        if not any(map(_of_money, shortages)):
            reasons[model] = Elimination.RATE_LIMITED
        else:
            reasons.setdefault(model, Elimination.OVER_BUDGET)
    return reasons


def passed_over(granted: Granted, claims: Sequence[Claim], offers: Sequence[Offer]) -> Mapping[str, Elimination]:
    """Return why the models before the one that was taken were left out; `claims` are those of the budgets."""
    taken = offers[granted.option]
    return {
        offer.candidate.model: Elimination.OVER_BUDGET
        if _lacked_money(granted, claims, offer)
        else Elimination.RATE_LIMITED
        for offer in offers[: granted.option]
        if offer.candidate.model != taken.candidate.model
    }


def _lacked_money(granted: Granted, claims: Sequence[Claim], offer: Offer) -> bool:
    """Return whether some budget had less left than the offer needs, before the reservation that `granted` already counts."""
    if not offer.claims:
        return True
    usages = {usage.account: usage for usage in granted.usages}
    for claim in claims:
        usage = usages.get(claim.account)
        if usage is None or not claim.enforced:
            continue
        most = claim.limit + (claim.overdraft if offer.overdraws else 0)
        if most - usage.spent - usage.reserved + granted.amount < offer.least:
            return True
    return False


def _of_money(shortage: Shortage) -> bool:
    return shortage.measure == Measure.MONEY

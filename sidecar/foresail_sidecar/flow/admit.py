"""Lets an attempt through only with a reservation of every budget: clamped, with another candidate, after a short wait, or not.

Owns that order, what happens without a ledger, and the settlement of what was reserved. It must not know HTTP or upstreams.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from foresail_router.decision.types import Candidate, NeutralRequest
from foresail_sidecar.flow.budgets import BudgetRefusal, Budgets, RefusalReason, refusal_of
from foresail_sidecar.flow.offers import Offer, granted
from foresail_sidecar.flow.settle import Settlement
from foresail_sidecar.ledger.client import LedgerClient
from foresail_sidecar.ledger.interface import MOST_OPTIONS, Denied, Granted, LedgerClosed, LedgerError, Option, Receipt

RELEASED: Final = "Released"
# Together the longest wait for money that requests in flight hold.
_WAITS_SECONDS: Final = (0.025, 0.05, 0.1, 0.2, 0.2, 0.2, 0.2)
_MOST_WAITING: Final = 256
_MOST_CLOSED_SECONDS: Final = 60


class BudgetRefused(Exception):
    """No offer may be taken now."""

    def __init__(self, refusal: BudgetRefusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one attempt holds in a ledger, to be settled exactly once."""

    ledger: LedgerClient
    receipt: Receipt

    def settle(self, settlement: Settlement | None) -> None:
        """Turn it into spend, or give it back where nothing was generated. Never blocks, never raises."""
        cost = 0 if settlement is None else settlement.cost or 0
        basis = RELEASED if settlement is None else settlement.basis.value
        self.ledger.settle(self.receipt, tuple(cost for _ in self.receipt.entries), basis)


@dataclass(frozen=True, slots=True)
class Admitted:
    """The offer that was taken, its candidate under the limit that the reservation covers, and that reservation.

    `reservation` is None where nothing needs one, or no ledger was there to ask. `skipped` says that an attempt goes on without the ledger's
    consent. `passed_over` are the models before it that some budget had no room for.
    """

    offer: Offer
    candidate: Candidate
    reservation: Reservation | None = None
    skipped: bool = False
    passed_over: tuple[str, ...] = ()


class Admission:
    """Admits the attempts of one process. Only so many of them wait at once; one more is refused without waiting."""

    def __init__(self, randomness: Callable[[], float] = random.random) -> None:
        self._randomness = randomness
        self._waiting = 0

    async def admit(
        self,
        ledger: LedgerClient | None,
        budgets: Budgets,
        tenant: str,
        request: NeutralRequest,
        offers: Sequence[Offer],
        attempt_id: str,
    ) -> Admitted:
        """Return the first offer that every budget has room for; raise `BudgetRefused` where none has."""
        offers = offers[:MOST_OPTIONS]
        if not budgets:
            return Admitted(offers[0], offers[0].candidate)
        if ledger is None:
            return _without_ledger(None, budgets, tenant, offers, attempt_id, None)
        try:
            answer = await self._reserve(ledger, budgets, tenant, offers, attempt_id)
        except LedgerError as error:
            return _without_ledger(ledger, budgets, tenant, offers, attempt_id, error)
        offer = offers[answer.option]
        passed_over = tuple(other.candidate.model for other in offers[: answer.option])
        return Admitted(
            offer, granted(request, offer, answer.amount), Reservation(ledger, answer.receipt), passed_over=passed_over
        )

    async def _reserve(
        self, ledger: LedgerClient, budgets: Budgets, tenant: str, offers: Sequence[Offer], attempt_id: str
    ) -> Granted:
        options = tuple(Option(offer.wanted, offer.least, offer.overdraws) for offer in offers)
        claims = partial(budgets.claims, tenant)
        answer = await ledger.reserve(attempt_id, claims, options)
        for seconds in _WAITS_SECONDS:
            if isinstance(answer, Granted):
                return answer
            await self._wait(seconds, refusal_of(answer, budgets, tenant))
            answer = await ledger.reserve(attempt_id, claims, options)
        if isinstance(answer, Denied):
            raise BudgetRefused(refusal_of(answer, budgets, tenant))
        return answer

    async def _wait(self, seconds: float, refusal: BudgetRefusal) -> None:
        """Wait a moment for what is reserved; raise `BudgetRefused` where waiting cannot help, or too many do."""
        if refusal.reason != RefusalReason.RESERVED or self._waiting >= _MOST_WAITING:
            raise BudgetRefused(refusal)
        self._waiting += 1
        try:
            await asyncio.sleep(seconds * (1 + self._randomness()) / 2)
        finally:
            self._waiting -= 1


def _without_ledger(
    ledger: LedgerClient | None,
    budgets: Budgets,
    tenant: str,
    offers: Sequence[Offer],
    attempt_id: str,
    error: LedgerError | None,
) -> Admitted:
    if not budgets.enforced or budgets.fail_open:
        offer = offers[0]
        if ledger is None:
            return Admitted(offer, offer.candidate, skipped=True)
        receipt = ledger.unreserved(attempt_id, budgets.claims(tenant, ledger.now_ms()))
        return Admitted(offer, offer.candidate, Reservation(ledger, receipt), skipped=True)
    for offer in offers:
        if offer.model.price is not None and offer.wanted == 0:
            return Admitted(offer, offer.candidate)
    if isinstance(error, LedgerClosed):
        seconds = min(_MOST_CLOSED_SECONDS, max(1, round(error.opens_in_seconds + 0.5)))
        raise BudgetRefused(BudgetRefusal(RefusalReason.CLOSED, seconds))
    raise BudgetRefused(BudgetRefusal(RefusalReason.UNAVAILABLE))

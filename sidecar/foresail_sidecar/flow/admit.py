"""Lets an attempt through only with a reservation of every budget and of its upstream's limits: clamped, elsewhere, after a short wait, or not.

Owns that order, what happens without a ledger, and the settlement of what was reserved. It must not know HTTP or upstreams.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from functools import partial
from typing import Final

from foresail_api.reasons import Elimination
from foresail_api.values import value
from foresail_router.decision.types import Candidate, NeutralRequest
from foresail_sidecar.flow.budgets import Budgets, ledger_refusal
from foresail_sidecar.flow.denials import Refusal, is_worth_waiting, passed_over, refusal_of, refused_models
from foresail_sidecar.flow.offers import Offer, granted
from foresail_sidecar.flow.settle import Settlement
from foresail_sidecar.ledger.client import LedgerClient
from foresail_sidecar.ledger.interface import (
    MOST_OPTIONS,
    Denied,
    Granted,
    LedgerError,
    Measure,
    Option,
    Receipt,
)

RELEASED: Final = "Released"
# Together the longest wait for what requests in flight hold.
_WAITS_SECONDS: Final = (0.025, 0.05, 0.1, 0.2, 0.2, 0.2, 0.2)
_LONGEST_WAIT_MS: Final = 1000
MOST_WAITING: Final = 256


class NotAdmitted(Exception):
    """No offer may be taken now. `left_out` says of models why not."""

    def __init__(self, refusal: Refusal, left_out: Mapping[str, Elimination] | None = None) -> None:
        super().__init__("no offer may be taken now")
        self.refusal = refusal
        self.left_out = left_out or {}


@value
class Reservation:
    """What one attempt holds in a ledger, to be settled exactly once."""

    ledger: LedgerClient
    receipt: Receipt

    def settle(self, settlement: Settlement | None, *, sent: bool = True) -> None:
        """Turn it into spend, or give it back where nothing was generated. Never blocks, never raises.

        `sent` says that the upstream may have counted the request, whatever it made of it.
        """
        amounts = tuple([_settled(entry.measure, settlement, sent=sent) for entry in self.receipt.entries])
        self.ledger.settle(self.receipt, amounts, RELEASED if settlement is None else settlement.basis.value)


@value
class Admitted:
    """The number of the offer that was taken, its candidate under the limit that the reservation covers, and that reservation.

    `reservation` is None where nothing needs one, or no ledger was there to ask. `skipped` says that an attempt goes on without the ledger's
    consent. `left_out` says of the models before it what there was no room in.
    """

    number: int
    candidate: Candidate
    reservation: Reservation | None = None
    skipped: bool = False
    left_out: Mapping[str, Elimination] = field(default_factory=dict)


class Admission:
    """Admits the attempts of one process. Only so many of them wait at once; one more is refused without waiting."""

    def __init__(self, randomness: Callable[[], float] = random.random, most_waiting: int = MOST_WAITING) -> None:
        self._randomness = randomness
        self._most_waiting = most_waiting
        self._waiting = 0
        # Whether the first offer was too much the last time, so that the others are asked for at once.
        self._scarce = False

    async def admit(
        self,
        ledger: LedgerClient | None,
        budgets: Budgets,
        tenant: str,
        request: NeutralRequest,
        offers: Sequence[Offer],
        attempt_id: str,
    ) -> Admitted:
        """Return the first offer for which every budget and its upstream's limits have room; raise `NotAdmitted` where there is none.

        While there is room for first offers, the others are not even looked at.
        """
        if not budgets and not offers[0].claims:
            return Admitted(0, offers[0].candidate)
        if ledger is None:
            return _without_ledger(None, budgets, tenant, offers, attempt_id, None)
        reserve = partial(ledger.reserve, attempt_id, partial(budgets.claims, tenant))
        answer: Granted | Denied | None = None
        try:
            if not self._scarce:
                answer = await reserve((_option(offers[0]),))
                if isinstance(answer, Granted):
                    candidate = granted(request, offers[0], answer.amount)
                    return Admitted(0, candidate, Reservation(ledger, answer.receipt))
                self._scarce = True
            asked_for = _asked_for(offers)
            asked = [offers[number] for number in asked_for]
            options = tuple([_option(offer) for offer in asked])
            if answer is None or len(options) > 1:
                answer = await reserve(options)
            answer = await self._with_waits(answer, partial(reserve, options))
        except LedgerError as error:
            return _without_ledger(ledger, budgets, tenant, offers, attempt_id, error)
        if isinstance(answer, Denied):
            raise NotAdmitted(refusal_of(answer, budgets, tenant, asked), refused_models(answer, asked))
        self._scarce = answer.option > 0
        candidate = granted(request, asked[answer.option], answer.amount)
        left_out = passed_over(answer, budgets.claims(tenant, answer.now_ms), asked) if answer.option else {}
        number = asked_for[answer.option]
        return Admitted(number, candidate, Reservation(ledger, answer.receipt), left_out=left_out)

    async def _with_waits(
        self, answer: Granted | Denied, reserve: Callable[[], Awaitable[Granted | Denied]]
    ) -> Granted | Denied:
        for seconds in _WAITS_SECONDS:
            if isinstance(answer, Granted) or self._waiting >= self._most_waiting:
                break
            if not is_worth_waiting(answer, _LONGEST_WAIT_MS):
                break
            await self._wait(seconds)
            answer = await reserve()
        return answer

    async def _wait(self, seconds: float) -> None:
        self._waiting += 1
        try:
            await asyncio.sleep(seconds * (1 + self._randomness()) / 2)
        finally:
            self._waiting -= 1


def _option(offer: Offer) -> Option:
    return Option(offer.wanted, offer.least, offer.overdraws, offer.claims)


def _settled(measure: Measure, settlement: Settlement | None, *, sent: bool) -> int:
    if measure == Measure.REQUESTS:
        return int(sent)
    if settlement is None or measure == Measure.SLOTS:
        return 0
    return settlement.cost or 0 if measure == Measure.MONEY else settlement.input_tokens + settlement.output_tokens


def _asked_for(offers: Sequence[Offer]) -> Sequence[int]:
    """Return the numbers of the offers that a ledger is asked for: all, or of too many the first ones and two that it may still take
    when none of those fits: the one that overdraws, and the one that needs least.
    """
    if len(offers) <= MOST_OPTIONS:
        return range(len(offers))
    first, others = range(MOST_OPTIONS - 2), range(MOST_OPTIONS - 2, len(offers))
    overdraws = next((number for number in others if offers[number].overdraws), others[0])
    rest = [number for number in others if number != overdraws]
    return [*first, *sorted((overdraws, min(rest, key=lambda number: offers[number].least)))]


def _without_ledger(
    ledger: LedgerClient | None,
    budgets: Budgets,
    tenant: str,
    offers: Sequence[Offer],
    attempt_id: str,
    error: LedgerError | None,
) -> Admitted:
    if not budgets.enforced or budgets.fail_open:
        candidate = offers[0].candidate
        if ledger is None:
            return Admitted(0, candidate, skipped=True)
        claims = (*budgets.claims(tenant, ledger.now_ms()), *offers[0].claims)
        return Admitted(0, candidate, Reservation(ledger, ledger.unreserved(attempt_id, claims)), skipped=True)
    for number, offer in enumerate(offers):
        if offer.model.price is not None and offer.wanted == 0:
            return Admitted(number, offer.candidate)
    raise NotAdmitted(ledger_refusal(error))

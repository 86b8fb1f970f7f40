"""The attempts of one request: at which upstreams, in which order, how many, and how much each may still cost.

Owns the loop over attempts, what it says of upstreams' health, and the cap on the sum. It must not know how an answer is relayed,
nor what a failure is; the table of failures says what follows.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

from aiohttp import web

from foresail_api.reasons import Elimination
from foresail_router.decision.conditions import effective_cap
from foresail_router.decision.eliminate import capped
from foresail_router.decision.objective import by_cost
from foresail_router.decision.types import Candidate
from foresail_sidecar.flow.admit import BudgetRefused, Reservation
from foresail_sidecar.flow.failures import RULES, Failure, Place, Step, next_places
from foresail_sidecar.flow.offers import offer_of
from foresail_sidecar.flow.record import (
    Exchange,
    record_admission,
    record_budget_refusal,
    record_ejection,
    record_retry,
)
from foresail_sidecar.flow.retries import backoff_seconds
from foresail_sidecar.fronts.http import errors, limit_errors, upstream_errors
from foresail_sidecar.fronts.http.context import Context
from foresail_sidecar.fronts.http.deciding import Considered
from foresail_sidecar.fronts.http.errors import Problem, Refused
from foresail_sidecar.fronts.http.forward import Forwarding
from foresail_sidecar.fronts.http.upstream_errors import AttemptFailed
from foresail_sidecar.upstreams.targets import Target

# The longest pause after which a request asks the upstream again that asked for it.
_LONGEST_WAIT_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Chance:
    """A place that can be asked now, and the candidate with the output limit that the rest of the cap leaves."""

    place: Place
    candidate: Candidate
    target: Target
    reservation: Reservation | None = None


def refused(context: Context, considered: Considered) -> Problem:
    """Return the problem of a decision that no model may answer."""
    served, decision = considered.served, considered.decision
    ill = [candidate.model for candidate in decision.candidates if candidate.elimination == Elimination.UNHEALTHY]
    keys = [served.targets[place].key for model in ill for place in served.places[model]]
    return errors.refusal(decision, context.health.seconds_until_available(keys))


class Attempts:
    """The attempts of one request, one after the other."""

    def __init__(self, context: Context, exchange: Exchange, considered: Considered, forwarding: Forwarding) -> None:
        self._context = context
        self._exchange = exchange
        self._considered = considered
        self._forwarding = forwarding
        self._policy = considered.served.policy
        self._snapshot = self._policy.state.snapshot
        self._began = asyncio.get_running_loop().time()
        self._unreached: dict[str, dict[str, str]] = {}

    async def run(self) -> web.StreamResponse:
        """Return the finished response; raise `Refused` with what went wrong at last, `ClientLeft`, or `CancelledError`."""
        fallback = self._snapshot.fallback
        self._context.retries.request(fallback.retry_budget_percent)
        places: Sequence[Place] = self._places()
        chances = self._chances(places)
        if not chances:
            raise Refused(self._nobody_healthy(places))
        try:
            chance = await self._admitted(chances)
        except BudgetRefused as refused_by_budget:
            self._note_refusal(refused_by_budget, chances)
            raise Refused(limit_errors.refusal(refused_by_budget.refusal)) from None
        number = 1
        while True:
            try:
                return await self._attempt(chance)
            except AttemptFailed as caught:
                failed = caught
            problem = self._problem(chance.place, failed)
            if number >= fallback.max_attempts:
                raise Refused(problem)
            step = RULES[failed.failure].step
            places = next_places(step, chance.place, places, other_models=fallback.other_models)
            chances = () if step == Step.RETURN else await self._following(chance, failed, places, number)
            if not chances:
                raise Refused(problem)
            try:
                following = await self._admitted(chances)
            except BudgetRefused as refused_by_budget:
                # What failed says more than that no money is left for another attempt.
                self._note_refusal(refused_by_budget, chances)
                raise Refused(problem) from None
            record_retry(self._context.memory, self._exchange, failed.failure, following.candidate)
            chance, number = following, number + 1

    def _places(self) -> tuple[Place, ...]:
        order = self._considered.decision.order
        # Which of the candidates a budget has room for is no question of failures.
        models = order if self._snapshot.fallback.other_models or self._policy.budgets else order[:1]
        return tuple(place for model in models for place in self._considered.served.places[model])

    def _chances(self, places: Sequence[Place]) -> Sequence[_Chance]:
        """Return the places that are healthy, have time left, and whose model the rest of the cap affords.

        Without budgets the first one is enough; else it is the first one of each model, for they all cost the same.
        """
        found: dict[str, _Chance] = {}
        now = asyncio.get_running_loop().time()
        for place in places:
            if place.model in found:
                continue
            target = self._considered.served.targets[place]
            if not self._context.health.available(target.key) or now >= self._began + target.timeouts.total:
                continue
            candidate = self._affordable(place.model)
            if candidate is not None:
                found[place.model] = _Chance(place, candidate, target)
                if not self._policy.budgets:
                    break
        return tuple(found.values())

    def _note_refusal(self, refused_by_budget: BudgetRefused, chances: Sequence[_Chance]) -> None:
        models = [chance.place.model for chance in chances]
        record_budget_refusal(self._exchange, refused_by_budget.refusal, models)

    async def _admitted(self, chances: Sequence[_Chance]) -> _Chance:
        """Return the first chance that every budget has room for, reserved; raise `BudgetRefused` if there is none."""
        budgets, exchange = self._policy.budgets, self._exchange
        if not budgets:
            return chances[0]
        request, decision = self._considered.parsed.neutral, self._considered.decision
        eligible = [candidate for candidate in decision.candidates if candidate.model in decision.order]
        cheapest = by_cost(eligible)[0].model
        by_model = {chance.place.model: chance for chance in chances}
        offers = [
            offer_of(request, model, chance.candidate, overdraws=chance.place.model == cheapest)
            for chance in chances
            if (model := self._snapshot.model(chance.place.model)) is not None
        ]
        admitted = await self._context.admission.admit(
            self._context.ledgers.of(self._policy.state),
            budgets,
            exchange.tenant or "",
            request,
            offers,
            exchange.attempts.next_id,
        )
        record_admission(self._context.memory, exchange, admitted)
        chance = by_model[admitted.candidate.model]
        return replace(chance, candidate=admitted.candidate, reservation=admitted.reservation)

    def _affordable(self, name: str) -> Candidate | None:
        """Return the decision's candidate, its limit lowered to what earlier attempts left of the cap; None if that is too little."""
        decision, request = self._considered.decision, self._considered.parsed.neutral
        candidate = next(candidate for candidate in decision.candidates if candidate.model == name)
        cap, spent = effective_cap(self._snapshot, self._considered.limits), self._exchange.cost or 0
        model = self._snapshot.model(name)
        if cap is None or not spent or model is None:
            return candidate
        lowered = capped(request, model, candidate, max(0, cap - spent))
        if lowered.elimination is not None:
            return None
        expected = 0 if candidate.estimate is None else ceil(candidate.estimate.output_tokens)
        return None if lowered.output_limit < min(expected, candidate.output_limit) else lowered

    async def _attempt(self, chance: _Chance) -> web.StreamResponse:
        health, target = self._context.health, chance.target
        health.asked(target.key)
        try:
            deadline = self._began + target.timeouts.total
            response = await self._forwarding.attempt(
                self._considered, chance.candidate, target, deadline, chance.reservation
            )
        except AttemptFailed as failed:
            self._note(chance, failed)
            raise
        except BaseException:
            health.ended(target.key)
            raise
        health.answered(target.key)
        return response

    def _note(self, chance: _Chance, failed: AttemptFailed) -> None:
        health, rule, key = self._context.health, RULES[failed.failure], chance.target.key
        if rule.pauses and failed.pause_seconds is not None:
            health.pause(key, failed.pause_seconds)
        if not rule.unhealthy:
            health.ended(key)
            return
        detection = self._snapshot.outlier_detection
        ejected = health.failed(
            key, ejected_after=detection.consecutive_failures, ejection_seconds=detection.ejection_seconds
        )
        if ejected:
            record_ejection(self._context.memory, chance.place.model, chance.place.upstream)

    async def _following(
        self, chance: _Chance, failed: AttemptFailed, places: Sequence[Place], number: int
    ) -> Sequence[_Chance]:
        """Return where to go after a failure, nothing if nowhere. Waits only for an upstream that asked for a short pause and is the last place."""
        following = self._chances(places)
        pause = failed.pause_seconds or 0.0
        waits = not following and failed.failure == Failure.RATE_LIMITED and pause <= _LONGEST_WAIT_SECONDS
        if not following and not waits:
            return ()
        # Where nothing was sent, a retry adds nothing to the load that the budget bounds.
        free = failed.failure == Failure.UNREACHABLE
        if not free and not self._context.retries.take(self._snapshot.fallback.retry_budget_percent):
            return ()
        if following:
            return following
        await asyncio.sleep(pause + backoff_seconds(number, random.random))
        return self._chances((chance.place,))

    def _problem(self, place: Place, failed: AttemptFailed) -> Problem:
        if failed.failure != Failure.UNREACHABLE:
            return failed.problem
        unreached = self._unreached.setdefault(place.model, {})
        unreached[place.upstream] = failed.detail
        return upstream_errors.unreachable(place.model, unreached)

    def _nobody_healthy(self, places: Sequence[Place]) -> Problem:
        keys = [self._considered.served.targets[place].key for place in places]
        models = ", ".join(dict.fromkeys(place.model for place in places))
        message = (
            f"no upstream of {models} is available: they failed repeatedly or asked to be left alone; try again later"
        )
        return errors.no_healthy_upstream(message, self._context.health.seconds_until_available(keys))

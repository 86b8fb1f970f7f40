"""The attempts of one request: at which upstreams, in which order, how many, and how much each may still cost.

Owns the loop over attempts, what it says of upstreams' health, and the cap on the sum. It must not know how an answer is relayed,
nor what a failure is; the table of failures says what follows.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from math import ceil
from typing import Final

from aiohttp import web

from foresail_api.reasons import Elimination
from foresail_api.snapshot import SnapshotModel
from foresail_api.values import value
from foresail_router.decision.conditions import effective_cap
from foresail_router.decision.eliminate import capped
from foresail_router.decision.objective import by_cost
from foresail_router.decision.types import Candidate
from foresail_sidecar.flow.admit import NotAdmitted, Reservation
from foresail_sidecar.flow.failures import RULES, Failure, Place, Step, next_places
from foresail_sidecar.flow.lazily import Lazily
from foresail_sidecar.flow.offers import Offer, offer_of
from foresail_sidecar.flow.record import (
    Exchange,
    record_admission,
    record_ejection,
    record_not_admitted,
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
# Each of them waits at most about a second, in which upstreams may begin to fail.
_MOST_ADMISSIONS: Final = 3


@value
class _Chance:
    """A place that can be asked now, and the candidate with the output limit that the rest of the cap leaves."""

    place: Place
    model: SnapshotModel
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
        try:
            chance = await self._admitted_in_time(self._chances(places), places)
        except NotAdmitted as said_no:
            record_not_admitted(self._exchange, said_no.refusal, said_no.left_out)
            raise Refused(limit_errors.refusal(said_no.refusal)) from None
        if chance is None:
            raise Refused(self._nobody_healthy(places))
        number = 1
        while True:
            try:
                return await self._attempt(chance)
            except AttemptFailed as caught:
                # With its traceback it would know this frame that knows it, and what the attempt held would stay.
                failed = caught.with_traceback(None)
            problem = self._problem(chance.place, failed)
            if number >= fallback.max_attempts:
                raise Refused(problem)
            step = RULES[failed.failure].step
            places = next_places(step, chance.place, places, other_models=fallback.other_models)
            chances = () if step == Step.RETURN else await self._following(chance, failed, places, number)
            try:
                following = await self._admitted_in_time(chances, places)
            except NotAdmitted as said_no:
                # What failed says more than that there is no room for another attempt.
                record_not_admitted(self._exchange, said_no.refusal, said_no.left_out)
                raise Refused(problem) from None
            if following is None:
                raise Refused(problem)
            record_retry(self._context.memory, self._exchange, failed.failure, following.candidate)
            chance, number = following, number + 1

    def _places(self) -> tuple[Place, ...]:
        order = self._considered.decision.order
        # Which of the candidates a budget or a limit has room for is no question of failures.
        policy = self._policy
        models = order if self._snapshot.fallback.other_models or policy.budgets or policy.limits else order[:1]
        return tuple(place for model in models for place in self._considered.served.places[model])

    def _chances(self, places: Sequence[Place]) -> Sequence[_Chance]:
        return Lazily(self._found(places))

    def _found(self, places: Sequence[Place]) -> Iterator[_Chance]:
        """Yield the places that are healthy, have time left, and whose model the rest of the cap affords.

        Behind an upstream without limits no other one of its model is needed, for they all cost the same, and without budgets nobody
        at all.
        """
        enough: set[str] = set()
        now = asyncio.get_running_loop().time()
        for place in places:
            if place.model in enough:
                continue
            target = self._considered.served.targets[place]
            if not self._can_be_asked(target, now):
                continue
            candidate, model = self._affordable(place.model), self._snapshot.model(place.model)
            if candidate is None or model is None:
                continue
            yield _Chance(place, model, candidate, target)
            if not self._policy.limits.apply_to(place.model, place.upstream):
                enough.add(place.model)
                if not self._policy.budgets:
                    return

    def _can_be_asked(self, target: Target, now: float) -> bool:
        return self._context.health.available(target.key) and now < self._began + target.timeouts.total

    async def _admitted_in_time(self, chances: Sequence[_Chance], places: Sequence[Place]) -> _Chance | None:
        """Return what `_admitted` does if it can still be asked after the wait for it, else another one; None if nothing is left."""
        now = asyncio.get_running_loop().time
        for _ in range(_MOST_ADMISSIONS):
            if not chances:
                break
            chance = await self._admitted(chances)
            if self._can_be_asked(chance.target, now()):
                return chance
            if chance.reservation is not None:
                chance.reservation.settle(None, sent=False)
                self._exchange.attempts.next_given_up()
            chances = self._chances(places)
        return None

    async def _admitted(self, chances: Sequence[_Chance]) -> _Chance:
        """Return the first chance for which budgets and limits have room, reserved; raise `NotAdmitted` if there is none."""
        budgets, exchange, first = self._policy.budgets, self._exchange, chances[0].place
        if not budgets and not self._policy.limits.apply_to(first.model, first.upstream):
            return chances[0]
        admitted = await self._context.admission.admit(
            self._context.ledgers.of(self._policy.state),
            budgets,
            exchange.tenant or "",
            self._considered.parsed.neutral,
            Lazily(self._offers(chances)),
            exchange.attempts.next_id,
        )
        record_admission(self._context.memory, exchange, admitted)
        chance = chances[admitted.number]
        return _Chance(chance.place, chance.model, admitted.candidate, chance.target, admitted.reservation)

    def _offers(self, chances: Sequence[_Chance]) -> Iterator[Offer]:
        request, decision = self._considered.parsed.neutral, self._considered.decision
        overdraws = None
        if self._policy.budgets.overdraw:
            eligible = [candidate for candidate in decision.candidates if candidate.model in decision.order]
            overdraws = by_cost(eligible)[0].model
        for chance in chances:
            place, candidate = chance.place, chance.candidate
            yield offer_of(
                request,
                chance.model,
                candidate,
                overdraws=place.model == overdraws,
                upstream=place.upstream,
                claims=self._policy.limits.claims(request, candidate, place.upstream),
            )

    def _affordable(self, name: str) -> Candidate | None:
        """Return the decision's candidate, its limit lowered to what earlier attempts left of the cap; None if that is too little."""
        decision, request = self._considered.decision, self._considered.parsed.neutral
        candidate = next(candidate for candidate in decision.candidates if candidate.model == name)
        spent = self._exchange.cost if self._exchange.settled else 0
        if not spent:
            return candidate
        cap, model = effective_cap(self._snapshot, self._considered.limits), self._snapshot.model(name)
        if cap is None or model is None:
            return candidate
        lowered = capped(request, model, candidate, max(0, cap - spent))
        if lowered.elimination is not None:
            return None
        expected = 0 if candidate.estimate is None else ceil(candidate.estimate.output_tokens_p50)
        return None if lowered.output_limit < min(expected, candidate.output_limit) else lowered

    async def _attempt(self, chance: _Chance) -> web.StreamResponse:
        health, target = self._context.health, chance.target
        health.asked(target.key)
        try:
            deadline = self._began + target.timeouts.total
            response = await self._forwarding.attempt(chance.candidate, target, deadline, chance.reservation)
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

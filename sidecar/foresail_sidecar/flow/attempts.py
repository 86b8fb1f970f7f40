"""The attempts of one request, as its front end announces them, and what each one used.

Owns their identities and that each one ends once. It must not know connections, nor what an attempt costs.
"""

from __future__ import annotations

from foresail_api.values import value
from foresail_router.decision.counts import TokenCounts
from foresail_sidecar.flow.outcomes import AttemptOutcome


@value
class Attempt:
    """One forwarding of the request. `id` is the key under which it is reserved and settled, however often that is said."""

    id: str
    model: str
    upstream: str


@value
class Used:
    """What an attempt used, as far as it is known.

    `usage` is the upstream's report, or None without one. `generated_bytes` counts what came of the answer; `streamed` says that the
    upstream had begun a stream, so that what was generated is what came.
    """

    usage: TokenCounts | None = None
    generated_bytes: int = 0
    streamed: bool = False


@value
class EndedAttempt:
    """An attempt with its end."""

    attempt: Attempt
    outcome: AttemptOutcome
    used: Used


class AttemptLog:
    """Collects the attempts of one request, in order. Their ids are the request's with a number."""

    def __init__(self, request_id: str) -> None:
        self.ended: list[EndedAttempt] = []
        self._request_id = request_id
        self._started = 0

    @property
    def next_id(self) -> str:
        """The id that the next attempt will have, under which it can be reserved before it starts."""
        return f"{self._request_id}-{self._started + 1}"

    def next_given_up(self) -> None:
        """Note that what was reserved under the next id was given back; another one is used from now on."""
        self._started += 1

    def attempt_started(self, model: str, upstream: str) -> Attempt:
        """Announce an attempt before anything of it is sent."""
        attempt = Attempt(self.next_id, model, upstream)
        self._started += 1
        return attempt

    def attempt_ended(self, attempt: Attempt, outcome: AttemptOutcome, used: Used | None = None) -> EndedAttempt:
        """Announce its end, once; a second announcement of the same attempt changes nothing."""
        for known in self.ended:
            if known.attempt.id == attempt.id:
                return known
        ended = EndedAttempt(attempt, outcome, used or Used())
        self.ended.append(ended)
        return ended

"""One attempt as this front end announces it to the flow: begun, read by an answer's machine, ended once.

It must not know what a client is told.
"""

from __future__ import annotations

from foresail_router.decision.types import Candidate
from foresail_sidecar.flow.admit import Reservation
from foresail_sidecar.flow.attempts import Used
from foresail_sidecar.flow.outcomes import NOTHING_SENT, AttemptOutcome
from foresail_sidecar.flow.record import Exchange, Memory, record_attempt
from foresail_sidecar.protocols.answers import AnswerMachine


class AnnouncedAttempt:
    """An attempt from before anything of it is sent. `machine` is there as soon as an answer has begun, `streamed` or in one piece.

    `id` is the key of its settlement, which also ends its reservation.
    """

    def __init__(
        self,
        memory: Memory,
        exchange: Exchange,
        candidate: Candidate,
        upstream: str,
        reservation: Reservation | None = None,
    ) -> None:
        self.machine: AnswerMachine | None = None
        self.streamed = False
        self._sent = False
        self._memory = memory
        self._exchange = exchange
        self._attempt = exchange.attempts.attempt_started(candidate.model, upstream)
        self._ended = False
        self._reservation = reservation
        exchange.asked = candidate
        self.id = self._attempt.id

    def sending(self) -> None:
        """Announce that the request goes out now: from here on the upstream may bill it."""
        self._sent = True

    def end(self, outcome: AttemptOutcome) -> None:
        """Announce the end and settle it; only the first call counts."""
        if self._ended:
            return
        self._ended = True
        if not self._sent and outcome not in NOTHING_SENT:
            outcome = AttemptOutcome.ABANDONED
        ended = self._exchange.attempts.attempt_ended(self._attempt, outcome, self._used())
        settlement = record_attempt(self._memory, self._exchange, ended)
        if self._reservation is not None:
            self._reservation.settle(settlement, sent=outcome not in NOTHING_SENT)

    def _used(self) -> Used:
        machine = self.machine
        if machine is None:
            return Used()
        # Of an answer that comes in one piece at its end, an incomplete part says nothing about what was generated.
        return Used(machine.usage, machine.output_bytes, self.streamed)

"""What is remembered of each request: metrics, the calibration of input counts, one line of the decision log.

Owns what is recorded when. It must not know connections. Nothing recorded holds a prompt, an answer or a credential.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from foresail_api.reasons import Elimination, SettlementBasis
from foresail_api.snapshot import Snapshot
from foresail_router.decision.types import Candidate, Decision, NeutralRequest
from foresail_sidecar.flow.admit import Admitted
from foresail_sidecar.flow.attempts import AttemptLog, EndedAttempt
from foresail_sidecar.flow.budgets import BudgetRefusal
from foresail_sidecar.flow.decide import Decided
from foresail_sidecar.flow.decision_line import decision_line
from foresail_sidecar.flow.denials import Refusal
from foresail_sidecar.flow.failures import Failure
from foresail_sidecar.flow.learned import Calibrator
from foresail_sidecar.flow.limits import LimitRefusal
from foresail_sidecar.flow.outcomes import RequestOutcome
from foresail_sidecar.flow.settle import Settlement, settle, total_cost
from foresail_sidecar.flow.trust import Trust
from foresail_sidecar.telemetry.decision_log import DecisionLog
from foresail_sidecar.telemetry.metrics import NO_MODEL, Metrics

_NANO = 1e9


@dataclass(frozen=True, slots=True)
class Memory:
    """What outlives a request, and every replacement of the configuration."""

    metrics: Metrics
    decision_log: DecisionLog | None = None
    calibrator: Calibrator = field(default_factory=Calibrator)
    trust: Trust = field(default_factory=Trust)


@dataclass(slots=True)
class Exchange:
    """One request from its arrival to its end, as its front end fills it in. Times are in seconds.

    `tenant` is None while nobody knows who calls, and empty for anonymous callers. `settled` holds the settlements by the ids of
    their attempts; `ledger_skipped` says that one was sent without the consent of a ledger that was away; `left_out` says of models
    that were not asked what there was no room in.
    """

    decision_id: str
    tenant: str | None = None
    snapshot: Snapshot | None = None
    request: NeutralRequest | None = None
    decision: Decision | None = None
    settled: dict[str, Settlement] = field(default_factory=dict)
    overhead_seconds: float | None = None
    outcome: RequestOutcome = RequestOutcome.FAILED
    asked: Candidate | None = None
    draining: bool = False
    budget_refusal: BudgetRefusal | None = None
    limit_refusal: LimitRefusal | None = None
    ledger_skipped: bool = False
    left_out: dict[str, Elimination] = field(default_factory=dict)
    attempts: AttemptLog = field(init=False)
    began: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.attempts = AttemptLog(self.decision_id)

    @property
    def chosen(self) -> Candidate | None:
        """The model that was asked last, or else the one that is to be asked, if any is."""
        if self.asked is not None:
            return self.asked
        return None if self.decision is None else self.decision.chosen

    @property
    def cost(self) -> int | None:
        """What has been settled, in nano-dollars; None where the model has no price."""
        return total_cost([*self.settled.values()])


def record_decision(memory: Memory, exchange: Exchange, decided: Decided) -> None:
    """Take a decision into the exchange and count it."""
    exchange.decision = decision = decided.decision
    policy = _policy(exchange)
    if decided.scoring_seconds is not None:
        memory.metrics.scoring_seconds.labels(policy).observe(decided.scoring_seconds)
    basis = "" if decision.basis is None else decision.basis
    memory.metrics.decisions.labels(policy, basis, decision.scoring_error or "").inc()
    for candidate in decision.candidates:
        if candidate.elimination is not None:
            memory.metrics.eliminations.labels(policy, candidate.model, candidate.elimination).inc()


def record_admission(memory: Memory, exchange: Exchange, admitted: Admitted) -> None:
    """Note which models there was no room for, and count an attempt that goes on without the ledger's consent."""
    exchange.left_out |= admitted.left_out
    exchange.left_out.pop(admitted.candidate.model, None)
    if admitted.skipped:
        exchange.ledger_skipped = True
        memory.metrics.ledger_skipped.labels(_policy(exchange)).inc()


def record_not_admitted(exchange: Exchange, refusal: Refusal, left_out: Mapping[str, Elimination]) -> None:
    """Note why nobody could be asked, and of each model what there was no room in."""
    if isinstance(refusal, LimitRefusal):
        exchange.limit_refusal = refusal
    else:
        exchange.budget_refusal = refusal
    exchange.left_out |= left_out


def record_overhead(memory: Memory, exchange: Exchange, seconds: float) -> None:
    """Note how long the request was held before it was forwarded for the first time."""
    if exchange.overhead_seconds is None:
        exchange.overhead_seconds = seconds
        memory.metrics.overhead_seconds.labels(_policy(exchange)).observe(seconds)


def record_first_byte(memory: Memory, exchange: Exchange, model: str, seconds: float) -> None:
    """Count how long the upstream took until there was something to relay."""
    memory.metrics.first_byte_seconds.labels(_policy(exchange), model).observe(seconds)


def record_retry(memory: Memory, exchange: Exchange, failure: Failure, following: Candidate) -> None:
    """Count an attempt that follows a failure, and that another model than before takes over."""
    policy, failed = _policy(exchange), exchange.chosen
    model = NO_MODEL if failed is None else failed.model
    memory.metrics.retries.labels(policy, model, failure).inc()
    if following.model != model:
        memory.metrics.fallbacks.labels(policy, following.model).inc()


def record_ejection(memory: Memory, model: str, upstream: str) -> None:
    """Count an upstream that is left alone from now on because of its failures."""
    memory.metrics.ejections.labels(model, upstream).inc()


def record_attempt(memory: Memory, exchange: Exchange, ended: EndedAttempt) -> Settlement | None:
    """Settle an attempt that has ended and count it; return the settlement, None where nothing was generated."""
    policy, attempt, metrics = _policy(exchange), ended.attempt, memory.metrics
    metrics.attempts.labels(policy, attempt.model, attempt.upstream, ended.outcome).inc()
    candidate, request, snapshot = exchange.chosen, exchange.request, exchange.snapshot
    if candidate is None or request is None or snapshot is None:
        return None
    model = snapshot.model(attempt.model)
    settlement = None if model is None else settle(ended, model, candidate, request.choices)
    if settlement is None:
        return None
    exchange.settled[attempt.id] = settlement
    input_tokens = settlement.input_tokens
    metrics.tokens.labels(policy, attempt.model, "input").inc(input_tokens)
    metrics.tokens.labels(policy, attempt.model, "output").inc(settlement.output_tokens)
    if settlement.cost is not None:
        metrics.settled_dollars.labels(policy, attempt.model, settlement.basis).inc(settlement.cost / _NANO)
    if settlement.exceeds_bound:
        metrics.bound_exceeded.labels(attempt.model).inc()
        # What the request itself left unbounded breaks no declaration.
        if model is not None and request.unpriceable is None:
            memory.trust.exceeded(model)
    plausible = model is not None and input_tokens <= model.context_window_tokens
    if plausible and settlement.basis == SettlementBasis.REPORTED and _is_text(request):
        memory.calibrator.observe(attempt.model, request.input_bytes, input_tokens)
    return settlement


def record_end(memory: Memory, exchange: Exchange, status: int | None) -> None:
    """Count the request and write its line; `status` is what the client was answered, None if it left before."""
    policy, chosen = _policy(exchange), exchange.chosen
    model = NO_MODEL if chosen is None else chosen.model
    memory.metrics.requests.labels(policy, model, exchange.outcome).inc()
    for left_out, reason in exchange.left_out.items():
        memory.metrics.eliminations.labels(policy, left_out, reason).inc()
    if memory.decision_log is not None:
        seconds = time.perf_counter() - exchange.began
        memory.decision_log.write(decision_line(exchange, datetime.now(UTC), status, seconds))


def _is_text(request: NeutralRequest) -> bool:
    return request.unpriceable is None and not request.images and not request.audio_parts


def _policy(exchange: Exchange) -> str:
    return "" if exchange.snapshot is None else exchange.snapshot.policy

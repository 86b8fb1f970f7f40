"""What the decision log says of one request: every candidate, the choice, each attempt with its settlement, how it ended.

Owns the fields of a line. It must not know where lines go. No prompt, answer or credential is in any of them. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from foresail_api.reasons import Elimination
from foresail_router.decision.types import Candidate
from foresail_sidecar.flow.attempts import EndedAttempt
from foresail_sidecar.flow.budgets import BudgetRefusal
from foresail_sidecar.flow.limits import LimitRefusal
from foresail_sidecar.flow.settle import Settlement

if TYPE_CHECKING:
    from foresail_sidecar.flow.record import Exchange


def decision_line(exchange: Exchange, ended: datetime, status: int | None, seconds: float) -> Mapping[str, object]:
    """Return the line of a request that ended at that moment, `seconds` after it came; `status` is None where its client left before.

    Money is in whole nano-dollars. What is not known is null, and a field is never left out.
    """
    decision, request, asked = exchange.decision, exchange.request, exchange.chosen
    overhead = exchange.overhead_seconds
    return {
        "time": ended,
        "decision_id": exchange.decision_id,
        "policy": None if exchange.snapshot is None else exchange.snapshot.policy,
        "tenant": exchange.tenant,
        "snapshot": None if decision is None else decision.snapshot_hash,
        "artifact": None if decision is None else decision.artifact_digest,
        "basis": None if decision is None else decision.basis,
        "scoring_error": None if decision is None else decision.scoring_error,
        "pressure_percent": None if decision is None else decision.pressure_percent,
        "candidates": []
        if decision is None
        else [_candidate(each, exchange.left_out.get(each.model)) for each in decision.candidates],
        "choice": None if decision is None or decision.chosen is None else decision.chosen.model,
        "refusal": None if decision is None or decision.refusal is None else decision.refusal.kind,
        "budget_refusal": None if exchange.budget_refusal is None else _budget_refusal(exchange.budget_refusal),
        "limit_refusal": None if exchange.limit_refusal is None else _limit_refusal(exchange.limit_refusal),
        "ledger_skipped": exchange.ledger_skipped,
        "attempts": [
            _attempt(attempt, exchange.settled.get(attempt.attempt.id)) for attempt in exchange.attempts.ended
        ],
        "cost_nano_dollars": exchange.cost,
        "outcome": exchange.outcome,
        "status": status,
        "stream": None if request is None else request.stream,
        "max_tokens": None if asked is None else asked.output_limit,
        "overhead_ms": None if overhead is None else round(overhead * 1000, 3),
        "latency_ms": round(seconds * 1000, 3),
    }


def _candidate(candidate: Candidate, left_out: Elimination | None) -> Mapping[str, object]:
    return {
        "model": candidate.model,
        "eliminated": candidate.elimination or left_out,
        "quality": None if candidate.estimate is None else candidate.estimate.quality,
        "cost_nano_dollars": candidate.cost,
        "worst_case_nano_dollars": candidate.worst_case,
    }


def _budget_refusal(refusal: BudgetRefusal) -> Mapping[str, object]:
    return {
        "reason": refusal.reason,
        "budget": refusal.budget,
        "spent_nano_dollars": refusal.spent,
        "reserved_nano_dollars": refusal.reserved,
        "limit_nano_dollars": refusal.limit,
        "needed_nano_dollars": refusal.needed,
    }


def _limit_refusal(refusal: LimitRefusal) -> Mapping[str, object]:
    return {
        "model": refusal.model,
        "upstream": refusal.upstream,
        "measure": refusal.measure,
        "spent": refusal.spent,
        "reserved": refusal.reserved,
        "limit": refusal.limit,
        "needed": refusal.needed,
    }


def _attempt(ended: EndedAttempt, settlement: Settlement | None) -> Mapping[str, object]:
    return {
        "model": ended.attempt.model,
        "upstream": ended.attempt.upstream,
        "outcome": ended.outcome,
        "basis": None if settlement is None else settlement.basis,
        "input_tokens": None if settlement is None else settlement.input_tokens,
        "output_tokens": None if settlement is None else settlement.output_tokens,
        "cost_nano_dollars": None if settlement is None else settlement.cost,
    }

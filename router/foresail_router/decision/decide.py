"""The decision: which of the candidates answers, or why none does. Pure and deterministic.

Owns strategies, failure modes and what a prediction adds to the cap's verdict. It must not know clocks, files or connections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil

from foresail_api.policy import FailureMode, Strategy
from foresail_api.reasons import Basis, Elimination
from foresail_api.snapshot import Snapshot, SnapshotModel, SnapshotObjective, SnapshotRouter
from foresail_api.values import value
from foresail_router.decision.conditions import NO_LIMITS, RequestLimits, effective_cap
from foresail_router.decision.objective import by_cost, pressed, ranked, weigh, with_predicted_cost
from foresail_router.decision.price import dollars, worst_case
from foresail_router.decision.refusal import no_eligible_model, scoring_failed, unknown_model
from foresail_router.decision.types import Candidate, Decision, NeutralRequest, Refusal
from foresail_router.engine.interface import Estimate

NO_ESTIMATES = "NoEstimates"
UNKNOWN_TO_ARTIFACT = "the router's artifact does not know it: no part in a learned decision"

_FULL_PERCENT = 100

# The models that may answer, the choice first, or a refusal.
_Outcome = tuple[list[Candidate] | Refusal, Basis | None, str | None]


@value
class _Pressure:
    """What budgets near their end make of the objective; at the end only the cheapest is left."""

    objective: SnapshotObjective
    at_end: bool


def decide(
    request: NeutralRequest,
    snapshot: Snapshot,
    candidates: Sequence[Candidate],
    estimates: Mapping[str, Estimate] | None,
    *,
    cost_reference: int | None,
    scoring_error: str | None,
    snapshot_hash: str,
    limits: RequestLimits = NO_LIMITS,
    pressure_percent: int = 0,
) -> Decision:
    """Return the decision on a request whose candidates `eliminate` gave, one per model of the pool and in its order.

    `estimates` holds the router's prediction by model, or is None where there is none; `scoring_error` then says why.
    `cost_reference` is what the cost weight compares with, in nano-dollars; None where the artifact's best model has no price.
    `limits` are those under which `eliminate` gave the candidates. `pressure_percent` raises the weight of costs; from 100 on, the cheapest answers.
    """
    predicted = [
        candidate if candidate.elimination is not None else _with_prediction(request, model, candidate, estimates)
        for model, candidate in zip(snapshot.models, candidates, strict=True)
    ]
    objective = pressed(snapshot.objective, pressure_percent)
    considered = _weighed(objective, predicted, cost_reference) if estimates else tuple(predicted)
    pressure = _Pressure(objective, at_end=pressure_percent >= _FULL_PERCENT)
    outcome, basis, error = _choose(request, snapshot, considered, scoring_error, limits, pressure)
    answering = [] if isinstance(outcome, Refusal) else outcome
    artifact = snapshot.router.artifact
    return Decision(
        chosen=answering[0] if answering else None,
        refusal=outcome if isinstance(outcome, Refusal) else None,
        basis=basis,
        candidates=considered,
        snapshot_hash=snapshot_hash,
        artifact_digest=artifact.digest if artifact else None,
        scoring_error=error,
        order=tuple([candidate.model for candidate in answering]),
        pressure_percent=pressure_percent,
    )


def _choose(
    request: NeutralRequest,
    snapshot: Snapshot,
    candidates: Sequence[Candidate],
    scoring_error: str | None,
    limits: RequestLimits,
    pressure: _Pressure,
) -> _Outcome:
    pass_through = request.model not in snapshot.aliases
    if pass_through and snapshot.model(request.model) is None:
        return unknown_model(request, snapshot), None, None
    eligible = [candidate for candidate in candidates if candidate.elimination is None]
    if not eligible:
        return no_eligible_model(candidates, effective_cap(snapshot, limits)), None, scoring_error
    if pass_through:
        return eligible, Basis.PASS_THROUGH, None
    if pressure.at_end:
        return by_cost(eligible), Basis.BUDGET_CHEAPEST, scoring_error
    router = snapshot.router
    if not limits.routed:
        return _default_first(eligible, router.default_model), Basis.UNROUTED, None
    if router.strategy != Strategy.LEARNED:
        return _unlearned(eligible, router)
    scored = [candidate for candidate in eligible if candidate.estimate is not None]
    if scored:
        unscored = [candidate for candidate in eligible if candidate.estimate is None]
        return [*ranked(pressure.objective, scored), *by_cost(unscored)], Basis.LEARNED, None
    error = scoring_error or NO_ESTIMATES
    if router.failure_mode == FailureMode.FAIL_CLOSE:
        return scoring_failed(error, snapshot), None, error
    answering = _default_first(eligible, router.default_model)
    defaulted = answering[0].model == router.default_model
    return answering, Basis.FAIL_OPEN_DEFAULT if defaulted else Basis.FAIL_OPEN_CHEAPEST, error


def _unlearned(eligible: Sequence[Candidate], router: SnapshotRouter) -> _Outcome:
    if router.strategy == Strategy.DEFAULT and any(candidate.model == router.default_model for candidate in eligible):
        return _default_first(eligible, router.default_model), Basis.DEFAULT, None
    return by_cost(eligible), Basis.CHEAPEST, None


def _default_first(eligible: Sequence[Candidate], default_model: str | None) -> list[Candidate]:
    """Return the default model, if it is eligible, then the others, the cheapest first."""
    return sorted(by_cost(eligible), key=lambda candidate: candidate.model != default_model)


def _with_prediction(
    request: NeutralRequest, model: SnapshotModel, candidate: Candidate, estimates: Mapping[str, Estimate] | None
) -> Candidate:
    """Return the candidate with its predicted cost, or out if the cap would cut off more than half of its answers."""
    estimate = None if estimates is None else estimates.get(candidate.model)
    priced = with_predicted_cost(candidate, model, request.choices, estimate)
    if estimate is None:
        return replace(priced, detail=UNKNOWN_TO_ARTIFACT) if estimates else priced
    return _long_enough(request, model, priced, estimate)


def _long_enough(request: NeutralRequest, model: SnapshotModel, candidate: Candidate, estimate: Estimate) -> Candidate:
    predicted = ceil(estimate.output_tokens_p50)
    if candidate.uncapped_output_limit is None or candidate.output_limit >= predicted:
        return candidate
    needed = candidate.worst_case
    if model.price is not None and candidate.input_bound is not None:
        needed = worst_case(
            model.price, candidate.input_bound, request.choices, min(predicted, candidate.uncapped_output_limit)
        )
    enough = f", {dollars(needed)} USD needed at worst" if needed is not None else ""
    detail = f"the cap leaves {candidate.output_limit} output tokens, fewer than the {predicted} that half of the answers are predicted to exceed{enough}"
    return replace(candidate, elimination=Elimination.CLAMP_TOO_SMALL, detail=detail, worst_case=needed)


def _weighed(
    objective: SnapshotObjective, candidates: Sequence[Candidate], cost_reference: int | None
) -> tuple[Candidate, ...]:
    scored = [candidate for candidate in candidates if candidate.elimination is None and candidate.estimate is not None]
    weighed = {candidate.model: candidate for candidate in weigh(objective, scored, cost_reference)}
    return tuple(weighed.get(candidate.model, candidate) for candidate in candidates)

"""What a decision optimises: predicted costs, utilities, and the order that they give. Pure, and the same for equal inputs.

It must not know why a model is eligible, nor what happens where nothing was predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from foresail_api.snapshot import SnapshotModel, SnapshotObjective, SnapshotPrice
from foresail_router.decision.counts import TokenCounts
from foresail_router.decision.price import cost_nano, cost_of
from foresail_router.decision.types import Candidate
from foresail_router.engine.interface import Estimate


def cost_weight(percent: int) -> float:
    """Return lambda for a `costWeightPercent`: 0 for 0, else 10^(percent/20 - 3), so that 60 weighs one mean cost as one quality."""
    return 0.0 if percent == 0 else float(10 ** (percent / 20 - 3))


def pressed(objective: SnapshotObjective, pressure_percent: int) -> SnapshotObjective:
    """Return the objective with its percentage raised linearly towards 100, as budgets near their end."""
    if not pressure_percent:
        return objective
    raised = objective.percent + (100 - objective.percent) * pressure_percent // 100
    return objective.model_copy(update={"percent": raised})


def with_predicted_cost(
    candidate: Candidate, model: SnapshotModel, choices: int, estimate: Estimate | None
) -> Candidate:
    """Return the candidate with its predicted cost: at its expected length, or at its output limit where none is known."""
    price, limit = model.price, candidate.output_limit
    if price is None:
        return candidate.predicted(estimate)
    if estimate is None:
        return candidate.predicted(None, _cost(price, candidate, choices * limit))
    lengths = (estimate.output_tokens, estimate.output_tokens_p05, estimate.output_tokens_p95)
    costs = [_cost(price, candidate, choices * min(limit, max(0, ceil(length)))) for length in lengths]
    return candidate.predicted(estimate, *costs)


def _cost(price: SnapshotPrice, candidate: Candidate, output_tokens: int) -> int:
    bound, tokens = candidate.input_bound, candidate.input_tokens
    if bound is None or not (bound.image or bound.audio):
        return cost_nano(price, tokens, output_tokens)
    plain = tokens - bound.image - bound.audio
    return cost_of(price, TokenCounts(plain, image=bound.image, audio=bound.audio, output_tokens=output_tokens))


def by_cost(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates by predicted cost, the cheapest first; one without a price counts as the dearest; ties by the given order."""
    return sorted(candidates, key=_comparable_cost)


def with_utilities(
    candidates: Sequence[Candidate], cost_weight_percent: int, cost_reference: int | None
) -> tuple[Candidate, ...]:
    """Return scored candidates with quality - lambda x cost / cost_reference.

    Where the reference is unknown, the dearest candidate's cost is the reference. A model without a price is weighed as the dearest
    candidate: to know nothing about its cost must not make it attractive.
    """
    weight = cost_weight(cost_weight_percent)
    dearest = max((candidate.cost for candidate in candidates if candidate.cost is not None), default=0)
    reference = max(1, dearest if cost_reference is None else cost_reference)
    return tuple(
        [
            candidate.predicted(
                candidate.estimate,
                candidate.cost,
                candidate.cost_p05,
                candidate.cost_p95,
                _quality(candidate) - weight * _cost_or(candidate, dearest) / reference,
            )
            for candidate in candidates
        ]
    )


def weigh(
    objective: SnapshotObjective, candidates: Sequence[Candidate], cost_reference: int | None
) -> tuple[Candidate, ...]:
    """Return scored candidates with what the objective gives each of them to be compared by, where it gives anything."""
    if objective.kind == "Tradeoff":
        return with_utilities(candidates, objective.percent, cost_reference)
    return tuple(candidates)


def ranked(objective: SnapshotObjective, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return weighed candidates, the choice first, then what the objective would choose next.

    `Tradeoff` compares utilities; ties go to the cheaper one. `CheapestWithinPercentOfBest` puts the cheapest first of those whose quality is at
    most so many percent below the best one's, ties to the better one; then the others by quality.
    """
    if objective.kind == "Tradeoff":
        return sorted(candidates, key=lambda candidate: (-(candidate.utility or 0.0), *_comparable_cost(candidate)))
    floor = max(map(_quality, candidates)) * (100 - objective.percent) / 100
    near = [candidate for candidate in candidates if _quality(candidate) >= floor]
    worse = [candidate for candidate in candidates if _quality(candidate) < floor]
    near.sort(key=lambda candidate: (*_comparable_cost(candidate), -_quality(candidate)))
    worse.sort(key=lambda candidate: (-_quality(candidate), *_comparable_cost(candidate)))
    return near + worse


def _quality(candidate: Candidate) -> float:
    return candidate.estimate.quality if candidate.estimate is not None else 0.0


def _cost_or(candidate: Candidate, unknown: int) -> int:
    return unknown if candidate.cost is None else candidate.cost


def _comparable_cost(candidate: Candidate) -> tuple[bool, int]:
    return candidate.cost is None, candidate.cost or 0

"""What an attempt cost: from the upstream's report, else counted from what came, else the worst case. Never zero for want of a report.

Owns the choice between them. It must not know where a settlement is kept. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foresail_api.pool import Capability
from foresail_api.reasons import SettlementBasis
from foresail_api.snapshot import SnapshotModel
from foresail_router.decision.price import cost_nano
from foresail_router.decision.types import Candidate
from foresail_sidecar.flow.attempts import EndedAttempt, Used
from foresail_sidecar.flow.outcomes import NOTHING_GENERATED, AttemptOutcome


@dataclass(frozen=True, slots=True)
class Settlement:
    """One attempt's tokens and cost in nano-dollars (None where the model has no price), and what they rest on.

    `exceeds_bound` says that the upstream reported more than was bounded before the request was sent.
    """

    basis: SettlementBasis
    input_tokens: int
    output_tokens: int
    cost: int | None
    exceeds_bound: bool = False


def settle(ended: EndedAttempt, model: SnapshotModel, candidate: Candidate, choices: int) -> Settlement | None:
    """Return the settlement of an attempt at `candidate` for `choices` answers; None where nothing was generated."""
    used = ended.used
    if used.usage is not None:
        return _reported(used.usage.input_tokens, used.usage.output_tokens, model, candidate, choices)
    if ended.outcome in NOTHING_GENERATED:
        return None
    # What a model thinks in silence is billed and cannot be counted from what came.
    countable = Capability.REASONING not in model.capabilities
    if countable and (used.streamed or ended.outcome == AttemptOutcome.ANSWERED):
        return _counted(used, model, candidate, choices)
    return _assumed(model, candidate, choices)


def total_cost(settlements: Sequence[Settlement]) -> int | None:
    """Return the sum in nano-dollars, or None if one of them has no cost or there is none."""
    costs = [settlement.cost for settlement in settlements]
    return None if not costs or None in costs else sum(cost for cost in costs if cost is not None)


def _reported(
    input_tokens: int, output_tokens: int, model: SnapshotModel, candidate: Candidate, choices: int
) -> Settlement:
    bound = candidate.input_tokens_bound
    exceeds = (bound is not None and input_tokens > bound) or output_tokens > candidate.output_limit * choices
    cost = _cost(model, input_tokens, output_tokens)
    return Settlement(SettlementBasis.REPORTED, input_tokens, output_tokens, cost, exceeds)


def _counted(used: Used, model: SnapshotModel, candidate: Candidate, choices: int) -> Settlement:
    input_tokens = _most_input(candidate)
    # A token holds at least one byte, so bytes bound the tokens; `maxTokensPerByte` covers tokenizers of other kinds.
    generated = max(1, used.generated_bytes) * model.max_tokens_per_byte
    output_tokens = min(generated, candidate.output_limit * choices)
    cost = _cost(model, input_tokens, output_tokens)
    return Settlement(SettlementBasis.COUNTED, input_tokens, output_tokens, cost)


def _assumed(model: SnapshotModel, candidate: Candidate, choices: int) -> Settlement:
    input_tokens = _most_input(candidate)
    output_tokens = candidate.output_limit * choices
    cost = candidate.worst_case if candidate.worst_case is not None else _cost(model, input_tokens, output_tokens)
    return Settlement(SettlementBasis.ASSUMED, input_tokens, output_tokens, cost)


def _most_input(candidate: Candidate) -> int:
    return candidate.input_tokens if candidate.input_tokens_bound is None else candidate.input_tokens_bound


def _cost(model: SnapshotModel, input_tokens: int, output_tokens: int) -> int | None:
    return None if model.price is None else cost_nano(model.price, input_tokens, output_tokens)

"""What an attempt cost: from the upstream's report, else counted from what came, else the worst case. Never zero for want of a report.

Owns the choice between them. It must not know where a settlement is kept. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from foresail_api.pool import Capability
from foresail_api.reasons import SettlementBasis
from foresail_api.snapshot import SnapshotModel
from foresail_api.values import value
from foresail_router.decision.counts import TokenCounts
from foresail_router.decision.price import MOST_NANO, cost_of, worst_case
from foresail_router.decision.types import Candidate
from foresail_sidecar.flow.attempts import EndedAttempt, Used
from foresail_sidecar.flow.outcomes import NOTHING_GENERATED, AttemptOutcome


@value
class Settlement:
    """One attempt's tokens and cost in nano-dollars (None where the model has no price), and what they rest on.

    `exceeds_bound` says that the upstream reported more than was bounded before the request was sent.
    """

    basis: SettlementBasis
    counts: TokenCounts
    cost: int | None
    exceeds_bound: bool = False

    @property
    def input_tokens(self) -> int:
        """Input tokens of all kinds."""
        return self.counts.input_tokens

    @property
    def output_tokens(self) -> int:
        """Output tokens of all answers, reasoning included."""
        return self.counts.output_tokens


def settle(ended: EndedAttempt, model: SnapshotModel, candidate: Candidate, choices: int) -> Settlement | None:
    """Return the settlement of an attempt at `candidate` for `choices` answers; None where nothing was generated."""
    used = ended.used
    if used.usage is not None:
        return _reported(used.usage, model, candidate, choices)
    if ended.outcome in NOTHING_GENERATED:
        return None
    # What a model thinks in silence is billed and cannot be counted from what came.
    countable = Capability.REASONING not in model.capabilities
    if countable and (used.streamed or ended.outcome == AttemptOutcome.ANSWERED):
        return _counted(used, model, candidate, choices)
    return _assumed(model, candidate, choices)


def total_cost(settlements: Sequence[Settlement]) -> int | None:
    """Return the sum in nano-dollars, or None if one of them has no cost or there is none."""
    total = 0
    for settlement in settlements:
        if settlement.cost is None:
            return None
        total += settlement.cost
    return total if settlements else None


def _reported(counts: TokenCounts, model: SnapshotModel, candidate: Candidate, choices: int) -> Settlement:
    cost = None if model.price is None else cost_of(model.price, counts)
    bound, worst = candidate.input_tokens_bound, candidate.worst_case
    exceeds = (
        (bound is not None and counts.input_tokens > bound)
        or counts.output_tokens > candidate.output_limit * choices
        or (worst is not None and cost is not None and cost > worst)
    )
    return Settlement(SettlementBasis.REPORTED, counts, cost, exceeds)


def _counted(used: Used, model: SnapshotModel, candidate: Candidate, choices: int) -> Settlement:
    # A token holds at least one byte, so bytes bound the tokens; `maxTokensPerByte` covers tokenizers of other kinds.
    generated = max(1, used.generated_bytes) * model.max_tokens_per_byte
    return _at_most(SettlementBasis.COUNTED, model, candidate, min(generated, candidate.output_limit * choices))


def _assumed(model: SnapshotModel, candidate: Candidate, choices: int) -> Settlement:
    return _at_most(SettlementBasis.ASSUMED, model, candidate, candidate.output_limit * choices)


def _at_most(basis: SettlementBasis, model: SnapshotModel, candidate: Candidate, output_tokens: int) -> Settlement:
    """Return the dearest that so many output tokens can have been, or what the estimate says where the input has no bound."""
    bound = candidate.input_bound
    if bound is None:
        counts = TokenCounts(plain=candidate.input_tokens, output_tokens=output_tokens)
        return Settlement(basis, counts, None if model.price is None else cost_of(model.price, counts))
    counts = TokenCounts(plain=bound.text, image=bound.image, audio=bound.audio, output_tokens=output_tokens)
    cost = None if model.price is None else min(MOST_NANO, worst_case(model.price, bound, 1, output_tokens))
    return Settlement(basis, counts, cost)

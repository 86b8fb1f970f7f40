"""What a request costs: predicted, at worst, and the largest output limit that a cap leaves. Whole numbers only, rounded up once.

Prices are whole micro-dollars per million tokens, costs whole nano-dollars. It must not know how tokens were counted or who asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from foresail_api.common import NANO_DOLLARS
from foresail_api.snapshot import Snapshot, SnapshotModel, SnapshotPrice

# One micro-dollar per million tokens is a thousandth of a nano-dollar per token.
_UNITS_PER_NANO_DOLLAR = 1000
_NANO_PER_MICRO_DOLLAR = 1000


def cost_nano(price: SnapshotPrice, input_tokens: int, output_tokens: int) -> int:
    """Return the cost of one attempt in nano-dollars. `output_tokens` counts all answers to the prompt together."""
    units = input_tokens * price.input_micro_dollars + output_tokens * price.output_micro_dollars
    return -(-units // _UNITS_PER_NANO_DOLLAR) + price.request_micro_dollars * _NANO_PER_MICRO_DOLLAR


def bound_input_tokens(model: SnapshotModel, input_bytes: int) -> int | None:
    """Return the most input tokens that the upstream can bill for so many bytes, or None where the pool declares no overhead."""
    if model.overhead_tokens is None:
        return None
    return input_bytes * model.max_tokens_per_byte + model.overhead_tokens


def worst_case(price: SnapshotPrice, input_tokens_bound: int, choices: int, output_limit: int) -> int:
    """Return the most that an upstream can bill, in nano-dollars: the bound of the input, and every answer as long as its limit."""
    return cost_nano(price, input_tokens_bound, choices * output_limit)


def clamp_output_limit(
    price: SnapshotPrice, input_tokens_bound: int, choices: int, output_limit: int, cap: int
) -> int | None:
    """Return the largest limit up to `output_limit` whose worst case is at most `cap` nano-dollars.

    0 if not one output token fits; None if the input alone can cost more than the cap.
    """
    units = (cap - price.request_micro_dollars * _NANO_PER_MICRO_DOLLAR) * _UNITS_PER_NANO_DOLLAR
    left = units - input_tokens_bound * price.input_micro_dollars
    if left < 0:
        return None
    if price.output_micro_dollars == 0:
        return output_limit
    return min(output_limit, left // (choices * price.output_micro_dollars))


def dollars(nano_dollars: int) -> str:
    """Return an amount as a decimal string of US dollars with up to nine decimals, without trailing zeros."""
    whole, rest = divmod(nano_dollars, NANO_DOLLARS)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")


@dataclass(frozen=True, slots=True)
class CostReference:
    """What makes costs comparable with qualities: the artifact's best single model and its mean token counts per prompt."""

    model: str
    mean_input_tokens: float
    mean_output_tokens: float

    def nano_dollars(self, snapshot: Snapshot) -> int | None:
        """Return its mean cost per prompt at the snapshot's prices, or None where the pool lacks the model or its price."""
        model = snapshot.model(self.model)
        if model is None or model.price is None:
            return None
        return cost_nano(model.price, ceil(self.mean_input_tokens), ceil(self.mean_output_tokens))

"""What asking a model is expected to cost, learned from outcomes: a price per token where costs imply one, else the mean.

It must not know strategies, artifacts or current prices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.evaluation.prices import ImpliedPrice, implied_price

Array = NDArray[np.float64]
# Where a data set counts no tokens: the usual ratio of English text.
ASSUMED_TOKENS_PER_BYTE = 0.25


@dataclass(frozen=True, slots=True)
class CostFacts:
    """One model's input tokens per UTF-8 byte of a prompt, the price that its costs imply, and its mean cost; None without costs."""

    input_tokens_per_byte: float
    price: ImpliedPrice | None
    mean_cost_usd: float | None


@dataclass(frozen=True, slots=True)
class CostModel:
    """What the router expects to pay: predicted costs (prompts x models), and the reference that the weight compares with."""

    predicted_usd: Array
    reference_usd: float


def cost_facts(outcomes: OutcomeMatrix) -> tuple[CostFacts, ...]:
    """Return the facts of each model, from known cells alone."""
    size = text_bytes(outcomes.texts)
    return tuple(_facts(outcomes, column, size) for column in range(len(outcomes.models)))


def text_bytes(texts: Sequence[str]) -> Array:
    """Return each text's length in UTF-8 bytes."""
    return np.array([len(text.encode("utf-8", "surrogatepass")) for text in texts], dtype=np.float64)


def expected_costs(facts: Sequence[CostFacts], size: Array, output_tokens: Array) -> Array | None:
    """Return the cost in US dollars to expect (prompts x models), or None when a model has neither price nor mean cost.

    `size` is the prompts' bytes, `output_tokens` the expected tokens (prompts x models).
    """
    costs = np.empty_like(output_tokens)
    for column, model in enumerate(facts):
        if model.price is not None:
            tokens = size * model.input_tokens_per_byte * model.price.input_usd
            costs[:, column] = (tokens + output_tokens[:, column] * model.price.output_usd) / 1e6
        elif model.mean_cost_usd is not None:
            costs[:, column] = model.mean_cost_usd
        else:
            return None
    return costs


def _facts(outcomes: OutcomeMatrix, column: int, size: Array) -> CostFacts:
    input_tokens, cost = outcomes.input_tokens[:, column], outcomes.cost_usd[:, column]
    counted, paid = np.isfinite(input_tokens), cost[np.isfinite(cost)]
    return CostFacts(
        float(input_tokens[counted].sum() / size[counted].sum()) if counted.any() else ASSUMED_TOKENS_PER_BYTE,
        implied_price(input_tokens, outcomes.output_tokens[:, column], cost),
        float(paid.mean()) if paid.size else None,
    )

"""What a manifest says of the models, worked out from the training side of a data set. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foresail_router.artifact.manifest import ModelFacts, Reference, TokenPrice
from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.evaluation.costs import CostFacts, cost_facts, text_bytes

# Where a data set counts no tokens: an answer of a few paragraphs.
ASSUMED_OUTPUT_TOKENS = 250.0


def model_facts(outcomes: OutcomeMatrix) -> tuple[ModelFacts, ...]:
    """Return the facts of each model; figures are rounded to six digits, so that the last bits of a sum never show."""
    size = float(text_bytes(outcomes.texts).mean())
    return tuple(_facts(outcomes, column, size, costs) for column, costs in enumerate(cost_facts(outcomes)))


def reference_of(facts: tuple[ModelFacts, ...]) -> Reference:
    """Return the best single model of the training side; among equals the one with fewer output tokens."""
    best = min(facts, key=lambda model: (-model.mean_quality, model.mean_output_tokens, model.name))
    return Reference(
        model=best.name, mean_input_tokens=best.mean_input_tokens, mean_output_tokens=best.mean_output_tokens
    )


def six_digits(value: float) -> float:
    """Return a number rounded to six significant digits."""
    return float(f"{value:.6g}")


def _facts(outcomes: OutcomeMatrix, column: int, size: float, costs: CostFacts) -> ModelFacts:
    score, input_tokens, output_tokens = (
        matrix[:, column] for matrix in (outcomes.score, outcomes.input_tokens, outcomes.output_tokens)
    )
    ratio, price, mean_cost = costs.input_tokens_per_byte, costs.price, costs.mean_cost_usd
    return ModelFacts(
        name=outcomes.models[column],
        outcomes=int(np.isfinite(score).sum()),
        mean_quality=six_digits(float(np.nanmean(score))),
        mean_input_tokens=six_digits(_first(_mean(input_tokens), ratio * size)),
        mean_output_tokens=six_digits(
            _first(_mean(output_tokens), _mean(outcomes.output_tokens), ASSUMED_OUTPUT_TOKENS)
        ),
        input_tokens_per_byte=six_digits(ratio),
        mean_cost_usd=None if mean_cost is None else six_digits(mean_cost),
        price=None
        if price is None
        else TokenPrice(input_per_million_tokens_usd=price.input_usd, output_per_million_tokens_usd=price.output_usd),
    )


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)

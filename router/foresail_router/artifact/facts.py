"""What a manifest says of the models, worked out from the training side of a data set. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from foresail_router.artifact.manifest import ModelFacts, Reference, TokenPrice
from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.evaluation.prices import implied_price

# Where a data set counts no tokens: the usual ratio of English text, and an answer of a few paragraphs.
ASSUMED_TOKENS_PER_BYTE = 0.25
ASSUMED_OUTPUT_TOKENS = 250.0


def model_facts(outcomes: OutcomeMatrix) -> tuple[ModelFacts, ...]:
    """Return the facts of each model; figures are rounded to six digits, so that the last bits of a sum never show."""
    size = np.array([len(text.encode("utf-8", "surrogatepass")) for text in outcomes.texts], dtype=np.float64)
    return tuple(_facts(outcomes, column, size) for column in range(len(outcomes.models)))


def reference_of(facts: tuple[ModelFacts, ...]) -> Reference:
    """Return the best single model of the training side; among equals the one with fewer output tokens."""
    best = min(facts, key=lambda model: (-model.mean_quality, model.mean_output_tokens, model.name))
    return Reference(
        model=best.name, mean_input_tokens=best.mean_input_tokens, mean_output_tokens=best.mean_output_tokens
    )


def six_digits(value: float) -> float:
    """Return a number rounded to six significant digits."""
    return float(f"{value:.6g}")


def _facts(outcomes: OutcomeMatrix, column: int, size: NDArray[np.float64]) -> ModelFacts:
    score, cost = outcomes.score[:, column], outcomes.cost_usd[:, column]
    input_tokens, output_tokens = outcomes.input_tokens[:, column], outcomes.output_tokens[:, column]
    counted = np.isfinite(input_tokens)
    ratio = float(input_tokens[counted].sum() / size[counted].sum()) if counted.any() else ASSUMED_TOKENS_PER_BYTE
    price = implied_price(input_tokens, output_tokens, cost)
    mean_cost = _mean(cost)
    return ModelFacts(
        name=outcomes.models[column],
        outcomes=int(np.isfinite(score).sum()),
        mean_quality=six_digits(float(np.nanmean(score))),
        mean_input_tokens=six_digits(
            float(input_tokens[counted].mean()) if counted.any() else ratio * float(size.mean())
        ),
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

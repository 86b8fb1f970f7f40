"""What asking a model is expected to cost, from an artifact's facts and current prices. Pure; it must not know files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foresail_router.artifact.manifest import Manifest
from foresail_router.evaluation.costs import CostModel, text_bytes

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens, and per request."""

    input_usd: float
    output_usd: float
    request_usd: float = 0.0

    def of(self, input_tokens: Array | float, output_tokens: Array | float) -> Array:
        """Return the cost in US dollars of so many tokens."""
        return np.asarray((input_tokens * self.input_usd + output_tokens * self.output_usd) / 1e6 + self.request_usd)


def artifact_prices(manifest: Manifest) -> dict[str, Price]:
    """Return the prices that the training data's costs implied, of the models that have one."""
    return {
        model.name: Price(model.price.input_per_million_tokens_usd, model.price.output_per_million_tokens_usd)
        for model in manifest.models
        if model.price is not None
    }


def predicted_costs(
    manifest: Manifest, prices: Mapping[str, Price], texts: Sequence[str], output_tokens: Array
) -> Array:
    """Return each prompt's expected cost with each of the manifest's models in US dollars, NaN where unpriced.

    Input tokens follow from the prompt's bytes and the model's tokens per byte in training, since its tokenizer is not at hand.
    """
    size = text_bytes(texts)
    costs = np.full(output_tokens.shape, np.nan)
    for column, model in enumerate(manifest.models):
        if model.name in prices:
            costs[:, column] = prices[model.name].of(size * model.input_tokens_per_byte, output_tokens[:, column])
    return costs


def cost_model(
    manifest: Manifest, prices: Mapping[str, Price], texts: Sequence[str], output_tokens: Array
) -> CostModel | None:
    """Return what the router expects to pay, or None when it can price neither each model nor the reference.

    A model without a price per token is expected to cost its mean.
    """
    costs = predicted_costs(manifest, prices, texts, output_tokens)
    for column, model in enumerate(manifest.models):
        if model.name not in prices:
            costs[:, column] = np.nan if model.mean_cost_usd is None else model.mean_cost_usd
    reference = manifest.reference
    facts = next(model for model in manifest.models if model.name == reference.model)
    if reference.model in prices:
        amount = float(prices[reference.model].of(reference.mean_input_tokens, reference.mean_output_tokens))
    else:
        amount = np.nan if facts.mean_cost_usd is None else facts.mean_cost_usd
    if not np.isfinite(amount) or amount <= 0 or not np.isfinite(costs).all():
        return None
    return CostModel(costs, amount)

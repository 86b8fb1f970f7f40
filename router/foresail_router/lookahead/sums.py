"""The two losses of a lookahead model as sums with their counts, so that passes and processes of one step add up exactly.

It must not know networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from foresail_router.lookahead.curriculum import masked_count
from foresail_router.lookahead.examples import Example
from foresail_router.lookahead.recipe import Recipe


@dataclass(slots=True)
class Sums:
    """Routing loss over (prompt, model) cells and language loss over answer tokens, each summed. What they are summed over, `count` tells."""

    routing: Tensor
    language: Tensor


def count(examples: Sequence[Example], recipe: Recipe, progress: float) -> tuple[int, int]:
    """Return over how many labels and how many answer tokens the losses of some examples are summed."""
    cells = sum(not math.isnan(label) for example in examples if example.routed for label in example.labels)
    if not recipe.response_weight:
        return cells, 0
    lengths = [len(answer) for example in examples for answer in example.answers if answer]
    if recipe.variant == "causal":
        return cells, sum(lengths)
    return cells, sum(masked_count(recipe.curriculum, progress, length) for length in lengths)


def routing_sum(logits: Tensor, examples: Sequence[Example]) -> Tensor:
    """Return the summed binary cross-entropy of logits (examples x models) over the labels of routed examples."""
    labels = torch.tensor([example.labels for example in examples], device=logits.device)
    counted = ~labels.isnan() & torch.tensor([example.routed for example in examples], device=logits.device)[:, None]
    return functional.binary_cross_entropy_with_logits(logits[counted], labels[counted], reduction="sum")

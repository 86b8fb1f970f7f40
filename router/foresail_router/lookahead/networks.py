"""Building either lookahead model for a recipe, and applying it to many prompts.

Owns the interface that training and prediction see. It must not know data directories or figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from foresail_router.lookahead.backbones import load_causal, load_masked
from foresail_router.lookahead.causal import CausalLookahead
from foresail_router.lookahead.examples import Example
from foresail_router.lookahead.hidden import HiddenStates, Tokens
from foresail_router.lookahead.masked import MaskedLookahead
from foresail_router.lookahead.parallel import ALONE, Parallel
from foresail_router.lookahead.recipe import Recipe

Tick = Callable[[int], object]
_LOGIT_TOKENS = 2048


class LookaheadNetwork(nn.Module):
    """A lookahead model with its tokenizer, on its device and in its recipe's precision."""

    def __init__(self, core: CausalLookahead | MaskedLookahead, tokenizer: object, states: HiddenStates | None) -> None:
        super().__init__()
        self.core = core
        self.tokenizer = tokenizer
        self._states = states

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.core.model_tokens.device

    def prepare(self, examples: Sequence[Example], *, answers: bool, tick: Tick = lambda rows: None) -> None:
        """Make the frozen layers' output for these prompts ready, if any layer is frozen; with `answers` for training on them."""
        if self._states is None:
            return
        blocks = [tuple((answer or ())[:-1] for answer in example.answers) if answers else () for example in examples]
        self._states.prepare([Tokens(e.prompt, part) for e, part in zip(examples, blocks, strict=True)], tick)

    def start(self, examples: Sequence[Example]) -> None:
        """Begin new vectors where the examples' hidden states lie, if they do not begin among the embeddings."""
        if isinstance(self.core, CausalLookahead):
            self.core.start_model_tokens(examples)

    @torch.no_grad()
    def all_logits(
        self, examples: Sequence[Example], parallel: Parallel = ALONE, tick: Tick = lambda rows: None
    ) -> NDArray[np.float64]:
        """Return one logit per example and model, worked out by all processes together; dropout is off."""
        self.eval()
        logits = torch.zeros(len(examples), self.core.models, device=self.device)
        groups = list(grouped([self.core.length(example, training=False) for example in examples], _LOGIT_TOKENS))
        for group in groups[parallel.number :: parallel.processes]:
            logits[group] = self.core.logits([examples[row] for row in group])
            tick(len(group))
        parallel.add_up(logits)
        return logits.double().cpu().numpy()


def build_network(recipe: Recipe, models: int, *, device: torch.device, states: Path) -> LookaheadNetwork:
    """Load the backbone and put the lookahead model of a recipe on it; `states` is where frozen layers' output is kept.

    New parts are drawn from the recipe's seed. Raises `UserError` when the backbone cannot be loaded or does not fit.
    """
    torch.manual_seed(recipe.seed)
    precision = getattr(torch, recipe.precision)
    if recipe.variant == "masked":
        backbone = load_masked(recipe)
        return LookaheadNetwork(MaskedLookahead(recipe, backbone, models), backbone.tokenizer, None).to(
            device, precision
        )
    backbone = load_causal(recipe)
    kept = None
    if backbone.lower is not None:
        backbone.lower.to(device, precision)
        name = f"{recipe.backbone_name}:{recipe.frozen_layers}:{recipe.precision}"
        kept = HiddenStates(backbone.lower, backbone.embeddings, name, states)
    core = CausalLookahead(recipe, backbone, models, kept)
    return LookaheadNetwork(core, backbone.tokenizer, kept).to(device, precision)


def grouped(lengths: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Yield the numbers of rows, longest first, in groups of at most `limit` padded tokens, or of one row."""
    group: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        if group and (len(group) + 1) * lengths[group[0]] > limit:
            yield group
            group = []
        group.append(row)
    if group:
        yield group

"""The masked lookahead model: an encoder that fills in the openings of all models' answers at once behind the prompt.

`[CLS] x [SEP] (MID_t * m) [SEP] ...`: in training some or all of an answer's tokens are replaced by its model's mask token, for routing
all are. `[CLS]` tells which answers will be good. It must not know training or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from foresail_router.lookahead.backbones import Backbone, model_token_numbers, new_token_vectors
from foresail_router.lookahead.curriculum import masked_tokens
from foresail_router.lookahead.examples import Example
from foresail_router.lookahead.packing import Layout
from foresail_router.lookahead.recipe import Recipe
from foresail_router.lookahead.sums import Sums, routing_sum


@dataclass(slots=True)
class _Row:
    """One input: tokens (mask tokens numbered behind the vocabulary), lengths of its blocks, and what is to be foreseen where."""

    tokens: list[int]
    prompt: int
    blocks: list[int]
    places: list[int]
    wanted: list[int]


class MaskedLookahead(nn.Module):
    """An encoder with its masked-language head, one mask token per model, and a linear head from `[CLS]` to one logit per model.

    `recipe.joint` puts all models' blocks in one row that sees itself whole; else each model has a row of its own.
    """

    def __init__(self, recipe: Recipe, backbone: Backbone, models: int) -> None:
        super().__init__()
        self.recipe = recipe
        self.models = models
        self.embeddings, self.encoder, self.language_head = backbone.embeddings, backbone.upper, backbone.head
        tokenizer = backbone.tokenizer
        self._first, self._end = int(tokenizer.cls_token_id), int(tokenizer.sep_token_id)
        self._vocabulary = backbone.embeddings.num_embeddings
        weight = backbone.embeddings.weight.detach()
        spare = model_token_numbers(tokenizer, models)
        self.model_tokens = nn.Parameter(
            weight[spare].clone() if spare is not None else new_token_vectors(weight, models)
        )
        self.dropout = nn.Dropout(recipe.dropout)
        self.routing_head = nn.Linear(backbone.width, models)

    def length(self, example: Example, *, training: bool) -> int:
        """Return how many tokens an example takes, the same in training and when it is routed."""
        rows = 1 if self.recipe.joint else self.models
        return rows * (len(example.prompt) + 2) + self.models * (self.recipe.answer_tokens + 1)

    def logits(self, examples: Sequence[Example]) -> Tensor:
        """Return how likely each model's answer is good (examples x models, logits), seeing nothing but mask tokens of the answers."""
        rows = [row for example in examples for row in self._rows(example, None, 1.0)]
        return self._judge(self._encode(rows))

    def sums(self, examples: Sequence[Example], *, progress: float, seed: int) -> Sums:
        """Return the losses of some examples, summed; `seed` draws a random curriculum's masks."""
        writes = self.recipe.response_weight > 0
        if not writes:
            examples = [example for example in examples if example.routed]
        if not examples:
            nothing = self.model_tokens.sum() * 0
            return Sums(nothing, nothing)
        generator = np.random.default_rng(seed)
        rows = [row for example in examples for row in self._rows(example, generator, progress)]
        hidden = self._encode(rows)
        routing = routing_sum(self._judge(hidden), examples)
        if not writes:
            return Sums(routing, routing.new_zeros(()))
        found = [
            (number, place, token)
            for number, row in enumerate(rows)
            for place, token in zip(row.places, row.wanted, strict=True)
        ]
        numbers, places, wanted = torch.tensor(found, dtype=torch.long, device=hidden.device).view(-1, 3).unbind(dim=1)
        logits = self.language_head(hidden[numbers, places])
        return Sums(routing, functional.cross_entropy(logits.float(), wanted, reduction="sum"))

    def _judge(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.routing_head(self.dropout(hidden[:, 0])).float()
        if self.recipe.joint:
            return logits
        return logits.view(-1, self.models, self.models).diagonal(dim1=1, dim2=2)

    def _rows(self, example: Example, generator: np.random.Generator | None, progress: float) -> Iterator[_Row]:
        """Yield the inputs of one example: one for all models or one each; without a generator every answer token is masked."""
        groups = (
            [range(self.models)] if self.recipe.joint else [range(number, number + 1) for number in range(self.models)]
        )
        for group in groups:
            tokens = [self._first, *example.prompt, self._end]
            row = _Row(tokens, len(tokens), [], [], [])
            for model in group:
                self._add_block(row, example, model, generator, progress)
            yield row

    def _add_block(
        self, row: _Row, example: Example, model: int, generator: np.random.Generator | None, progress: float
    ) -> None:
        length = self.recipe.answer_tokens
        mask, start = self._vocabulary + model, len(row.tokens)
        block = [mask] * length
        answer = example.answers[model] if generator is not None and example.answers else None
        if generator is not None and answer:
            hidden = masked_tokens(self.recipe.curriculum, progress, len(answer), generator)
            for place, token in enumerate(answer):
                if hidden[place]:
                    row.places.append(start + place)
                    row.wanted.append(token)
                else:
                    block[place] = token
        row.tokens += [*block, self._end]
        row.blocks.append(length + 1)

    def _encode(self, rows: Sequence[_Row]) -> Tensor:
        """Return the last hidden states (rows x length x width)."""
        device, dtype = self.model_tokens.device, self.model_tokens.dtype
        layout = Layout.of([row.prompt for row in rows], [row.blocks for row in rows]).to(device)
        tokens = [torch.tensor(row.tokens) for row in rows]
        numbers = nn.utils.rnn.pad_sequence(tokens, batch_first=True).to(device)
        own = numbers >= self._vocabulary
        vectors = self.embeddings(numbers.masked_fill(own, 0)).to(dtype)
        # Added as a product with one-hot rows: the gradient of a few vectors used hundreds of times is then one small product.
        picked = functional.one_hot((numbers - self._vocabulary).clamp(min=0), self.models).to(dtype) * own[..., None]
        inputs = torch.where(own[..., None], picked @ self.model_tokens, vectors)
        position = layout.position if self.recipe.restart_positions else _running(numbers)
        hidden: Tensor = self.encoder(
            inputs_embeds=inputs, position_ids=position, attention_mask=layout.real.long()
        ).last_hidden_state
        return hidden


def _running(numbers: Tensor) -> Tensor:
    return torch.arange(numbers.shape[1], device=numbers.device).expand(numbers.shape[0], -1)

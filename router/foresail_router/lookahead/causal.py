"""The causal lookahead model: a decoder that learns to write each model's answer behind a token that stands for the model.

The hidden state at that token, from which the answer would be written, tells whether it will be good. One row holds the prompt once and
a block per model; blocks do not see one another. It must not know training or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresail_router.lookahead.backbones import Backbone, new_token_vectors
from foresail_router.lookahead.examples import Example
from foresail_router.lookahead.hidden import HiddenStates, Tokens
from foresail_router.lookahead.packing import Layout
from foresail_router.lookahead.recipe import Recipe
from foresail_router.lookahead.sums import Sums, routing_sum


class CausalLookahead(nn.Module):
    """A decoder, one vector per model to stand for `<Model_t>`, and one linear head for all models.

    The vectors enter at the first layer that is trained: as token embeddings, or behind the frozen layers, whose output `states` keeps.
    """

    def __init__(self, recipe: Recipe, backbone: Backbone, models: int, states: HiddenStates | None) -> None:
        super().__init__()
        self.recipe = recipe
        self.models = models
        self.embeddings, self.upper, self.language_head = backbone.embeddings, backbone.upper, backbone.head
        self.states = states
        self.model_tokens = nn.Parameter(new_token_vectors(backbone.embeddings.weight.detach(), models))
        self.dropout = nn.Dropout(recipe.dropout)
        self.routing_head = nn.Linear(backbone.width, 1)

    @torch.no_grad()
    def start_model_tokens(self, examples: Sequence[Example]) -> None:
        """Begin the model tokens at the mean of what enters the first trained layer, where that is not the embedding table."""
        if self.states is None:
            return
        # The first position of a row is where decoders park attention; its size is out of all proportion.
        rows = [self.states.of(Tokens(example.prompt, ()))[1:] for example in examples]
        self.model_tokens.copy_(new_token_vectors(torch.cat(rows), self.models))

    def length(self, example: Example, *, training: bool) -> int:
        """Return how many tokens an example takes, in training or when it is routed."""
        if not training or not self.recipe.response_weight:
            return len(example.prompt) + self.models
        return len(example.prompt) + sum(max(1, len(answer or ())) for answer in example.answers)

    def logits(self, examples: Sequence[Example]) -> Tensor:
        """Return how likely each model's answer is good (examples x models, logits): one pass over prompt and all model tokens."""
        hidden, starts, _ = self._run(examples, with_answers=False)
        return self._judge(hidden, starts)

    def sums(self, examples: Sequence[Example], *, progress: float, seed: int) -> Sums:
        """Return the losses of some examples, summed; `count` of the same examples tells over what."""
        writes = self.recipe.response_weight > 0
        # Nothing that is judged sees an answer, so answers that are not learned from need not be read, nor prompts without labels.
        if not writes:
            examples = [example for example in examples if example.routed]
        if not examples:
            nothing = self.model_tokens.sum() * 0
            return Sums(nothing, nothing)
        hidden, starts, targets = self._run(examples, with_answers=writes)
        routing = routing_sum(self._judge(hidden, starts), examples)
        if not writes:
            return Sums(routing, routing.new_zeros(()))
        rows, places, wanted = targets
        logits = self.language_head(hidden[rows, places])
        language = functional.cross_entropy(logits.float(), wanted, reduction="sum")
        return Sums(routing, language)

    def _judge(self, hidden: Tensor, starts: Tensor) -> Tensor:
        rows = torch.arange(len(hidden), device=hidden.device)[:, None]
        logits: Tensor = self.routing_head(self.dropout(hidden[rows, starts]))
        return logits.squeeze(-1).float()

    def _run(
        self, examples: Sequence[Example], *, with_answers: bool
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Return the last hidden states, where each row's model tokens stand, and the answers' tokens: row, place before it, token."""
        device = self.model_tokens.device
        answers = [_written(example, self.models) if with_answers else ((),) * self.models for example in examples]
        # The last token of an answer is foreseen but never read.
        read = [tuple(answer[:-1] for answer in row) for row in answers]
        layout = Layout.of([len(e.prompt) for e in examples], [[1 + len(part) for part in row] for row in read]).to(
            device
        )
        tokens = [Tokens(e.prompt, row) for e, row in zip(examples, read, strict=True)]
        entering = self._enter(tokens)
        source, starts, targets = self._arrange(tokens, answers, entering.shape[1], layout.block.shape[1])
        pool = torch.cat([entering, self.model_tokens.to(entering.dtype).expand(len(tokens), -1, -1)], dim=1)
        inputs = pool[torch.arange(len(tokens), device=device)[:, None], source.to(device)]
        hidden = self.upper(
            inputs_embeds=inputs, position_ids=layout.position, attention_mask=layout.causal_mask(), use_cache=False
        ).last_hidden_state
        rows, places, wanted = (part.to(device) for part in targets)
        return hidden, starts.to(device), (rows, places, wanted)

    def _enter(self, rows: Sequence[Tokens]) -> Tensor:
        """Return what enters the first trained layer, without model tokens (rows x length x width, padded with zeros)."""
        weight = self.model_tokens
        if self.states is not None:
            found = [self.states.of(row).to(weight.device, weight.dtype) for row in rows]
        else:
            found = [self.embeddings(torch.tensor(row.all, device=weight.device)) for row in rows]
        return nn.utils.rnn.pad_sequence(found, batch_first=True)

    def _arrange(
        self, rows: Sequence[Tokens], answers: Sequence[Sequence[tuple[int, ...]]], width: int, length: int
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Return for each place of a row which vector stands there (entering ones first, then model tokens), and where things stand."""
        source = torch.zeros(len(rows), length, dtype=torch.long)
        starts = torch.zeros(len(rows), self.models, dtype=torch.long)
        numbers: list[int] = []
        places: list[int] = []
        wanted: list[int] = []
        for row, (tokens, written) in enumerate(zip(rows, answers, strict=True)):
            taken = place = len(tokens.prompt)
            source[row, :place] = torch.arange(place)
            for model, (block, answer) in enumerate(zip(tokens.blocks, written, strict=True)):
                starts[row, model] = place
                source[row, place] = width + model
                source[row, place + 1 : place + 1 + len(block)] = taken + torch.arange(len(block))
                numbers.extend([row] * len(answer))
                places.extend(range(place, place + len(answer)))
                wanted.extend(answer)
                taken, place = taken + len(block), place + 1 + len(block)
        rows_and_places = torch.tensor([numbers, places], dtype=torch.long)
        return source, starts, (rows_and_places[0], rows_and_places[1], torch.tensor(wanted, dtype=torch.long))


def _written(example: Example, models: int) -> tuple[tuple[int, ...], ...]:
    answers = tuple(answer or () for answer in example.answers)
    return answers if answers else ((),) * models

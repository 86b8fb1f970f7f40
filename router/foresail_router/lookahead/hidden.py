"""What the frozen lower layers of a decoder make of prompts and answers: computed once, kept on disk, found again by content.

Prompt and answers pass them without model tokens; each answer's block sees the prompt and itself. It must not know labels or training.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from foresail_router.lookahead.packing import Layout

_ROWS_PER_FILE = 50


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a row without its model tokens: a prompt and the part of each model's answer that is read."""

    prompt: tuple[int, ...]
    blocks: tuple[tuple[int, ...], ...]

    @property
    def all(self) -> list[int]:
        """Prompt and blocks, one after the other."""
        return [*self.prompt, *(token for block in self.blocks for token in block)]


class HiddenStates:
    """The output of frozen layers for rows of tokens, in bfloat16; `name` tells the layers and their weights apart."""

    def __init__(self, lower: nn.Module, embeddings: nn.Module, name: str, directory: Path) -> None:
        # In a list, or a network that holds these states would count frozen layers among its own.
        self._parts = [lower, embeddings]
        self._name = name
        self._directory = directory
        self._rows: dict[Tokens, Tensor] = {}
        self._prompts: dict[tuple[int, ...], Tensor] = {}

    def of(self, tokens: Tokens) -> Tensor:
        """Return the states of one row (tokens x width), which must have been prepared, with or without its blocks."""
        return self._rows[tokens] if any(tokens.blocks) else self._prompts[tokens.prompt]

    def prepare(self, rows: Sequence[Tokens], tick: Callable[[int], object] = lambda rows: None) -> None:
        """Compute, or read from disk, the states of rows; `tick` is told how many more are there."""
        self._directory.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(rows), _ROWS_PER_FILE):
            part = rows[start : start + _ROWS_PER_FILE]
            path = self._directory / f"{self._digest(part)}.safetensors"
            found = _read(path)
            if found is None:
                found = {str(number): self._compute(row) for number, row in enumerate(part)}
                partial = path.with_suffix(f".{os.getpid()}.partial")
                save_file(found, partial)
                partial.replace(path)
            for number, row in enumerate(part):
                states = found[str(number)]
                self._rows[row] = states
                self._prompts.setdefault(row.prompt, states[: len(row.prompt)])
            tick(len(part))

    def _digest(self, rows: Sequence[Tokens]) -> str:
        content = json.dumps([self._name, [[row.prompt, row.blocks] for row in rows]])
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    @torch.no_grad()
    def _compute(self, row: Tokens) -> Tensor:
        lower, embeddings = self._parts
        weight = next(lower.parameters())
        # The place of the model token is left free, so that every later layer sees the same distances.
        layout = Layout.of([len(row.prompt)], [[len(block) for block in row.blocks]], first=1).to(weight.device)
        vectors = embeddings(torch.tensor([row.all], device=weight.device)).to(weight.dtype)
        found = lower(
            inputs_embeds=vectors,
            position_ids=layout.position,
            attention_mask=layout.causal_mask(),
            use_cache=False,
        )
        states: Tensor = found.last_hidden_state[0].to("cpu", torch.bfloat16)
        return states.contiguous()


def _read(path: Path) -> dict[str, Tensor] | None:
    try:
        return load_file(path) if path.exists() else None
    except (OSError, SafetensorError):
        return None

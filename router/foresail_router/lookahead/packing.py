"""How a prompt and a block per model stand in one row: where each token stands, what it may see, and its position.

Pure layout; every block begins behind the prompt as if it stood there alone. It must not know networks' weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_PROMPT = -1
_PADDING = -2


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of some rows (rows x length): block number (-1 in the prompt, -2 in padding), position, and causal visibility."""

    block: Tensor
    position: Tensor

    @classmethod
    def of(cls, prompts: Sequence[int], blocks: Sequence[Sequence[int]], *, first: int = 0) -> Layout:
        """Lay out rows of a prompt's and its blocks' lengths; positions in blocks begin `first` behind the prompt's end."""
        length = max(prompt + sum(parts) for prompt, parts in zip(prompts, blocks, strict=True))
        block = torch.full((len(prompts), length), _PADDING)
        position = torch.zeros(len(prompts), length, dtype=torch.long)
        for row, (prompt, parts) in enumerate(zip(prompts, blocks, strict=True)):
            block[row, :prompt] = _PROMPT
            position[row, :prompt] = torch.arange(prompt)
            start = prompt
            for number, part in enumerate(parts):
                block[row, start : start + part] = number
                position[row, start : start + part] = prompt + first + torch.arange(part)
                start += part
        return cls(block, position)

    def causal_mask(self) -> Tensor:
        """Return who sees whom (rows x 1 x length x length, bool): earlier tokens of the prompt and of the own block."""
        query, key = self.block[:, :, None], self.block[:, None, :]
        length = self.block.shape[1]
        earlier = torch.ones(length, length, dtype=torch.bool, device=self.block.device).tril()
        seen = earlier & ((key == _PROMPT) | (key == query)) & (key != _PADDING)
        # A row of attention without any key is not a number, so padding sees itself.
        return (seen | torch.eye(length, dtype=torch.bool, device=seen.device))[:, None]

    @property
    def real(self) -> Tensor:
        """Which tokens are not padding (rows x length)."""
        return self.block != _PADDING

    def to(self, device: torch.device) -> Layout:
        """Return the layout on a device."""
        return Layout(self.block.to(device), self.position.to(device))

"""The sentence encoder in float64, slow and plain: its vectors, rounded to float16, are the same on every CPU.

Fast float32 kernels add in an order that depends on the CPU; what is trained on this encoder can be trained again to the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from foresail_router.features.encoder import Progress, Vectors
from foresail_router.features.tokens import PromptTokenizer
from foresail_router.features.weights import MAX_TOKENS, EncoderSource

_Array = NDArray[np.float64]
_GRID_STEP = 1 / 4096
_GRID_END = 9.0


class ReferenceEncoder:
    """BERT, mean pooling and L2 norm in float64 numpy, one text at a time."""

    def __init__(self, source: EncoderSource, *, key: str) -> None:
        self.key = key
        self._shape = source.shape
        self._tokenizer = PromptTokenizer(source.tokenizer, max_tokens=MAX_TOKENS)
        self._weights = {
            name: value.astype(np.float64) for name, value in source.weights.items() if value.dtype == np.float32
        }

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Return one row per text, of unit length before the rounding to float16."""
        vectors = np.empty((len(texts), self._shape.width), dtype=np.float32)
        for index, ids in enumerate(self._tokenizer.ids(texts)):
            vectors[index] = self._encode(ids).astype(np.float16)
            if progress is not None:
                progress(1)
        return vectors

    def _encode(self, ids: list[int]) -> _Array:
        weights = self._weights
        hidden = (
            weights["embeddings.word_embeddings.weight"][ids]
            + weights["embeddings.position_embeddings.weight"][: len(ids)]
        )
        hidden = self._norm(hidden + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(self._shape.layers):
            prefix = f"encoder.layer.{layer}"
            hidden = self._norm(
                hidden + self._attention(hidden, f"{prefix}.attention"), f"{prefix}.attention.output.LayerNorm"
            )
            wide = _gelu(self._dense(hidden, f"{prefix}.intermediate.dense"))
            hidden = self._norm(hidden + self._dense(wide, f"{prefix}.output.dense"), f"{prefix}.output.LayerNorm")
        total: _Array = hidden.sum(axis=0)
        unit: _Array = total / np.sqrt(total @ total)
        return unit

    def _attention(self, hidden: _Array, prefix: str) -> _Array:
        tokens, width = hidden.shape
        heads = self._shape.heads
        query, key, value = (
            self._dense(hidden, f"{prefix}.self.{part}").reshape(tokens, heads, width // heads).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(width // heads)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (shares / shares.sum(axis=-1, keepdims=True)) @ value
        return self._dense(mixed.transpose(1, 0, 2).reshape(tokens, width), f"{prefix}.output.dense")

    def _dense(self, value: _Array, name: str) -> _Array:
        result: _Array = value @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return result

    def _norm(self, value: _Array, name: str) -> _Array:
        centred = value - value.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        normal: _Array = centred / np.sqrt(variance + self._shape.epsilon)
        return normal * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def _gelu(value: _Array) -> _Array:
    """Return x Phi(x), with Phi by cubic Hermite interpolation of a table, good to 1e-15 (numpy has no error function)."""
    table, slope = _normal_table()
    position = np.clip(value, -_GRID_END, _GRID_END - _GRID_STEP) + _GRID_END
    index = (position / _GRID_STEP).astype(np.int64)
    t = np.minimum(position / _GRID_STEP - index, 1.0)
    left, right = table[index], table[index + 1]
    left_slope, right_slope = slope[index] * _GRID_STEP, slope[index + 1] * _GRID_STEP
    square, cube = t * t, t * t * t
    phi = (
        left
        + (right - left) * (3 * square - 2 * cube)
        + left_slope * (cube - 2 * square + t)
        + right_slope * (cube - square)
    )
    return value * np.where(value >= _GRID_END, 1.0, np.where(value <= -_GRID_END, 0.0, phi))


@cache
def _normal_table() -> tuple[_Array, _Array]:
    grid = np.arange(round(2 * _GRID_END / _GRID_STEP) + 1) * _GRID_STEP - _GRID_END
    distribution = np.array([0.5 * math.erfc(-point / math.sqrt(2)) for point in grid])
    density = np.array([math.exp(-point * point / 2) / math.sqrt(2 * math.pi) for point in grid])
    return distribution, density

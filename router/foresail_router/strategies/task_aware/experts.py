"""The mixture of experts that foresees quality: shared features, one general head per model, low-rank heads per task. numpy alone.

It must not know how it was trained, nor how a prompt's memberships come about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Experts:
    """Outputs are a prompt's ease and each model's advantage (1 + models).

    The shared trunk is `relu(x @ trunk + trunk_bias)` beside x itself; the general head reads both (`direct`, `general`, `bias`). A task's
    head is the general one plus `down[task] @ up[task]` on the trunk, 0 for models that are no candidates of it.
    """

    trunk: Floats
    trunk_bias: Floats
    direct: Floats
    general: Floats
    bias: Floats
    down: Floats
    up: Floats

    def foresee(self, features: Floats, memberships: Array) -> Array:
        """Return the outputs for one prompt: each task's head in proportion to membership, the general head for the rest."""
        hidden = np.maximum(features @ self.trunk + self.trunk_bias, 0.0)
        outputs: Array = (features @ self.direct + hidden @ self.general + self.bias).astype(np.float64)
        for task in np.flatnonzero(memberships > 1e-4):
            outputs += memberships[task] * ((hidden @ self.down[task]) @ self.up[task])
        return outputs

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `from_arrays` needs, under names of their own."""
        return {f"experts.{name}": getattr(self, name) for name in Experts.__slots__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Experts:
        """Rebuild from a state's arrays; raises `KeyError` when one is missing."""
        return cls(*(arrays[f"experts.{name}"].astype(np.float32, copy=False) for name in Experts.__slots__))

"""The network that foresees answers and judges them, applied with numpy: prompt -> hidden -> one foreseen answer per model -> quality.

Several networks of the same shape, fitted on different prompts, lie side by side. It must not know how they are fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
# Views have rows of length about 1; networks learn faster from figures of size about 1.
INPUT_SCALE = np.float32(10.0)
_PREFIX = "networks."


@dataclass(frozen=True, slots=True)
class Networks:
    """Weights of several networks (first axis), for views of `width` figures, with `hidden` units and latent answers of `latent` figures.

    `trunk` (networks x width x hidden) is shared by all models where `foresee` is networks x hidden x (models * latent); with a trunk
    per model, hidden is models * own and `foresee` networks x models x own x latent. `judge` is networks x models x latent, `decode`
    networks x latent x figures of an answer.
    """

    centre: Floats
    trunk: Floats
    trunk_bias: Floats
    foresee: Floats
    foresee_bias: Floats
    judge: Floats
    judge_bias: Floats
    decode: Floats
    decode_bias: Floats

    def quality(self, view: Floats) -> Floats:
        """Return each network's estimate in (0, 1) (networks x prompts x models) for prompts' views."""
        estimates = np.empty((len(self.trunk), len(view), self.judge.shape[1]), dtype=np.float32)
        for number, row in enumerate(view):
            estimates[:, number] = self.judged(self._hidden(row))
        return estimates

    def judged(self, hidden: Floats) -> Floats:
        """Return each network's estimate in (0, 1) (networks x models) for one prompt, by what reaches its hidden units (networks x hidden)."""
        judgement = (self._latent(hidden) * self.judge).sum(axis=2)
        return _sigmoid(judgement + self.judge_bias)

    def foreseen(self, view: Floats) -> Floats:
        """Return the answers that are foreseen (prompts x models x figures), the networks' mean, in the figures of `answer_targets`."""
        answers = np.empty((len(view), *self.decode_bias.shape[1:]), dtype=np.float32)
        for number, row in enumerate(view):
            answers[number] = (self._latent(self._hidden(row)) @ self.decode + self.decode_bias).mean(axis=0)
        return answers

    def _hidden(self, row: Floats) -> Floats:
        """Return what reaches the hidden units (networks x hidden) from one view: one at a time, so that no batch changes a last bit."""
        scaled: Floats = (row - self.centre) * INPUT_SCALE
        return np.asarray(scaled @ self.trunk + self.trunk_bias, dtype=np.float32)

    def _latent(self, reaching: Floats) -> Floats:
        """Return the latent answers to one prompt (networks x models x latent)."""
        models, latent = self.judge.shape[1:]
        hidden = _silu(reaching)
        if self.foresee.ndim == 3:
            foreseen = (hidden[:, None, :] @ self.foresee)[:, 0]
        else:
            own = hidden.reshape(len(hidden), models, 1, -1)
            foreseen = (own @ self.foresee)[:, :, 0]
        return _silu(foreseen.reshape(len(hidden), models, latent) + self.foresee_bias)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `from_arrays` needs, under names of their own."""
        return {_PREFIX + field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], *, models: int) -> Self:
        """Rebuild from a state's arrays; raises `ValueError` when they are not networks for so many models."""
        found = {}
        for field in fields(cls):
            array = arrays.get(_PREFIX + field.name)
            if array is None:
                raise ValueError(f"the state of the strategy lacks '{_PREFIX}{field.name}'")
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise ValueError(f"'{_PREFIX}{field.name}' is not an array of finite float32")
            found[field.name] = array
        networks = cls(**found)
        networks._check(models)
        return networks

    def _check(self, models: int) -> None:
        if self.trunk.ndim != 3 or self.judge.ndim != 3 or self.decode.ndim != 3 or self.foresee.ndim not in (3, 4):
            raise ValueError("its networks have the wrong number of axes")
        count, width, hidden = self.trunk.shape
        latent, figures = self.judge.shape[2], self.decode.shape[2]
        foresee = (
            (count, hidden, models * latent)
            if self.foresee.ndim == 3
            else (count, models, hidden // max(models, 1), latent)
        )
        wanted = {
            "centre": (width,),
            "trunk_bias": (count, hidden),
            "foresee": foresee,
            "foresee_bias": (count, models, latent),
            "judge": (count, models, latent),
            "judge_bias": (count, models),
            "decode": (count, latent, figures),
            "decode_bias": (count, models, figures),
        }
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"'{_PREFIX}{name}' does not fit the other weights or the models")


def _silu(values: Floats) -> Floats:
    return np.asarray(values * _sigmoid(values), dtype=np.float32)


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(np.minimum(-values, np.float32(40.0)))), dtype=np.float32)

"""From a logit, which only ranks models, to an expected score: one calibration per model, fitted on prompts that training left out.

Plain arrays once fitted. It must not know networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_Curve = tuple[tuple[float, ...], tuple[float, ...]]
_LARGEST_LOGIT = 30.0


@dataclass(frozen=True, slots=True)
class Quality:
    """Per model either slope and intercept of a logistic curve (`platt`), or logits and scores to interpolate between (`isotonic`)."""

    kind: Literal["platt", "isotonic"]
    curves: tuple[_Curve, ...]

    @classmethod
    def fit(cls, kind: Literal["platt", "isotonic"], logits: Array, score: Array) -> Self:
        """Fit on logits and scores in [0, 1] (prompts x models, NaN where unknown); a model without scores is given one half."""
        fitted: list[_Curve] = []
        for model in range(logits.shape[1]):
            known = ~np.isnan(score[:, model])
            x, y = logits[known, model], score[known, model]
            if not len(y):
                fitted.append(((0.0,), (0.0,)) if kind == "platt" else ((0.0,), (0.5,)))
            elif kind == "platt":
                fitted.append(_fit_platt(x, y))
            else:
                fitted.append(_fit_isotonic(x, y))
        return cls(kind, tuple(fitted))

    def predict(self, logits: Array) -> Array:
        """Return expected scores for logits (prompts x models)."""
        expected = np.empty_like(logits)
        for model, (first, second) in enumerate(self.curves):
            if self.kind == "platt":
                linear = np.clip(first[0] * logits[:, model] + second[0], -_LARGEST_LOGIT, _LARGEST_LOGIT)
                expected[:, model] = 1 / (1 + np.exp(-linear))
            else:
                expected[:, model] = np.interp(logits[:, model], first, second)
        return expected

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {"kind": self.kind, "curves": self.curves}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Rebuild from JSON; raises `KeyError`, `TypeError` or `ValueError` for anything else."""
        if content["kind"] not in ("platt", "isotonic"):
            raise ValueError("unknown kind of calibration")
        return cls(content["kind"], tuple((_numbers(first), _numbers(second)) for first, second in content["curves"]))


def _numbers(values: Sequence[Any]) -> tuple[float, ...]:
    return tuple(map(float, values))


def _fit_platt(logits: Array, score: Array) -> _Curve:
    from sklearn.linear_model import LogisticRegression

    # A score between 0 and 1 counts as that share of a success and the rest of a failure; one of each keeps both present.
    x = np.concatenate([logits, logits, [logits.mean()] * 2])[:, None]
    y = np.concatenate([np.ones(len(score)), np.zeros(len(score)), [1.0, 0.0]])
    weight = np.concatenate([score, 1 - score, [0.5, 0.5]])
    fitted = LogisticRegression().fit(x, y, sample_weight=weight)
    return (float(fitted.coef_[0, 0]),), (float(fitted.intercept_[0]),)


def _fit_isotonic(logits: Array, score: Array) -> _Curve:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(out_of_bounds="clip").fit(logits, score)
    return _numbers(fitted.X_thresholds_), _numbers(fitted.y_thresholds_)

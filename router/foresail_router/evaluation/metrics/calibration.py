"""How far estimates of quality can be trusted: calibration error, Brier score, the chosen model, and the spread. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
BINS = 15
ABSTENTIONS = (0.1, 0.2, 0.3)


@dataclass(frozen=True, slots=True)
class Reliability:
    """Bins of equal mass, in order of the predicted quality: mean predicted, mean realised, and rows of each.

    `excess` holds predicted minus realised summed over a prompt's models (prompts x bins), for resampling.
    """

    predicted: Array
    realised: Array
    rows: NDArray[np.int64]
    excess: Array

    @property
    def error(self) -> float:
        """ECE: the mean distance of predicted and realised, weighted by rows."""
        return float(np.average(np.abs(self.predicted - self.realised), weights=self.rows))


def reliability(quality: Array, score: Array) -> Reliability:
    """Return 15 bins of equal mass over all (prompt, model) rows that have a score; fewer where there are fewer rows.

    Rows are put in order by six decimals: what lies below depends on the CPU.
    """
    prompts, models = np.nonzero(np.isfinite(score))
    predicted, actual = quality[prompts, models], score[prompts, models]
    parts = [part for part in np.array_split(np.argsort(np.round(predicted, 6), kind="stable"), BINS) if part.size]
    excess = [np.bincount(prompts[part], predicted[part] - actual[part], minlength=len(score)) for part in parts]
    return Reliability(
        np.array([predicted[part].mean() for part in parts]),
        np.array([actual[part].mean() for part in parts]),
        np.array([part.size for part in parts], dtype=np.int64),
        np.stack(excess, axis=1),
    )


def brier(quality: Array, score: Array) -> Array:
    """Return each prompt's mean squared error of quality over the models: its mean is the Brier score."""
    return np.asarray(np.nanmean(np.square(quality - score), axis=1), dtype=np.float64)


def chosen_error(quality: Array, score: Array, chosen: NDArray[np.int64]) -> Array:
    """Return, per prompt, predicted minus realised quality of the chosen model: its mean says how far choosing flatters itself."""
    rows = np.arange(len(score))
    return np.asarray(quality[rows, chosen] - score[rows, chosen], dtype=np.float64)


def regret_when_abstaining(regret: Array, fallback: Array, uncertainty: Array) -> list[tuple[float, float]]:
    """Return for 10, 20 and 30 % of abstention the mean regret with the fallback in place, and that of the prompts still routed.

    All have one entry per prompt: the router's `regret`, that of the `fallback` (the best single model), and how uncertain the router is.
    """
    order = np.argsort(-uncertainty, kind="stable")
    results = []
    for share in ABSTENTIONS:
        left = order[: round(share * len(order))]
        replaced = regret.copy()
        replaced[left] = fallback[left]
        kept = np.delete(regret, left)
        results.append((float(replaced.mean()), float(kept.mean()) if kept.size else float("nan")))
    return results

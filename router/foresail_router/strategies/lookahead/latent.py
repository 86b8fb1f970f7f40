"""The strategy `latent-lookahead`: foresees from a prompt what each model will answer, as a few figures, and judges that answer.

Quality is what the networks of the inner folds say on average, with the difference between models and what they share scaled as
prompts that were held out from them ask for. Lengths are each model's usual ones. Numpy alone at predicting. It must not know the
text of an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import Array, Features, Predictions, Progress, Settings, State, TrainingSet
from foresail_router.strategies.lengths import MarginalLengths
from foresail_router.strategies.lookahead.network import Floats, Networks
from foresail_router.strategies.views import View, fit_view

# The pool's offset counts for as much as this many outcomes of a model.
_POOL_OUTCOMES = 2.0
_MOST_SLOPE = 1.5


@dataclass(frozen=True, slots=True)
class Calibration:
    """From the networks' estimates to quality: `usual` (per model) is their mean estimate, `offset` the quality that goes with it.

    `slopes` scale what a prompt's estimates differ from the usual ones in common, and each model's from the others. `variance` (per
    model) is what so many outcomes leave open of its offset.
    """

    usual: Array
    offset: Array
    slopes: Array
    variance: Array

    def apply(self, estimates: Array) -> Array:
        """Return quality for estimates (... x prompts x models), unclipped."""
        common, own = _parts(estimates - self.usual)
        return np.asarray(self.offset + self.slopes[0] * common + self.slopes[1] * own)


def calibrate(estimates: Array, score: Array) -> Calibration:
    """Fit a calibration on estimates of prompts (prompts x models) that were held out, and their scores, NaN where unknown."""
    known = np.isfinite(score)
    usual = estimates.mean(axis=0)
    parts = [part + np.zeros_like(estimates) for part in _parts(estimates - usual)]
    count = np.maximum(known.sum(axis=0), 1)
    centred = [
        np.where(known, part - (part * known).sum(axis=0) / count, 0.0).ravel() for part in (*parts, _filled(score))
    ]
    design = np.stack(centred[:2], axis=1)
    ridge = 1e-6 * np.eye(2) * max(float(np.square(design).sum()), 1e-12)
    slopes = np.clip(np.linalg.solve(design.T @ design + ridge, design.T @ centred[2]), 0.0, _MOST_SLOPE)
    rest = np.where(known, _filled(score) - slopes[0] * parts[0] - slopes[1] * parts[1], 0.0)
    pool = rest.sum() / max(int(known.sum()), 1)
    outcomes = known.sum(axis=0)
    offset = (rest.sum(axis=0) + _POOL_OUTCOMES * pool) / (outcomes + _POOL_OUTCOMES)
    return Calibration(usual, offset, slopes, np.maximum(offset * (1 - offset), 0.01) / (outcomes + _POOL_OUTCOMES))


class LatentStrategy:
    """A fitted latent lookahead."""

    configurations: ClassVar[tuple[Settings, ...]] = ({}, {"response_weight": 0.5}, {"epochs": 10})
    uses_answers: ClassVar[bool] = True

    def __init__(
        self,
        view: View,
        networks: Networks,
        calibration: Calibration,
        lengths: MarginalLengths,
        config: Mapping[str, Any],
    ) -> None:
        self._view = view
        self._networks = networks
        self._calibration = calibration
        self._lengths = lengths
        self._config = config

    @classmethod
    def fit(cls, training: TrainingSet, *, seed: int, progress: Progress, settings: Settings | None = None) -> Self:
        """Fit as every strategy does; without recorded answers nothing but the loss on answers is left out, and the config says so.

        Raises `ValueError` for prompts of one fold alone, and for unknown settings.
        """
        from foresail_router.strategies.lookahead.latent_fit import FIGURES, Problem, fit_networks
        from foresail_router.strategies.lookahead.targets import answer_targets

        chosen = read_settings(settings)
        if chosen.share < 1:
            training = training.rows(_some(len(training.folds), chosen.share, seed))
        view = fit_view(training)
        answers = training.answers
        foreseen = None
        if chosen.response and answers is not None and answers.known.any():
            foreseen = answer_targets(answers, chosen.target, FIGURES)
        seen = view.apply(training.features)
        score = training.outcomes.score
        networks, unseen, rate = fit_networks(
            Problem(seen, score, foreseen, training.folds), chosen, seed=seed, progress=progress
        )
        config = {
            "settings": {**asdict(chosen), "learning_rates": list(chosen.learning_rates)},
            "learning_rate": rate,
            "models_with_answers": 0 if foreseen is None else foreseen.models,
        }
        return cls(view, networks, calibrate(unseen, score), MarginalLengths.fit(training.outcomes), config)

    def predict(self, features: Features) -> Predictions:
        """Return estimates for each prompt."""
        estimates = self._networks.quality(self._view.apply(features)).astype(np.float64)
        each = self._calibration.apply(estimates)
        quality = each.mean(axis=0)
        # The jackknife over folds: each network leaves one fold out, so their spread tells how much hangs on the prompts at hand.
        spread = np.square(each - quality).sum(axis=0) * (len(each) - 1) / len(each)
        std = np.sqrt(spread + self._calibration.variance)
        return Predictions(np.clip(quality, 0.0, 1.0), std, *self._lengths.predict(len(features.texts)))

    def foresee(self, features: Features) -> Floats:
        """Return the figures of the answers that are foreseen (prompts x models x figures), as `answer_targets` defines them.

        They mean nothing for a model without recorded answers, nor where the strategy was fitted without the loss on answers.
        """
        return self._networks.foreseen(self._view.apply(features))

    def state(self) -> State:
        """Return arrays and configuration."""
        calibration = {
            f"calibration.{field.name}": getattr(self._calibration, field.name) for field in fields(Calibration)
        }
        arrays = {**self._view.arrays(), **self._networks.arrays(), **calibration, **self._lengths.arrays()}
        return State(arrays, dict(self._config))

    @classmethod
    def from_state(cls, state: State, *, models: int, width: int) -> Self:
        """Rebuild; raises `ValueError` when the state does not fit."""
        view = View.from_arrays(state.arrays)
        networks = Networks.from_arrays(state.arrays, models=models)
        if networks.trunk.shape[1] != len(networks.centre) or len(networks.centre) <= width:
            raise ValueError("its networks do not fit the embeddings")
        lengths = MarginalLengths.from_arrays(state.arrays, models=models)
        return cls(view, networks, _read_calibration(state.arrays, models), lengths, state.config)


def read_settings(settings: Settings | None) -> Any:
    """Return the settings as a `LatentSettings`; raises `ValueError` for one that is unknown or out of bounds."""
    from foresail_router.strategies.lookahead.latent_fit import LatentSettings

    given = dict(settings or {})
    known = {field.name for field in fields(LatentSettings)}
    for name in given:
        if name not in known:
            raise ValueError(f"unknown setting {name!r}; latent-lookahead knows: {', '.join(sorted(known))}")
    if "learning_rates" in given:
        given["learning_rates"] = tuple(given["learning_rates"])
    chosen = LatentSettings(**given)
    if not 0 < chosen.share <= 1:
        raise ValueError(f"share {chosen.share} is not above 0 and at most 1")
    if chosen.target not in ("difference", "answer"):
        raise ValueError(f"target {chosen.target!r} is neither 'difference' nor 'answer'")
    if chosen.epochs < 1 or chosen.hidden < 1 or not chosen.learning_rates or chosen.response_weight < 0:
        raise ValueError("epochs, hidden and learning_rates must be positive, response_weight not negative")
    return chosen


def _parts(deviations: Array) -> tuple[Array, Array]:
    common = deviations.mean(axis=-1, keepdims=True)
    return common, deviations - common


def _filled(score: Array) -> Array:
    """Return scores as deviations to sum over, 0 where unknown."""
    return np.nan_to_num(score, nan=0.0)


def _some(prompts: int, share: float, seed: int) -> NDArray[np.int64]:
    count = max(2, round(share * prompts))
    return np.sort(np.random.default_rng(seed).permutation(prompts)[:count])


def _read_calibration(arrays: Mapping[str, NDArray[Any]], models: int) -> Calibration:
    found = {}
    for field in fields(Calibration):
        name = f"calibration.{field.name}"
        shape = (2,) if field.name == "slopes" else (models,)
        array = arrays.get(name)
        if array is None or array.shape != shape or not np.isfinite(array).all():
            raise ValueError(f"the state of the strategy lacks '{name}', or it does not fit the models")
        found[field.name] = array
    return Calibration(**found)

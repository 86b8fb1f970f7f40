"""Networks that foresee each model's quality: MLP, matrix factorisation, multidimensional item response, IPR."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import Settings
from foresail_router.strategies.baselines.learning import Arrays, Problem, Shapes
from foresail_router.strategies.baselines.linear import logistic
from foresail_router.strategies.baselines.networks import (
    NetworkBaseline,
    Numbers,
    Targets,
    base_logits,
    known_cross_entropy,
    positive,
    rectified,
)
from foresail_router.strategies.views import Dense

_HIDDEN = 64
_RANK = 32
_ABILITIES = 16
_HAIR = 1e-6


class MlpBaseline(NetworkBaseline):
    """A perceptron with one hidden layer, one output per model, and binary cross entropy with the scores."""

    configurations: ClassVar[tuple[Settings, ...]] = (
        {"epochs": 8, "dropout": 0.3, "decay": 10.0},
        {"epochs": 4, "dropout": 0.3, "decay": 10.0},
        {"epochs": 8, "dropout": 0.3, "decay": 1.0},
    )

    @classmethod
    def shapes(cls, settings: Settings, models: int, width: int) -> Shapes:
        """Return two layers."""
        return {"first": (width, _HIDDEN), "bias": (_HIDDEN,), "second": (_HIDDEN, models), "base": (models,)}

    @classmethod
    def logits(cls, arrays: Any, inputs: Numbers) -> Numbers:
        """Return the second layer's output."""
        return rectified(inputs @ arrays["first"] + arrays["bias"]) @ arrays["second"] + arrays["base"]

    @classmethod
    def loss(cls, logits: Numbers, targets: Targets, arrays: Any, inputs: Numbers, settings: Settings) -> Numbers:
        """Return the cross entropy."""
        return known_cross_entropy(logits, targets)


class MatrixFactorisationBaseline(MlpBaseline):
    """Matrix factorisation (RouteLLM, arXiv 2406.18665; EmbedLLM, arXiv 2410.02223).

    A prompt's projection times a model's vector, plus the model's bias, as a logit. Reduced: the frozen view is projected, and the loss is on
    scores, not on preferences between two models.
    """

    @classmethod
    def shapes(cls, settings: Settings, models: int, width: int) -> Shapes:
        """Return the projection and the models' vectors."""
        return {"projection": (width, _RANK), "shift": (_RANK,), "model": (_RANK, models), "base": (models,)}

    @classmethod
    def logits(cls, arrays: Any, inputs: Numbers) -> Numbers:
        """Return the product."""
        return (inputs @ arrays["projection"] + arrays["shift"]) @ arrays["model"] + arrays["base"]


class MirtBaseline(MlpBaseline):
    """Multidimensional item response (IRT-Router, arXiv 2506.01048, its MIRT variant): discrimination(x) . ability(model) - difficulty(x), as a logit.

    Reduced: discrimination and difficulty are linear in the frozen view; abilities are free vectors instead of projected model profiles.
    """

    @classmethod
    def shapes(cls, settings: Settings, models: int, width: int) -> Shapes:
        """Return discrimination, difficulty and abilities."""
        return {
            "discrimination": (width, _ABILITIES),
            "usual": (_ABILITIES,),
            "difficulty": (width, 1),
            "ability": (_ABILITIES, models),
            "base": (models,),
        }

    @classmethod
    def initial(cls, problem: Problem, settings: Settings) -> Arrays:
        """Start from abilities around each model's mean, in equal parts."""
        arrays = super().initial(problem, settings)
        arrays["difficulty"] = np.zeros_like(arrays["difficulty"])
        arrays["base"] = base_logits(problem)
        return arrays

    @classmethod
    def logits(cls, arrays: Any, inputs: Numbers) -> Numbers:
        """Return discrimination times ability, less difficulty; `base` is the part of ability that all dimensions share."""
        discrimination = positive(inputs @ arrays["discrimination"] + arrays["usual"])
        shared = discrimination.mean(-1)[..., None] * 2
        return discrimination @ arrays["ability"] + shared * arrays["base"] - inputs @ arrays["difficulty"]


class IprBaseline(NetworkBaseline):
    """IPR (arXiv 2509.06274): a quality estimator over prompt and model identity, and a tolerance rule that takes the cheapest in reach.

    Models whose quality is within `tolerance` x (highest - lowest) of the highest count as equally good, as good as the cheapest of them, so
    that one is chosen; costs are mean training costs, or mean lengths where none are recorded. Reduced: the frozen view and identity vectors
    in the first layer of a perceptron; squared error as in the paper.
    """

    configurations: ClassVar[tuple[Settings, ...]] = (
        {"epochs": 8, "dropout": 0.3, "decay": 1.0, "tolerance": 0.02},
        {"epochs": 8, "dropout": 0.3, "decay": 1.0, "tolerance": 0.05},
        {"epochs": 8, "dropout": 0.3, "decay": 0.1, "tolerance": 0.02},
    )

    @classmethod
    def shapes(cls, settings: Settings, models: int, width: int) -> Shapes:
        """Return the layers, identities and how dear each model is."""
        return {
            "first": (width, _HIDDEN),
            "identity": (models, _HIDDEN),
            "second": (_HIDDEN, 1),
            "base": (models,),
            "dearness": (models,),
        }

    @classmethod
    def learn(cls, problem: Problem, settings: Settings) -> Arrays:
        """Train the estimator, and rank models by cost."""
        return super().learn(problem, settings) | {"dearness": _dearness(problem)}

    @classmethod
    def logits(cls, arrays: Any, inputs: Numbers) -> Numbers:
        """Return the estimator's output for each model's identity."""
        hidden = rectified((inputs @ arrays["first"])[:, None, :] + arrays["identity"])
        return (hidden @ arrays["second"])[..., 0] + arrays["base"]

    @classmethod
    def loss(cls, logits: Numbers, targets: Targets, arrays: Any, inputs: Numbers, settings: Settings) -> Numbers:
        """Return the squared error."""
        error = (logits.sigmoid() - targets.score) * targets.known
        return (error * error).sum() / targets.known.sum().clamp(min=1)

    @classmethod
    def score(cls, arrays: Arrays, settings: Settings, inputs: Dense) -> NDArray[np.floating[Any]]:
        """Return quality after the tolerance rule."""
        quality = logistic(cls.logits(arrays, inputs)).astype(np.float64)
        return tolerated(quality, arrays["dearness"], settings["tolerance"])


def tolerated(quality: NDArray[np.float64], dearness: NDArray[np.float32], tolerance: float) -> NDArray[np.float64]:
    """Return quality in which the cheapest model within tolerance of the best is best by a hair, and no model is better than that."""
    high, low = quality.max(axis=1, keepdims=True), quality.min(axis=1, keepdims=True)
    within = quality >= high - tolerance * (high - low)
    cheapest = np.where(within, dearness, np.inf).argmin(axis=1)
    enough = np.take_along_axis(quality, cheapest[:, None], axis=1)
    limited = np.minimum(quality, enough - _HAIR)
    np.put_along_axis(limited, cheapest[:, None], enough, axis=1)
    return np.asarray(limited)


def _dearness(problem: Problem) -> NDArray[np.float32]:
    """Return each model's place in the order of mean costs, or of mean log lengths; a model of unknown cost comes last."""
    cost = problem.cost
    if not np.isfinite(cost).any():
        known = np.isfinite(problem.log_tokens)
        count = known.sum(axis=0)
        total = np.where(known, problem.log_tokens, 0.0).sum(axis=0)
        cost = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    if not np.isfinite(cost).any():
        # No model is known to be cheaper: the one of the higher mean score counts as such, so that the rule asks for no less.
        cost = -problem.means
    order = np.where(np.isfinite(cost), cost, np.inf).argsort(kind="stable")
    dearness = np.empty(len(cost), dtype=np.float32)
    dearness[order] = np.arange(len(cost))
    return dearness

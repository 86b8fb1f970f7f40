"""Networks that rank the models for a prompt: RouterDC, ZOOTER, multi-label classification. A line maps their scores to quality."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import Array, Settings
from foresail_router.strategies.baselines.absolute import MlpBaseline
from foresail_router.strategies.baselines.clusters import find_clusters
from foresail_router.strategies.baselines.learning import Arrays, Problem, Shapes, shrunken_means
from foresail_router.strategies.baselines.networks import (
    NetworkBaseline,
    Numbers,
    Targets,
    known_cross_entropy,
    known_only,
    unit,
)

_ROUTING_WIDTH = 64
_SAMPLE_CLUSTERS = 8
_TOP = 3
_SIMILARITY_SCALE = 10.0
_GOOD_SHARE = 0.8


class RouterDcBaseline(NetworkBaseline):
    """The losses of RouterDC (arXiv 2409.19886, its two contrastive losses) on a projection of frozen features: not the paper's fine-tuned encoder.

    Sample-model loss: of a prompt's three best models each is drawn near against its three worst; sample-sample loss, `alike` times: prompts
    of one k-means cluster are drawn together. Prompts on which all models are equal teach nothing of models.
    """

    configurations: ClassVar[tuple[Settings, ...]] = (
        {"epochs": 8, "dropout": 0.3, "decay": 10.0, "alike": 0.3},
        {"epochs": 4, "dropout": 0.3, "decay": 1.0, "alike": 0.3},
        {"epochs": 5, "dropout": 0.3, "decay": 30.0, "alike": 0.3},
    )
    relative: ClassVar[bool] = True

    @classmethod
    def shapes(cls, settings: Settings, models: int, width: int) -> Shapes:
        """Return the projection and the models' vectors."""
        return {"projection": (width, _ROUTING_WIDTH), "shift": (_ROUTING_WIDTH,), "model": (models, _ROUTING_WIDTH)}

    @classmethod
    def targets(cls, problem: Problem, settings: Settings) -> tuple[Array, NDArray[np.bool_], NDArray[np.int64]]:
        """Return scores, and each prompt's cluster."""
        _, cluster = find_clusters(problem.inputs, _SAMPLE_CLUSTERS, problem.seed)
        return problem.score, _telling(problem), cluster

    @classmethod
    def initial(cls, problem: Problem, settings: Settings) -> Arrays:
        """Start with a projection that points one way, so that all models are near alike."""
        arrays = super().initial(problem, settings)
        generator = np.random.default_rng([problem.seed, 1])
        arrays["shift"] = generator.normal(0, 1, _ROUTING_WIDTH).astype(np.float32)
        return arrays

    @classmethod
    def logits(cls, arrays: Any, inputs: Numbers) -> Numbers:
        """Return scaled cosines between prompt and models."""
        return unit(_placed(arrays, inputs)) @ unit(arrays["model"]).T * _SIMILARITY_SCALE

    @classmethod
    def loss(cls, logits: Numbers, targets: Targets, arrays: Any, inputs: Numbers, settings: Settings) -> Numbers:
        """Return the two contrastive losses."""
        import torch

        count = min(_TOP, logits.shape[1] - 1)
        tied = targets.score + 1e-3 * torch.rand_like(targets.score)
        best = (tied + (targets.known - 1) * 1e4).topk(count, dim=1).indices
        worst = (tied - (targets.known - 1) * 1e4).topk(count, dim=1, largest=False).indices
        good, bad = targets.score.gather(1, best), targets.score.gather(1, worst)
        # A model is good or bad only against the other: better than the worst, or worse than the best.
        is_good = (good > bad.min(dim=1, keepdim=True).values).float()
        is_bad = (bad < good.max(dim=1, keepdim=True).values).float()
        against = (logits.gather(1, worst) + (is_bad - 1) * 1e4).logsumexp(dim=1, keepdim=True)
        near = torch.nn.functional.softplus(against - logits.gather(1, best)) * is_good
        models = near.sum() / is_good.sum().clamp(min=1)
        return models + settings["alike"] * _sample_loss(_placed(arrays, inputs), targets.group)


class ZooterBaseline(MlpBaseline):
    """ZOOTER (arXiv 2311.08692): the Kullback-Leibler distance to the softmax of scores, which label means smooth as its tags do.

    Reduced: a perceptron on the frozen view instead of a fine-tuned encoder; outcomes take the place of a reward model's scores.
    """

    configurations: ClassVar[tuple[Settings, ...]] = (
        {"epochs": 8, "dropout": 0.3, "decay": 10.0, "temperature": 0.5, "label_share": 0.3},
        {"epochs": 8, "dropout": 0.3, "decay": 1.0, "temperature": 0.5, "label_share": 0.3},
        {"epochs": 4, "dropout": 0.3, "decay": 10.0, "temperature": 1.0, "label_share": 0.3},
    )
    relative: ClassVar[bool] = True

    @classmethod
    def targets(cls, problem: Problem, settings: Settings) -> tuple[Array, NDArray[np.bool_], NDArray[np.int64]]:
        """Return scores mixed with the means of the prompt's source label."""
        smooth = _label_means(problem)
        mixed = (1 - settings["label_share"]) * problem.score + settings["label_share"] * smooth
        known = problem.known & (problem.known.sum(axis=1, keepdims=True) >= 2)
        return mixed, known, np.zeros(len(mixed), dtype=np.int64)

    @classmethod
    def loss(cls, logits: Numbers, targets: Targets, arrays: Any, inputs: Numbers, settings: Settings) -> Numbers:
        """Return the distance, but for a constant."""
        wanted = known_only(targets.score / settings["temperature"], targets).softmax(dim=1)
        return -(wanted * known_only(logits, targets).log_softmax(dim=1) * targets.known).sum(dim=1).mean()


class MultiLabelBaseline(MlpBaseline):
    """Multi-label classification: which models are good enough for a prompt, that is score at least 0.8 of its best.

    Binary cross entropy on the labels; prompts on which all models are equal teach nothing and are left out.
    """

    relative: ClassVar[bool] = True

    @classmethod
    def targets(cls, problem: Problem, settings: Settings) -> tuple[Array, NDArray[np.bool_], NDArray[np.int64]]:
        """Return the labels."""
        known = _telling(problem)
        score = np.where(problem.known, problem.score, -np.inf)
        labels = (score >= _GOOD_SHARE * score.max(axis=1, keepdims=True)).astype(np.float64)
        return labels, known, np.zeros(len(labels), dtype=np.int64)

    @classmethod
    def loss(cls, logits: Numbers, targets: Targets, arrays: Any, inputs: Numbers, settings: Settings) -> Numbers:
        """Return the cross entropy."""
        return known_cross_entropy(logits, targets)


def _placed(arrays: Any, inputs: Numbers) -> Numbers:
    return inputs @ arrays["projection"] + arrays["shift"]


def _sample_loss(placed: Numbers, group: Numbers) -> Numbers:
    """Return the contrast between a prompt's batch mates of its own cluster and those of others."""
    cosines = unit(placed) @ unit(placed).T * _SIMILARITY_SCALE
    same = (group[:, None] == group[None, :]).float()
    same.fill_diagonal_(0.0)
    other = (group[:, None] != group[None, :]).float()
    everything = (cosines + (same + other - 1) * 1e4).logsumexp(dim=1)
    mates = same.sum(dim=1)
    contrast = everything - (cosines * same).sum(dim=1) / mates.clamp(min=1)
    usable = (mates > 0) & (other.sum(dim=1) > 0)
    return (contrast * usable).sum() / usable.sum().clamp(min=1)


def _telling(problem: Problem) -> NDArray[np.bool_]:
    """Return what is known of prompts on which models differ."""
    known = problem.known
    high = np.where(known, problem.score, -np.inf).max(axis=1)
    low = np.where(known, problem.score, np.inf).min(axis=1)
    return np.asarray(known & (high > low)[:, None])


def _label_means(problem: Problem) -> Array:
    """Return, for each prompt, each model's mean on prompts of the same source label."""
    labels, label_of = np.unique(np.array(problem.tasks), return_inverse=True)
    means = np.stack([_mean_towards(problem, label_of == number) for number in range(len(labels))])
    of_prompts: Array = means[label_of]
    return of_prompts


def _mean_towards(problem: Problem, chosen: NDArray[np.bool_]) -> Array:
    """Return the models' means on some prompts, with their means on all as two outcomes more."""
    return shrunken_means(np.concatenate([problem.score[chosen], problem.means[None], problem.means[None]]))

"""What the baselines that are networks share: one training loop, in torch, and one forward pass for torch and numpy alike.

A network's `logits` uses nothing but arithmetic that tensors and arrays have in common, so what is served is what was trained. It must
not know any method's loss.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.base import Array, Settings
from foresail_router.strategies.baselines.learning import Arrays, LearnedBaseline, Problem
from foresail_router.strategies.baselines.linear import logistic
from foresail_router.strategies.views import Dense

# A torch tensor at fitting, a numpy array at predicting.
Numbers = Any
# An epoch is about 32 steps, but batches are neither noise nor slow.
_STEPS, _LEAST_BATCH, _MOST_BATCH = 32, 32, 256
_RATE = 2e-3
_LEAST_MEAN = 0.01


@dataclass(frozen=True, slots=True)
class Targets:
    """What a loss compares with, per prompt: scores (0 where unknown), which are known (1 or 0), and a number of its group."""

    score: Numbers
    known: Numbers
    group: Numbers


class NetworkBaseline(LearnedBaseline):
    """A network over the dense view, trained by AdamW on shuffled batches with inputs dropped at random; its weights decay, its biases do not.

    Settings of all: `epochs`, `dropout` of inputs and weight `decay`.
    """

    @classmethod
    @abstractmethod
    def logits(cls, arrays: Any, inputs: Numbers) -> Numbers:
        """Return the network's output per prompt and model, in arithmetic that torch and numpy share."""

    @classmethod
    @abstractmethod
    def loss(cls, logits: Numbers, targets: Targets, arrays: Any, inputs: Numbers, settings: Settings) -> Numbers:
        """Return the loss of a batch, in torch."""

    @classmethod
    def targets(cls, problem: Problem, settings: Settings) -> tuple[Array, NDArray[np.bool_], NDArray[np.int64]]:
        """Return what is learned, where it is known, and groups of prompts (0 for all where a method has none)."""
        return problem.score, problem.known, np.zeros(len(problem.score), dtype=np.int64)

    @classmethod
    def initial(cls, problem: Problem, settings: Settings) -> Arrays:
        """Return what to start from: small random weights, zero biases, and each model's mean as its `base` logit."""
        generator = np.random.default_rng(problem.seed)
        arrays: Arrays = {}
        for name, shape in cls.shapes(settings, problem.score.shape[1], problem.inputs.shape[1]).items():
            weights = generator.normal(0, 1 / np.sqrt(shape[0]), shape) if len(shape) == 2 else np.zeros(shape)
            arrays[name] = weights.astype(np.float32)
        if "base" in arrays:
            arrays["base"] = base_logits(problem)
        return arrays

    @classmethod
    def learn(cls, problem: Problem, settings: Settings) -> Arrays:
        """Train the network."""
        return _train(cls, problem, settings)

    @classmethod
    def score(cls, arrays: Arrays, settings: Settings, inputs: Dense) -> NDArray[np.floating[Any]]:
        """Return probabilities; of a relative method logits, less their mean over models."""
        logits = cls.logits(arrays, inputs)
        if cls.relative:
            centred: NDArray[np.float32] = logits - logits.mean(axis=1, keepdims=True)
            return centred
        return logistic(logits)


def base_logits(problem: Problem) -> NDArray[np.float32]:
    """Return the logits of each model's mean score."""
    means = np.clip(problem.means, _LEAST_MEAN, 1 - _LEAST_MEAN)
    logits: NDArray[np.float32] = np.log(means / (1 - means)).astype(np.float32)
    return logits


def rectified(values: Numbers) -> Numbers:
    """Return values, or 0 for negative ones."""
    return (values + abs(values)) / 2


def positive(values: Numbers) -> Numbers:
    """Return a smooth positive function of values: near 0 for negative ones, near the value for positive ones, 1/2 for 0."""
    return (values + (values * values + 1.0) ** 0.5) / 2


def unit(values: Numbers) -> Numbers:
    """Return rows of unit length."""
    return values / ((values * values).sum(-1) + 1e-12)[..., None] ** 0.5


def known_cross_entropy(logits: Numbers, targets: Targets) -> Numbers:
    """Return the mean binary cross entropy over what is known."""
    from torch.nn.functional import softplus

    entropy = (softplus(logits) - targets.score * logits) * targets.known
    return entropy.sum() / targets.known.sum().clamp(min=1)


def known_only(logits: Numbers, targets: Targets) -> Numbers:
    """Return logits that leave unknown models out of a softmax."""
    return logits + (targets.known - 1.0) * 1e4


def _train(network: type[NetworkBaseline], problem: Problem, settings: Settings) -> Arrays:
    import torch

    score, known, group = network.targets(problem, settings)
    usable = np.flatnonzero(known.any(axis=1))
    start = network.initial(problem, settings)
    if not len(usable):
        return start
    arrays = {name: torch.tensor(array, requires_grad=True) for name, array in start.items()}
    decaying = [array for array in arrays.values() if array.ndim == 2]
    others = [array for array in arrays.values() if array.ndim != 2]
    optimiser = torch.optim.AdamW(
        [{"params": decaying, "weight_decay": settings["decay"]}, {"params": others, "weight_decay": 0.0}], lr=_RATE
    )
    inputs = torch.from_numpy(problem.inputs[usable])
    values = torch.from_numpy(np.where(known, score, 0.0)[usable].astype(np.float32))
    mask, groups = torch.from_numpy(known[usable].astype(np.float32)), torch.from_numpy(group[usable])
    batch = min(max(len(usable) // _STEPS, _LEAST_BATCH), _MOST_BATCH)
    batches = -(-len(usable) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings["epochs"] * batches)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(problem.seed)
        for _ in range(settings["epochs"]):
            for part in torch.split(torch.randperm(len(usable)), batch):
                seen = torch.nn.functional.dropout(inputs[part], settings["dropout"])
                targets = Targets(values[part], mask[part], groups[part])
                loss = network.loss(network.logits(arrays, seen), targets, arrays, seen, settings)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
    return {name: array.detach().numpy().copy() for name, array in arrays.items()}

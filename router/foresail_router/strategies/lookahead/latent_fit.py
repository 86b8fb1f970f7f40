"""How latent lookahead learns: one network per inner fold on the prompts of the others, with or without the loss on answers.

Both ways have the same weights at the start, the same steps, parameters and search of the learning rate: what differs is the loss
alone. Needs torch; what it returns does not. It must not know how the outcome is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits, silu

from foresail_router.strategies.base import Array, Progress
from foresail_router.strategies.lookahead.network import INPUT_SCALE, Floats, Networks
from foresail_router.strategies.lookahead.targets import AnswerTargets, Target

LATENT = 32
FIGURES = 32
_OWN_HIDDEN = 48
_DROPOUT = 0.2
_BATCH = 256
_WARM_UP_STEPS = 20
_WEIGHT_DECAY = 0.1
_ORDER = ("trunk", "trunk_bias", "foresee", "foresee_bias", "judge", "judge_bias", "decode", "decode_bias")


@dataclass(frozen=True, slots=True)
class LatentSettings:
    """What may be chosen. `response` is the loss on answers, times `response_weight`; `joint` one trunk for all models or one for each;
    `share` the part of the training prompts that is learned from.
    """

    response: bool = True
    response_weight: float = 0.2
    target: Target = "difference"
    joint: bool = True
    share: float = 1.0
    epochs: int = 6
    hidden: int = 192
    learning_rates: tuple[float, ...] = (0.001, 0.002)


@dataclass(frozen=True, slots=True)
class Problem:
    """What a network is fitted on: views, scores with NaN where unknown, the answers' figures (None: no loss on answers), inner folds."""

    view: Floats
    score: Array
    answers: AnswerTargets | None
    folds: NDArray[np.int64]


def fit_networks(
    problem: Problem, settings: LatentSettings, *, seed: int, progress: Progress
) -> tuple[Networks, Array, float]:
    """Return a network per inner fold, the estimate of each training prompt by the network that did not see it, and the learning rate.

    Raises `ValueError` when all prompts lie in one fold.
    """
    folds = sorted(set(problem.folds.tolist()))
    if len(folds) < 2:
        raise ValueError("all prompts of the training side lie in one fold")
    centre = problem.view.mean(axis=0, dtype=np.float64).astype(np.float32)
    unseen = np.empty(problem.score.shape)
    fitted: list[dict[str, torch.Tensor]] = []
    rates = settings.learning_rates
    with _one_thread():
        data = _Tensors(problem, centre)
        for number, fold in enumerate(folds):
            progress(f"learning to foresee answers, part {number + 1} of {len(folds)}")
            held_out = torch.from_numpy(problem.folds == fold)
            attempts = [_fit_one(data, ~held_out, settings, rate, seed * 1000 + number) for rate in rates]
            losses = [_held_out_loss(data, held_out, weights, settings) for weights in attempts]
            best = int(np.argmin(np.round(losses, 5)))
            # The first fold's choice holds for all: a search in every fold would double the time for the same answer.
            rates = (rates[best],)
            with torch.no_grad():
                logits, _ = _forward(attempts[best], data.view[held_out], settings, None)
                unseen[problem.folds == fold] = torch.sigmoid(logits).numpy()
            fitted.append(attempts[best])
    stacked = {name: torch.stack([weights[name] for weights in fitted]).detach().numpy() for name in _ORDER}
    return Networks(centre, **stacked), unseen, rates[0]


class _Tensors:
    """A problem as tensors."""

    def __init__(self, problem: Problem, centre: Floats) -> None:
        known = np.isfinite(problem.score)
        self.view = torch.from_numpy((problem.view - centre) * INPUT_SCALE)
        self.score = torch.from_numpy(np.where(known, problem.score, 0.0).astype(np.float32))
        self.scored = torch.from_numpy(known.astype(np.float32))
        pool = float(np.nanmean(problem.score))
        mean = (np.nansum(problem.score, axis=0) + 2 * pool) / (known.sum(axis=0) + 2)
        self.usual = torch.from_numpy(np.clip(mean, 0.02, 0.98).astype(np.float32))
        answers = problem.answers
        self.figures = None if answers is None else torch.from_numpy(answers.figures)
        self.answered = None if answers is None else torch.from_numpy(answers.known.astype(np.float32))


def _initial(data: _Tensors, settings: LatentSettings, random: torch.Generator) -> dict[str, torch.Tensor]:
    width, models = data.view.shape[1], data.score.shape[1]

    def draw(*shape: int, fan_in: int, gain: float = 1.0) -> torch.Tensor:
        return torch.randn(*shape, generator=random) * gain / math.sqrt(fan_in)

    hidden = settings.hidden if settings.joint else models * _OWN_HIDDEN
    foresee = (
        draw(hidden, models * LATENT, fan_in=hidden)
        if settings.joint
        else draw(models, _OWN_HIDDEN, LATENT, fan_in=_OWN_HIDDEN)
    )
    weights = {
        "trunk": draw(width, hidden, fan_in=width),
        "trunk_bias": torch.zeros(hidden),
        "foresee": foresee,
        "foresee_bias": torch.zeros(models, LATENT),
        "judge": draw(models, LATENT, fan_in=LATENT, gain=0.3),
        "judge_bias": torch.log(data.usual / (1 - data.usual)),
        "decode": draw(LATENT, FIGURES if data.figures is None else data.figures.shape[2], fan_in=LATENT),
    }
    weights["decode_bias"] = torch.zeros(models, weights["decode"].shape[1])
    return {name: tensor.requires_grad_() for name, tensor in weights.items()}


def _forward(
    weights: dict[str, torch.Tensor], view: torch.Tensor, settings: LatentSettings, dropout: torch.Generator | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits of quality (prompts x models) and figures of the foreseen answers (prompts x models x figures)."""
    models, latent = weights["judge"].shape
    hidden = silu(view @ weights["trunk"] + weights["trunk_bias"])
    if dropout is not None:
        hidden = hidden * (torch.rand(hidden.shape, generator=dropout) > _DROPOUT) / (1 - _DROPOUT)
    if settings.joint:
        foreseen = (hidden @ weights["foresee"]).view(-1, models, latent)
    else:
        foreseen = torch.einsum("nmh,mhl->nml", hidden.view(-1, models, _OWN_HIDDEN), weights["foresee"])
    foreseen = silu(foreseen + weights["foresee_bias"])
    quality = (foreseen * weights["judge"]).sum(2) + weights["judge_bias"]
    return quality, foreseen @ weights["decode"] + weights["decode_bias"]


def _fit_one(
    data: _Tensors, side: torch.Tensor, settings: LatentSettings, rate: float, seed: int
) -> dict[str, torch.Tensor]:
    # Two streams: how wide the answers are, and so how many weights are drawn, must not change the order of prompts.
    weights = _initial(data, settings, torch.Generator().manual_seed(seed))
    random = torch.Generator().manual_seed(seed)
    groups = [
        {"params": [tensor for name, tensor in weights.items() if decays == (not name.endswith("bias"))], **decay}
        for decays, decay in ((True, {"weight_decay": _WEIGHT_DECAY}), (False, {"weight_decay": 0.0}))
    ]
    optimiser = torch.optim.AdamW(groups, lr=rate)
    rows = torch.nonzero(side)[:, 0]
    steps, step = settings.epochs * math.ceil(len(rows) / _BATCH), 0
    for _ in range(settings.epochs):
        for chosen in torch.split(rows[torch.randperm(len(rows), generator=random)], _BATCH):
            for group in optimiser.param_groups:
                group["lr"] = (
                    rate * min(1.0, (step + 1) / _WARM_UP_STEPS) * 0.5 * (1 + math.cos(math.pi * step / steps))
                )
            loss = _loss(data, chosen, weights, settings, random)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            step += 1
    return weights


def _loss(
    data: _Tensors,
    chosen: torch.Tensor,
    weights: dict[str, torch.Tensor],
    settings: LatentSettings,
    dropout: torch.Generator | None,
) -> torch.Tensor:
    """Return the loss on quality, and the loss on answers with it where answers are learned from."""
    logits, figures = _forward(weights, data.view[chosen], settings, dropout)
    loss = _quality_loss(logits, data.score[chosen], data.scored[chosen])
    if data.figures is None or data.answered is None:
        return loss
    answered = data.answered[chosen]
    squares = torch.square(figures - data.figures[chosen]).mean(2)
    return loss + settings.response_weight * (squares * answered).sum() / answered.sum().clamp(min=1.0)


def _quality_loss(logits: torch.Tensor, score: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    losses = binary_cross_entropy_with_logits(logits, score, weight=scored, reduction="sum")
    return losses / scored.sum().clamp(min=1.0)


def _held_out_loss(
    data: _Tensors, side: torch.Tensor, weights: dict[str, torch.Tensor], settings: LatentSettings
) -> float:
    with torch.no_grad():
        logits, _ = _forward(weights, data.view[side], settings, None)
        return float(_quality_loss(logits, data.score[side], data.scored[side]))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums of one thread do not depend on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

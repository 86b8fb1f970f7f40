"""Trains the mixture of experts in two phases: trunk and general head on all prompts, then the tasks' heads on their prompts.

Torch, on one thread, and for training alone. It must not know folds or how memberships came about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from foresail_router.strategies.task_aware.experts import Array, Experts, Floats
from foresail_router.strategies.task_aware.ridge import Linear

_HIDDEN = 64
_BATCH = 256
_EPOCHS = (6, 4)
_RATES = (2e-3, 5e-3)
_DECAYS = (0.05, 0.2)
_DROPOUT = 0.5


@dataclass(frozen=True, slots=True)
class ExpertData:
    """What experts learn from: features (prompts x width), targets (prompts x outputs, NaN where unknown), memberships (prompts x tasks)."""

    features: Floats
    targets: Array
    members: Array


def train_experts(data: ExpertData, start: Linear, heads: NDArray[np.bool_], *, rank: int, seed: int) -> Experts:
    """Return trained experts.

    `start` is the ridge solution that the general head starts from: the network learns what is not linear. `heads` (tasks x outputs)
    says which outputs a task's head changes.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _train(data, start, heads, rank, torch.Generator().manual_seed(seed))
    finally:
        torch.set_num_threads(threads)


def _train(data: ExpertData, start: Linear, heads: NDArray[np.bool_], rank: int, generator: torch.Generator) -> Experts:
    features = torch.from_numpy(data.features)
    known = torch.from_numpy(np.isfinite(data.targets).astype(np.float32))
    linear = data.features.astype(np.float64) @ start[0] + start[1]
    residual = torch.from_numpy(np.nan_to_num(data.targets - linear).astype(np.float32))
    width, outputs, tasks = features.shape[1], residual.shape[1], heads.shape[0]
    trunk = (torch.randn(width, _HIDDEN, generator=generator) * (2.0 / width) ** 0.5 * width**0.5).requires_grad_()
    trunk_bias = torch.zeros(_HIDDEN, requires_grad=True)
    general = torch.zeros(_HIDDEN, outputs, requires_grad=True)

    def general_loss(part: torch.Tensor) -> torch.Tensor:
        hidden = _hidden(features[part], trunk, trunk_bias, generator)
        return _squared_error(hidden @ general, residual[part], known[part])

    _optimise([trunk, trunk_bias, general], general_loss, len(features), 0, generator)
    down = (torch.randn(tasks, _HIDDEN, rank, generator=generator) / _HIDDEN**0.5).requires_grad_()
    up = torch.zeros(tasks, rank, outputs, requires_grad=True)
    if tasks:
        members = torch.from_numpy(data.members.astype(np.float32))
        mask = torch.from_numpy(heads.astype(np.float32))
        with torch.no_grad():
            base = torch.relu(features @ trunk + trunk_bias)
            rest = residual - base @ general

        def task_loss(part: torch.Tensor) -> torch.Tensor:
            changes = torch.einsum("ph,thr,pt->ptr", base[part], down, members[part])
            changed = torch.einsum("ptr,tro,to->po", changes, up, mask)
            return _squared_error(changed, rest[part], known[part])

        _optimise([down, up], task_loss, len(features), 1, generator)
    final_up = up.detach().numpy() * heads[:, None, :]
    arrays = (trunk, trunk_bias, start[0], general, start[1], down, final_up)
    return Experts(*(np.asarray(_plain(array), dtype=np.float32) for array in arrays))


def _hidden(
    features: torch.Tensor, trunk: torch.Tensor, bias: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    hidden = torch.relu(features @ trunk + bias)
    kept = torch.rand(hidden.shape, generator=generator) >= _DROPOUT
    return hidden * kept / (1.0 - _DROPOUT)


def _squared_error(foreseen: torch.Tensor, actual: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    return (torch.square(foreseen - actual) * known).sum() / known.sum().clamp(min=1.0)


def _optimise(
    parameters: list[torch.Tensor],
    loss: Callable[[torch.Tensor], torch.Tensor],
    prompts: int,
    phase: int,
    generator: torch.Generator,
) -> None:
    optimiser = torch.optim.AdamW(parameters, lr=_RATES[phase], weight_decay=_DECAYS[phase])
    batches = max(1, prompts // _BATCH)
    steps = _EPOCHS[phase] * batches
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: max(0.0, 1.0 - step / steps))
    for _ in range(_EPOCHS[phase]):
        order = torch.randperm(prompts, generator=generator)
        for part in order.tensor_split(batches):
            optimiser.zero_grad(set_to_none=True)
            loss(part).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()


def _plain(array: torch.Tensor | NDArray[Any]) -> NDArray[Any]:
    return array.detach().numpy() if isinstance(array, torch.Tensor) else array

"""AdamW on float32 copies of what is trained, whatever the precision of the network, with a cosine learning rate.

It must not know what is trained, nor files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from foresail_router.lookahead.parallel import Parallel
from foresail_router.lookahead.recipe import Recipe

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Optimizer:
    """The trained parameters of a network as float32 `masters` by name, their gradients and AdamW's moments."""

    def __init__(self, network: nn.Module, recipe: Recipe, steps: int, parallel: Parallel) -> None:
        self._recipe, self._steps, self._parallel = recipe, steps, parallel
        self._parameters = {name: part for name, part in network.named_parameters() if part.requires_grad}
        self.masters = {name: part.detach().float().clone() for name, part in self._parameters.items()}
        self._gradients = {name: torch.zeros_like(master) for name, master in self.masters.items()}
        for name, master in self.masters.items():
            master.grad = self._gradients[name]
        decayed = [master for master in self.masters.values() if master.dim() > 1]
        plain = [master for master in self.masters.values() if master.dim() <= 1]
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self._adam = torch.optim.AdamW([group for group in groups if group["params"]], lr=recipe.learning_rate)

    @torch.no_grad()
    def gather(self) -> None:
        """Add the gradients of a pass to those of the step, and clear them in the network."""
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                self._gradients[name] += parameter.grad
                parameter.grad = None

    @torch.no_grad()
    def step(self, number: int) -> None:
        """Take step `number` (from 0) with the gradients gathered by all processes, and write the result into the network."""
        for gradient in self._gradients.values():
            self._parallel.add_up(gradient)
        nn.utils.clip_grad_norm_(list(self.masters.values()), self._recipe.gradient_norm)
        for group in self._adam.param_groups:
            group["lr"] = learning_rate(self._recipe, number, self._steps)
        self._adam.step()
        for gradient in self._gradients.values():
            gradient.zero_()
        self.publish()

    @torch.no_grad()
    def publish(self) -> None:
        """Write the masters into the network."""
        for name, parameter in self._parameters.items():
            parameter.copy_(self.masters[name])

    def state(self) -> dict[str, Tensor]:
        """Return all that `restore` needs after a first step, as named tensors."""
        tensors = {f"weight:{name}": master for name, master in self.masters.items()}
        for name, master in self.masters.items():
            tensors |= {f"{moment}:{name}": self._adam.state[master][moment] for moment in _MOMENTS}
        return tensors

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], steps_taken: int) -> None:
        """Continue from `state` after so many steps; raises `KeyError` or `RuntimeError` when it is not of this network."""
        for name, master in self.masters.items():
            master.copy_(tensors[f"weight:{name}"])
            self._adam.state[master] = {
                "step": torch.tensor(float(steps_taken)),
                **{moment: tensors[f"{moment}:{name}"].to(master.device) for moment in _MOMENTS},
            }
        self.publish()


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Return the learning rate of a step (from 0): a straight rise over the warm-up, then half a cosine down to 0."""
    warmup = round(recipe.warmup * steps)
    if step < warmup:
        return recipe.learning_rate * (step + 1) / (warmup + 1)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

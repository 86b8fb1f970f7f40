"""Training either lookahead model: steps, choice of the checkpoint on validation, early stopping, and going on where one stopped.

A step depends on the recipe, its number and the examples alone, not on how many processes share it or on what ran before. It must not
know data directories or figures on the test side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foresail_router.lookahead.checkpoints import read_tensors, remove, write_tensors
from foresail_router.lookahead.examples import Example
from foresail_router.lookahead.networks import LookaheadNetwork, grouped
from foresail_router.lookahead.optimizer import Optimizer
from foresail_router.lookahead.parallel import ALONE, Parallel
from foresail_router.lookahead.recipe import Recipe
from foresail_router.lookahead.sums import count

Progress = Callable[[str], object]
_CHECKPOINT = "checkpoint.safetensors"
_BEST = "best.safetensors"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One look at validation after `step` steps: mean score of the chosen models, and mean losses of training since the last look."""

    step: int
    validation_score: float
    routing_loss: float
    language_loss: float


@dataclass(slots=True)
class History:
    """How a training went. `seconds` counts the steps of all its parts."""

    evaluations: list[Evaluation] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def best(self) -> Evaluation:
        """The evaluation with the highest validation score, the first of equals."""
        return max(self.evaluations, key=lambda evaluation: evaluation.validation_score)


class Validation:
    """Prompts to choose the checkpoint by, with every model's score (prompts x models)."""

    def __init__(self, examples: Sequence[Example], score: NDArray[np.float64]) -> None:
        self.examples = examples
        self.score = score

    def mean_score(self, network: LookaheadNetwork, parallel: Parallel) -> float:
        """Return the mean score of the models with the highest logits."""
        chosen = network.all_logits(self.examples, parallel).argmax(axis=1)
        return float(np.nanmean(self.score[np.arange(len(chosen)), chosen]))


def train(
    network: LookaheadNetwork,
    examples: Sequence[Example],
    validation: Validation,
    directory: Path,
    *,
    parallel: Parallel = ALONE,
    progress: Progress = lambda message: None,
) -> History:
    """Train `network` in place to its best checkpoint; go on from the one that `directory` holds, if any.

    Returns how it went. Raises `UserError` for a checkpoint that is damaged or of another network.
    """
    run = _Run(network, examples, directory, parallel)
    looks = evaluation_steps(network.core.recipe, len(examples))
    while run.step < run.steps and not run.patience_ended():
        run.take_step()
        if run.step in looks:
            seen = run.evaluate(validation)
            progress(
                f"step {seen.step} of {run.steps}: validation {seen.validation_score:.4f}, "
                f"routing loss {seen.routing_loss:.4f}, language loss {seen.language_loss:.4f}, {run.history.seconds:.0f} s"
            )
    run.finish()
    return run.history


def total_steps(recipe: Recipe, examples: int) -> int:
    """Return how many steps a training on so many examples takes."""
    return recipe.epochs * -(-examples // recipe.batch)


def evaluation_steps(recipe: Recipe, examples: int) -> frozenset[int]:
    """Return after which steps the checkpoint is judged; the last is one of them."""
    steps, looks = total_steps(recipe, examples), recipe.epochs * recipe.evaluations_per_epoch
    return frozenset(max(1, round(steps * look / looks)) for look in range(1, looks + 1))


class _Run:
    def __init__(
        self, network: LookaheadNetwork, examples: Sequence[Example], directory: Path, parallel: Parallel
    ) -> None:
        self.recipe: Recipe = network.core.recipe
        self.steps = total_steps(self.recipe, len(examples))
        self.step = 0
        self.history = History()
        self._network, self._examples, self._directory, self._parallel = network, examples, directory, parallel
        self._optimizer = Optimizer(network, self.recipe, self.steps, parallel)
        self._losses: list[tuple[float, float]] = []
        directory.mkdir(parents=True, exist_ok=True)
        self._resume()

    def take_step(self) -> None:
        """Learn from the next batch."""
        started = time.monotonic()
        recipe, core = self.recipe, self._network.core
        batch = [self._examples[row] for row in _batch_rows(recipe, len(self._examples), self.step)]
        share_done = self.step / self.steps
        cells, tokens = count(batch, recipe, share_done)
        passes = list(grouped([core.length(example, training=True) for example in batch], recipe.tokens_per_pass))
        losses = torch.zeros(2, device=self._network.device)
        self._network.train()
        for number in range(self._parallel.number, len(passes), self._parallel.processes):
            # Dropout is drawn by step and pass, so that it does not matter which process takes a pass, or after what.
            seed = int(np.random.SeedSequence([recipe.seed, self.step, number]).generate_state(1)[0])
            torch.manual_seed(seed)
            sums = core.sums([batch[row] for row in passes[number]], progress=share_done, seed=seed)
            routing, language = sums.routing / max(1, cells), sums.language / max(1, tokens)
            loss: Tensor = routing + recipe.response_weight * language
            loss.backward()  # type: ignore[no-untyped-call]
            losses += torch.stack([routing.detach(), language.detach()])
            self._optimizer.gather()
        self._parallel.add_up(losses)
        self._optimizer.step(self.step)
        self._losses.append((float(losses[0]), float(losses[1])))
        self.step += 1
        self.history.seconds += time.monotonic() - started

    def evaluate(self, validation: Validation) -> Evaluation:
        """Judge the network on validation and keep a checkpoint, apart if it is the best yet."""
        score = validation.mean_score(self._network, self._parallel)
        routing, language = np.mean(self._losses, axis=0)
        self._losses.clear()
        seen = Evaluation(self.step, score, float(routing), float(language))
        self.history.evaluations.append(seen)
        if self._parallel.leads:
            if self.history.best is seen:
                write_tensors(self._directory / _BEST, self._optimizer.masters, {"step": self.step})
            write_tensors(self._directory / _CHECKPOINT, self._optimizer.state(), {"history": asdict(self.history)})
        return seen

    def patience_ended(self) -> bool:
        """Return whether validation has not improved for as many evaluations as the recipe bears."""
        found = self.history.evaluations
        return (
            self.recipe.patience is not None
            and bool(found)
            and len(found) - 1 - found.index(self.history.best) >= self.recipe.patience
        )

    def finish(self) -> None:
        """Put the best checkpoint into the network and remove the files that only going on would need."""
        self._parallel.wait()
        tensors, _ = read_tensors(self._directory / _BEST, self._network.device)
        for name, master in self._optimizer.masters.items():
            master.detach().copy_(tensors[name])
        self._optimizer.publish()
        self._parallel.wait()
        if self._parallel.leads:
            remove(self._directory / _CHECKPOINT, self._directory / _BEST)

    def _resume(self) -> None:
        path = self._directory / _CHECKPOINT
        if not path.exists():
            return
        tensors, state = read_tensors(path, self._network.device)
        history = state["history"]
        self.history = History([Evaluation(**seen) for seen in history["evaluations"]], history["seconds"])
        self.step = self.history.evaluations[-1].step
        self._optimizer.restore(tensors, self.step)


def _batch_rows(recipe: Recipe, examples: int, step: int) -> NDArray[np.int64]:
    per_epoch = -(-examples // recipe.batch)
    epoch, number = divmod(step, per_epoch)
    order = np.random.default_rng([recipe.seed, epoch]).permutation(examples)
    return order[number * recipe.batch : (number + 1) * recipe.batch]

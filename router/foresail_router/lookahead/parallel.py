"""Several processes that train one model together, as `torchrun` starts them; one process where it did not.

Gradients are summed once a step, so no wrapper stands around the model. It must not know what is trained.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

_PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Parallel:
    """This process's place among `processes`; number 0 alone writes files."""

    number: int = 0
    processes: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes."""
        return self.number == 0

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes."""
        if self.processes > 1:
            distributed.all_reduce(tensor)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.processes > 1:
            distributed.barrier()


ALONE = Parallel()


@contextmanager
def open_parallel(device: str) -> Iterator[tuple[Parallel, torch.device]]:
    """Join the processes that `torchrun` started, if it did, and yield this one's place and device."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    place = torch.device(device, local) if device == "cuda" else torch.device(device)
    if processes == 1:
        yield ALONE, place
        return
    if device == "cuda":
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Parallel(distributed.get_rank(), processes), place
    finally:
        distributed.destroy_process_group()

"""What a person is shown of a discovered task: name, size, candidates, example ids, and how pure it is against known labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foresail_router.strategies.task_aware.names import task_names

_EXAMPLES = 3
_LABELS = 3
_MOST_LABEL_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """One task: `prompts` of the training side are its own, `candidates` are columns of the models, `alpha` weighs prompt against task, and is
    None where the two are joined in another way.

    `labels` are the most common known labels with their share of the task's labelled prompts; `purity` is the share of the first, None
    without labels.
    """

    name: str
    prompts: int
    candidates: tuple[int, ...]
    alpha: float | None
    examples: tuple[str, ...]
    labels: tuple[tuple[str, float], ...]
    purity: float | None

    def plain(self) -> dict[str, Any]:
        """Return the facts as JSON can hold them."""
        return asdict(self) | {
            "candidates": list(self.candidates),
            "examples": list(self.examples),
            "labels": [list(label) for label in self.labels],
        }


def read_facts(entries: Sequence[Mapping[str, Any]], *, models: int) -> tuple[TaskFacts, ...]:
    """Return facts from their plain form; raises `ValueError` when they are not of that form."""
    try:
        facts = tuple(
            TaskFacts(
                str(entry["name"]),
                int(entry["prompts"]),
                tuple(int(number) for number in entry["candidates"]),
                None if entry["alpha"] is None else float(entry["alpha"]),
                tuple(str(example) for example in entry["examples"]),
                tuple((str(label), float(share)) for label, share in entry["labels"]),
                None if entry["purity"] is None else float(entry["purity"]),
            )
            for entry in entries
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its tasks are damaged at {error}") from error
    if any(not 0 <= number < models for task in facts for number in task.candidates):
        raise ValueError("its tasks name a model that is not there")
    return facts


def describe_tasks(
    texts: Sequence[str],
    ids: Sequence[str],
    labels: Sequence[str | None],
    task: NDArray[np.int64],
    nearness: NDArray[np.floating[Any]],
    candidates: NDArray[np.bool_],
    alphas: NDArray[np.float64] | None,
) -> tuple[TaskFacts, ...]:
    """Return the facts of each task (rows of `candidates`); the examples are the prompts of greatest `nearness` to their task."""
    names = task_names(texts, task, len(candidates))
    facts = []
    for number, name in enumerate(names):
        members = [int(index) for index in np.flatnonzero(task == number)]
        nearest = sorted(members, key=lambda index: (-nearness[index], index))[:_EXAMPLES]
        known = Counter(label[:_MOST_LABEL_CHARACTERS] for index in members if (label := labels[index]) is not None)
        total = sum(known.values())
        common = sorted(known.items(), key=lambda item: (-item[1], item[0]))[:_LABELS]
        shares = tuple((label, round(count / total, 4)) for label, count in common)
        facts.append(
            TaskFacts(
                name,
                len(members),
                tuple(int(column) for column in np.flatnonzero(candidates[number])),
                None if alphas is None else round(float(alphas[number]), 4),
                tuple(ids[index] for index in nearest),
                shares,
                shares[0][1] if shares else None,
            )
        )
    return tuple(facts)

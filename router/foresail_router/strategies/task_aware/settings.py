"""What can be chosen of task-aware routing, checked: the defaults, and the changes that ablations make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

COMMUNITIES = ("leiden", "kmeans", "labels")
STAGES = ("both", "tasks", "experts")
TEXTS = ("auto", "prompts", "descriptions")


@dataclass(frozen=True, slots=True)
class TaskAwareSettings:
    """How tasks are found and used.

    `communities`: Leiden on the graph, k-means on the vectors, or the known labels as a reference. `texts`: what discovery embeds;
    `auto` is descriptions where there are any, and where one is missing it is the prompt. `stages`: both, task scores alone, or quality heads alone. `beta` is
    the share of the cosine in an edge's weight, the rest is ranking agreement. `resolutions` are all used for scores, and the best of them is shown
    and has experts (for k-means they scale the number of clusters). `neighbours` bounds a prompt's edges; `smoothing` is how many neighbours its model ranking is taken from.
    `coverage` is the share of a task's prompts for which its candidates hold a best answer. `rank` is that of a task's head.
    """

    communities: str = "leiden"
    texts: str = "auto"
    stages: str = "both"
    beta: float = 0.5
    resolutions: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    neighbours: int = 20
    smoothing: int = 100
    coverage: float = 0.9
    rank: int = 4


def read_settings(changes: Mapping[str, Any] | None) -> TaskAwareSettings:
    """Return the defaults with changes; raises `ValueError` for a name or a value that is none of theirs."""
    changes = dict(changes or {})
    known = {field.name for field in fields(TaskAwareSettings)}
    if unknown := sorted(set(changes) - known):
        raise ValueError(f"unknown setting {unknown[0]!r} of task-aware; it has: {', '.join(sorted(known))}")
    if isinstance(changes.get("resolutions"), list | tuple):
        changes["resolutions"] = tuple(float(value) for value in changes["resolutions"])
    settings = TaskAwareSettings(**changes)
    _check(settings)
    return settings


def _check(settings: TaskAwareSettings) -> None:
    for name, allowed in (("communities", COMMUNITIES), ("texts", TEXTS), ("stages", STAGES)):
        if getattr(settings, name) not in allowed:
            raise ValueError(f"setting {name!r} is {getattr(settings, name)!r}; it is one of: {', '.join(allowed)}")
    for name, least, most in (
        ("beta", 0.0, 1.0),
        ("coverage", 0.01, 1.0),
        ("neighbours", 1, 1000),
        ("smoothing", 1, 1000),
        ("rank", 1, 64),
    ):
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError(f"setting {name!r} is {value!r}; it lies between {least} and {most}")
    resolutions = settings.resolutions
    if not isinstance(resolutions, tuple) or not resolutions or not all(0 < value < 1e6 for value in resolutions):
        raise ValueError(f"setting 'resolutions' is {resolutions!r}; it is a list of numbers above 0")

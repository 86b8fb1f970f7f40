"""What may be chosen of the fused strategy, and its reading from plain settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

COMPONENTS = ("linear", "neighbours", "networks", "labels", "tasks")

WEIGHTS = ("competitive", "equal")


@dataclass(frozen=True, slots=True)
class FusedSettings:
    """What is fitted and how it is joined.

    `components` are joined by `weights`: `competitive` (see `weights.py`) or `equal`. `neighbours` are looked at; `penalty` of the linear
    smoother is in usual prompts. The component `labels` is what models score on a foreseen source label, `tasks` that and what discovered
    tasks add to it; with `labels` false, source labels are not looked at. `answers` lets the networks learn to foresee answers where there
    are any; `hidden` and `epochs` are theirs. `caution` routes by less of the advantages where that is better on inner folds.
    """

    components: tuple[str, ...] = COMPONENTS
    neighbours: int = 250
    penalty: float = 100.0
    weights: str = "competitive"
    labels: bool = True
    answers: bool = False
    hidden: int = 96
    epochs: int = 6
    caution: bool = True


def read_settings(settings: Mapping[str, Any] | None) -> FusedSettings:
    """Return settings with the defaults of what is not said; raises `ValueError` for one that is not known or not of its type."""
    given = dict(settings or {})
    known = {field.name: field for field in fields(FusedSettings)}
    default = FusedSettings()
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"fused has no setting {name!r}; it has: {', '.join(sorted(known))}")
        if name == "components":
            chosen = tuple(value)
            if not chosen or set(chosen) - set(COMPONENTS):
                raise ValueError(f"components {value!r} are not some of: {', '.join(COMPONENTS)}")
            given[name] = chosen
            continue
        if name == "weights" and value not in WEIGHTS:
            raise ValueError(f"weights {value!r} is not one of: {', '.join(WEIGHTS)}")
        wanted = type(getattr(default, name))
        if wanted is float and type(value) is int:
            given[name] = float(value)
        elif type(value) is not wanted:
            raise ValueError(f"the setting {name} is {value!r}; expected a {wanted.__name__}")
    return FusedSettings(**given)

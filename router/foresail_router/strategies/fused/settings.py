"""What may be chosen of the fused strategy, and its reading from plain settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

DEFAULT_COMPONENTS = ("neighbours", "networks", "labels", "tasks")
# A linear smoother does not earn its place beside these; it can be asked for to see so.
COMPONENTS = (*DEFAULT_COMPONENTS, "linear")
WEIGHTS = ("competitive", "equal")
_LEAST = {"neighbours": 1, "penalty": 0.01, "hidden": 1, "epochs": 1}


@dataclass(frozen=True, slots=True)
class FusedSettings:
    """What is fitted and how it is joined.

    `components` are joined by `weights`: `competitive` (see `weights.py`) or `equal`. `neighbours` are looked at; `penalty` of the linear
    smoother, and of what is not known of an estimate, is in usual prompts. The component `labels` is what models score on a foreseen source label, `tasks` that and what discovered
    tasks add to it; with `labels` false, source labels are not looked at. `answers` lets the networks learn to foresee answers where there
    are any; `hidden` and `epochs` are theirs. `caution` believes less of the advantages where inner folds did not keep what they promised.
    """

    components: tuple[str, ...] = DEFAULT_COMPONENTS
    neighbours: int = 250
    penalty: float = 30.0
    weights: str = "competitive"
    labels: bool = True
    answers: bool = False
    hidden: int = 96
    epochs: int = 6
    caution: bool = True


def read_settings(settings: Mapping[str, Any] | None) -> FusedSettings:
    """Return settings with the defaults of what is not said; raises `ValueError` for one that is not known, of its type or in its bounds."""
    given = dict(settings or {})
    known = {field.name for field in fields(FusedSettings)}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"fused has no setting {unknown[0]!r}; it has: {', '.join(sorted(known))}")
    default = FusedSettings()
    for name, value in given.items():
        if name == "components":
            given[name] = _components(value)
            continue
        wanted = type(getattr(default, name))
        if wanted is float and type(value) is int:
            given[name] = float(value)
        elif type(value) is not wanted:
            raise ValueError(f"the setting {name} is {value!r}; expected a {wanted.__name__}")
        if name == "weights" and value not in WEIGHTS:
            raise ValueError(f"the setting weights is {value!r}; it is one of: {', '.join(WEIGHTS)}")
        # The comparison is false for a number that is none, too.
        if name in _LEAST and not _LEAST[name] <= value < float("inf"):
            raise ValueError(f"the setting {name} is {value!r}; it must be at least {_LEAST[name]}")
    return FusedSettings(**given)


def _components(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value or any(name not in COMPONENTS for name in value):
        raise ValueError(f"the setting components is {value!r}; it is a list of some of: {', '.join(COMPONENTS)}")
    return tuple(value)

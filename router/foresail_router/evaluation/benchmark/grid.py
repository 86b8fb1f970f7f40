"""What a benchmark runs: pools, variants of strategies, seeds and folds; one cell is one fit. It must not know data or files."""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from foresail_router.strategies.base import Settings, find_strategy, strategy_names

MOST_CONFIGURATIONS = 3
_PACKAGE = "foresail_router"
_ROOT = Path(__file__).resolve().parents[3]
# The interface that every strategy imports: a line more in its registry changes none of them.
_INTERFACE = f"{_PACKAGE}.strategies.base"
# Strategies of our own; every other one is a baseline.
_OWN_ROOMS = ("fused", "task_aware", "lookahead")


@dataclass(frozen=True, slots=True)
class Variant:
    """A strategy under a name, with the configurations that are chosen among; `baseline` says whether it may be the best baseline.

    `against` names another variant that it is compared with beside the focus, as an ablation with its own counterpart.
    """

    name: str
    strategy: str
    configurations: tuple[Settings, ...]
    baseline: bool
    against: str | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One fit: a variant's configuration on one pool, leaving one fold out."""

    pool: str
    variant: str
    strategy: str
    configuration: int
    settings: Settings
    seed: int
    fold: int

    @property
    def label(self) -> str:
        """What progress calls it."""
        return f"{self.pool} {self.variant}/{self.configuration} seed {self.seed} fold {self.fold}"

    def key(self, data_fingerprint: str) -> str:
        """Return what the cell's predictions depend on, as a digest: data, settings, seed, fold and code."""
        parts = [data_fingerprint, self.strategy, dict(self.settings), self.seed, self.fold, code_digest(self.strategy)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Grid:
    """All cells of a benchmark."""

    pools: tuple[str, ...]
    variants: tuple[Variant, ...]
    seeds: int
    folds: int

    def cells(self, pool: str, variant: Variant) -> list[Cell]:
        """Return the cells of one variant on one pool."""
        return [
            Cell(pool, variant.name, variant.strategy, number, settings, seed, fold)
            for number, settings in enumerate(variant.configurations)
            for seed in range(self.seeds)
            for fold in range(self.folds)
        ]


def registered_variants(names: Sequence[str]) -> tuple[Variant, ...]:
    """Return strategies with all their configurations; raises `ValueError` for a name that is not registered."""
    return tuple(_registered(name) for name in names)


def parse_variants(content: object) -> tuple[Variant, ...]:
    """Return variants from `{name: {"strategy": ..., "settings": {...}, "against": name}}`; the settings change the default configuration.

    Raises `ValueError` that says what is wrong.
    """
    if not isinstance(content, Mapping) or not content:
        raise ValueError('is not of the form {"<name>": {"strategy": "<name>", "settings": {...}}}')
    return tuple(_variant(str(name), entry) for name, entry in content.items())


@cache
def code_digest(strategy: str) -> str:
    """Return a digest of a strategy's module and of all modules of this package that it imports, but for comments and layout."""
    digest = hashlib.sha256()
    for name, tree in sorted(_modules(find_strategy(strategy).__module__).items()):
        if name != _INTERFACE:
            digest.update(f"{name} {ast.dump(tree)}\n".encode())
    return digest.hexdigest()


def _registered(name: str) -> Variant:
    if name not in strategy_names():
        raise ValueError(f"unknown strategy {name!r}; choose among {', '.join(strategy_names())}")
    strategy = find_strategy(name)
    return Variant(name, name, tuple(strategy.configurations[:MOST_CONFIGURATIONS]), _is_baseline(strategy.__module__))


def _variant(name: str, entry: object) -> Variant:
    if (
        not isinstance(entry, Mapping)
        or not set(entry) <= {"strategy", "settings", "against"}
        or not isinstance(entry.get("strategy"), str)
        or not isinstance(entry.get("against"), str | None)
    ):
        form = '{"strategy": "<name>", "settings": {...}, "against": "<variant>"}, the last two as you like'
        raise ValueError(f"variant {name!r} is not of the form {form}")
    settings = entry.get("settings", {})
    if not isinstance(settings, Mapping):
        raise ValueError(f"the settings of variant {name!r} are not an object")
    strategy = entry["strategy"]
    try:
        changed = {**_registered(strategy).configurations[0], **settings}
        _check_settings(strategy, changed)
    except ValueError as error:
        raise ValueError(f"variant {name!r}: {error}") from None
    return Variant(name, strategy, (changed,), baseline=False, against=entry.get("against"))


def _check_settings(name: str, settings: Settings) -> None:
    """Raise `ValueError` for a setting that the strategy does not know."""
    read = _settings_reader(name)
    if read is not None:
        try:
            read(settings)
        except TypeError:
            raise ValueError(f"the settings of {name} hold a value of another kind than they may") from None
        return
    known = sorted({key for configuration in find_strategy(name).configurations for key in configuration})
    if unknown := sorted(set(settings) - set(known)):
        raise ValueError(f"unknown setting {unknown[0]!r}; {name} knows: {', '.join(known) or 'none'}")


def _settings_reader(name: str) -> Callable[[Settings], object] | None:
    """Return what a strategy of many settings reads them with: `read_settings` of its module, or of `settings` beside that."""
    module = find_strategy(name).__module__
    beside = f"{module.rpartition('.')[0]}.settings"
    for place in (module, *([beside] if _path(beside) else [])):
        read: Callable[[Settings], object] | None = getattr(importlib.import_module(place), "read_settings", None)
        if read is not None:
            return read
    return None


def _is_baseline(module: str) -> bool:
    room = module.removeprefix(f"{_PACKAGE}.strategies.").split(".")[0]
    return room not in _OWN_ROOMS


def _modules(first: str) -> dict[str, ast.Module]:
    found: dict[str, ast.Module] = {}
    waiting = [first]
    while waiting:
        name = waiting.pop()
        if name in found or (tree := _parse(name)) is None:
            continue
        found[name] = tree
        waiting.extend(_imports(tree))
    return found


def _parse(name: str) -> ast.Module | None:
    """Return a module of this package as it stands in its file, or None where the name is that of an attribute.

    Nothing is imported on the way: what strategies learn with would fill the memory of a process that does not learn.
    """
    path = _path(name)
    return None if path is None else ast.parse(path.read_text(encoding="utf-8"))


def _path(module: str) -> Path | None:
    place = _ROOT.joinpath(*module.split("."))
    return next((path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file()), None)


def _imports(tree: ast.Module) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(_PACKAGE):
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names if alias.name.startswith(_PACKAGE)]
    return names

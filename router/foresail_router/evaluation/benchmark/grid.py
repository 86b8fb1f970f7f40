"""What a benchmark runs: pools, variants of strategies, seeds and folds; one cell is one fit. It must not know data or files."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from foresail_router.strategies.base import Settings, find_strategy, strategy_names

MOST_CONFIGURATIONS = 3
_PACKAGE = "foresail_router"
# The interface that every strategy imports: a line more in its registry changes none of them.
_INTERFACE = f"{_PACKAGE}.strategies.base"
# Strategies of our own; every other one is a baseline.
_OWN_ROOMS = ("fused", "task_aware", "lookahead")


@dataclass(frozen=True, slots=True)
class Variant:
    """A strategy under a name, with the configurations that are chosen among; `baseline` says whether it may be the best baseline."""

    name: str
    strategy: str
    configurations: tuple[Settings, ...]
    baseline: bool


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
    """Return variants from `{name: {"strategy": ..., "settings": {...}}}`; the settings change the strategy's default configuration.

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
    if not isinstance(entry, Mapping) or not set(entry) <= {"strategy", "settings"} or "strategy" not in entry:
        raise ValueError(f'variant {name!r} is not of the form {{"strategy": "<name>", "settings": {{...}}}}')
    settings = entry.get("settings", {})
    if not isinstance(settings, Mapping):
        raise ValueError(f"the settings of variant {name!r} are not an object")
    default = _registered(str(entry["strategy"])).configurations[0]
    return Variant(name, str(entry["strategy"]), ({**default, **settings},), baseline=False)


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
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        # `from package.module import name`: the name was an attribute.
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _imports(tree: ast.Module) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(_PACKAGE):
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names if alias.name.startswith(_PACKAGE)]
    return names

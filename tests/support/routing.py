"""Pools and policies for tests of the operator: what every test of serving takes, as an API server holds it, and what its status says."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support import configurations

CONDITIONS_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "conditions.md"

Object = configurations.Object


def pool(name: str = "models", *models: Object) -> Object:
    """A ModelPool; without models it has `small` and `large`."""
    return configurations.pool(models or (model("small"), model("large")), name)


def model(name: str, *, secret: str | None = None, **fields: object) -> Object:
    """A model of a pool with one upstream; `secret` names the Secret of its key `api-key`."""
    return configurations.model(name, **({"secret": (secret, "api-key")} if secret else {}), **fields)


def policy(name: str = "chat", *, pool: str = "models", **spec: object) -> Object:
    """A RoutingPolicy with strategy `Cheapest` that admits everybody."""
    return configurations.policy(name, **{"poolRef": {"name": pool}, **spec})


def stored(manifest: Object, *, uid: str = "u-1", version: str = "7", generation: int = 1) -> Object:
    """The object as an API server that has taken it would deliver it."""
    metadata = {"uid": uid, "resourceVersion": version, "generation": generation, **manifest["metadata"]}
    return {**manifest, "metadata": metadata}


def conditions(status: Object) -> dict[str, Object]:
    """The conditions of a status by type."""
    return {condition["type"]: condition for condition in status["conditions"]}


def told(status: Object) -> dict[str, str]:
    """Status and reason of each condition, as in `False PoolNotFound`."""
    return {name: f"{condition['status']} {condition['reason']}" for name, condition in conditions(status).items()}


def documented() -> set[tuple[str, str, str]]:
    """Condition, status and reason of every row of the tables in docs/reference/conditions.md."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| `(\w+)` \|", CONDITIONS_PAGE.read_text(), re.MULTILINE)
    return {(condition, status, reason) for condition, status, reason in rows}

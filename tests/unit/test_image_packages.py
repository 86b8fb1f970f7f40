"""What each image carries, by the lock file: the operator no torch, the sidecar neither torch nor kopf."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

LOCK = tomllib.loads((Path(__file__).parents[2] / "uv.lock").read_text())
PACKAGES: dict[str, dict[str, Any]] = {package["name"]: package for package in LOCK["package"]}


def installed_with(extra: str) -> set[str]:
    """The packages that `foresail[extra]` brings on some platform."""
    found: set[tuple[str, str]] = set()
    waiting = [("foresail", ""), ("foresail", extra)]
    while waiting:
        name, part = item = waiting.pop()
        if item in found:
            continue
        found.add(item)
        package = PACKAGES[name]
        needs = package.get("optional-dependencies", {})[part] if part else package.get("dependencies", [])
        for need in needs:
            waiting.append((need["name"], ""))
            waiting.extend((need["name"], wanted) for wanted in need.get("extra", ()))
    return {name for name, _ in found}


@pytest.mark.parametrize(
    ("extra", "brought", "left_out"),
    [
        ("operator", {"kopf", "kubernetes", "pydantic"}, {"torch", "transformers", "numpy", "onnxruntime", "uvloop"}),
        ("sidecar", {"aiohttp", "onnxruntime", "pydantic"}, {"torch", "transformers", "kopf", "kubernetes", "pyarrow"}),
    ],
)
def test_an_image_carries_what_its_part_needs_and_no_more(extra: str, brought: set[str], left_out: set[str]) -> None:
    packages = installed_with(extra)
    assert brought <= packages
    assert not left_out & packages

"""Writes docs/reference/api.md from the CustomResourceDefinitions, so that the fields are described in one place only.

It must not know any field.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foresail_api.crd import KINDS, definition

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "reference" / "api.md"


def render() -> str:
    """Return the whole page."""
    parts = [
        "# API reference\n",
        "Generated from the CRDs by `python hack/api_reference.py`. Group `foresail.dev`, version `v1alpha1`.\n",
        "Money is US dollars as a decimal string with at most 6 decimals; other numbers are whole. "
        "`kubectl explain routingpolicies.foresail.dev.spec` shows the same text in a terminal.\n",
    ]
    for kind in KINDS:
        schema = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        parts.append(f"## {kind.kind}\n\n{kind.description}\n\nShort name `{kind.short_name}`, category `foresail`.\n")
        for part in ("spec", "status"):
            parts.append(f"### `{kind.kind}.{part}`\n")
            rows = ["| field | type | description |", "|---|---|---|"]
            rows += _rows(schema["properties"][part], part)
            parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _rows(node: dict[str, Any], path: str) -> Iterator[str]:
    required = set(node.get("required", ()))
    for name, child in node.get("properties", {}).items():
        here = f"{path}.{name}"
        mark = ", required" if name in required else ""
        yield f"| `{here}` | {_type(child)}{mark} | {_description(child)} |"
        nested = child.get("items", child)
        yield from _rows(nested, here + "[]" if "items" in child else here)


def _type(node: dict[str, Any]) -> str:
    if "enum" in node:
        return " \\| ".join(f"`{value}`" if value else "empty" for value in node["enum"])
    if node.get("type") == "array":
        count = f"{node.get('minItems', 0)} to {node['maxItems']}"
        return f"list of {count} {_type(node['items'])}"
    if node.get("type") == "integer":
        above = f"to {node['maximum']}" if "maximum" in node else "or more"
        return f"integer, {node.get('minimum', 0)} {above}"
    return str(node.get("type", ""))


def _description(node: dict[str, Any]) -> str:
    text: str = node.get("description", "").replace("|", "\\|")
    if "default" in node and not isinstance(node["default"], dict):
        text += f" Default: `{node['default']}`." if node["default"] != "" else ""
    rules = [rule["message"] for rule in node.get("x-kubernetes-validations", ())]
    rules += [rule["message"] for rule in node.get("items", {}).get("x-kubernetes-validations", ())]
    return text + "".join(f" {rule[0].upper() if rule[0] != '`' else rule[0]}{rule[1:]}." for rule in rules)


if __name__ == "__main__":
    TARGET.write_text(render())

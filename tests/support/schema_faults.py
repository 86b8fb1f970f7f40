"""Every way to break a valid object that its structural schema forbids, one at a time; knows no kind of ours.

Walks a schema beside an example that has all of its fields, so that no bound, enum, pattern, required field or list key
of a CRD can go unchecked: a field that the example lacks is an error here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]
Schema = dict[str, Any]

_WRONG_TYPE: dict[str, Any] = {"string": 7, "integer": "7", "object": "text", "array": {}, "boolean": "yes"}


@dataclass(frozen=True, slots=True)
class Fault:
    """A broken object, the field that the API server must name, and the words that it must say about it."""

    title: str
    broken: Any
    field: str
    words: str


def faults(schema: Schema, example: Any, path: Path = ()) -> Iterator[Fault]:
    """Yield the faults of `example` at `path` and below; `schema` is the root's."""
    node, value = _node(schema, path), _value(example, path)
    kind = node["type"]
    yield _changed(example, path, _WRONG_TYPE[kind], f"must be of type {node.get('format', kind)}", "wrong type")
    if kind == "object":
        yield from _object_faults(schema, node, value, example, path)
    elif kind == "array":
        yield from _array_faults(node, value, example, path)
        yield from faults(schema, example, (*path, 0))
    else:
        yield from _scalar_faults(node, value, example, path)


def _object_faults(schema: Schema, node: Schema, value: Any, example: Any, path: Path) -> Iterator[Fault]:
    for name in node.get("required", ()):
        broken = copy.deepcopy(example)
        del _value(broken, path)[name]
        yield Fault(f"{_text((*path, name))} missing", broken, _text((*path, name)), "Required value")
    yield _changed(example, (*path, "noSuchField"), "x", "unknown field", "unknown")
    for name in node["properties"]:
        if name in value:
            yield from faults(schema, example, (*path, name))


def _array_faults(node: Schema, value: list[Any], example: Any, path: Path) -> Iterator[Fault]:
    if least := node.get("minItems"):
        yield _changed(example, path, value[: least - 1], f"should have at least {least} items", "too few")
    keys = node.get("x-kubernetes-list-map-keys", ())
    many = [copy.deepcopy(value[0]) for _ in range(node["maxItems"] + 1)]
    for key in keys:
        for number, item in enumerate(many):
            item[key] = f"{item[key]}{number}"
    yield _changed(example, path, many, f"must have at most {node['maxItems']} items", "too many")
    duplicate = _changed(example, path, [*value, copy.deepcopy(value[0])], "Duplicate value", "duplicate")
    yield Fault(duplicate.title, duplicate.broken, _text((*path, len(value))), duplicate.words)


def _scalar_faults(node: Schema, value: Any, example: Any, path: Path) -> Iterator[Fault]:
    if "enum" in node:
        yield _changed(example, path, "Nonsense", "supported values: ", "not in enum")
        return
    if "minimum" in node:
        words = f"should be greater than or equal to {node['minimum']}"
        yield _changed(example, path, node["minimum"] - 1, words, "below minimum")
    if "maximum" in node:
        words = f"should be less than or equal to {node['maximum']}"
        yield _changed(example, path, node["maximum"] + 1, words, "above maximum")
    if least := node.get("minLength"):
        yield _changed(example, path, value[: least - 1], f"should be at least {least} chars long", "too short")
    if "maxLength" in node:
        words = f"may not be more than {node['maxLength']} bytes"
        yield _changed(example, path, "a" * (node["maxLength"] + 1), words, "too long")
    if "pattern" in node:
        for text in ("\n" * len(value), value[:-1] + "\n"):
            yield _changed(example, path, text, "should match", f"not matching: {text!r}")


def _changed(example: Any, path: Path, value: Any, words: str, why: str) -> Fault:
    broken = copy.deepcopy(example)
    if path:
        _value(broken, path[:-1])[path[-1]] = value
    return Fault(f"{_text(path)} {why}", broken if path else value, _text(path), words)


def _node(schema: Schema, path: Path) -> Schema:
    for part in path:
        schema = schema["items"] if isinstance(part, int) else schema["properties"][part]
    return schema


def _value(example: Any, path: Path) -> Any:
    for part in path:
        example = example[part]
    return example


def _text(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")

"""Reads both kinds and Secrets from YAML files, as `foresail compile -f` and `foresail serve -f` take them.

Owns file formats and errors that name file, object and field. It must not know what is done with the objects.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from foresail_api.common import API_VERSION, GROUP
from foresail_api.errors import UserError
from foresail_api.policy import RoutingPolicy
from foresail_api.pool import ModelPool

MAX_FILE_BYTES = 4 * 1024 * 1024

_KINDS: dict[str, type[ModelPool] | type[RoutingPolicy]] = {"ModelPool": ModelPool, "RoutingPolicy": RoutingPolicy}


@dataclass(frozen=True, slots=True)
class Manifests:
    """What was found: objects by (namespace, name), and Secrets' values by (Secret name, key), never shown."""

    pools: dict[tuple[str, str], ModelPool]
    policies: dict[tuple[str, str], RoutingPolicy]
    secrets: dict[tuple[str, str], bytes] = field(repr=False)

    def policy(self, name: str | None) -> RoutingPolicy:
        """Return the policy of that name, or the only one; raise `UserError` if that is not exactly one."""
        found = [policy for (_, own_name), policy in self.policies.items() if name in (None, own_name)]
        names = ", ".join(sorted(own_name for _, own_name in self.policies)) or "none"
        if len(found) > 1:
            raise UserError(f"more than one RoutingPolicy; choose one of them with --policy: {names}")
        if not found:
            raise UserError(f"no RoutingPolicy {name or ''}".rstrip() + f" was found; the files hold: {names}")
        return found[0]

    def pool_of(self, policy: RoutingPolicy) -> ModelPool | None:
        """Return the pool that a policy names, if it was found."""
        return self.pools.get((policy.metadata.namespace, policy.spec.pool_ref.name))


def load_manifests(paths: list[Path]) -> Manifests:
    """Read all `*.yaml` and `*.yml` in `paths` (files, or directories, not recursively).

    Objects of other kinds are passed over. Raises `UserError` with every broken object, each by file, object and field.
    """
    manifests = Manifests({}, {}, {})
    errors: list[str] = []
    for path in _files(paths):
        for document in _documents(path):
            try:
                _add(manifests, document)
            except ValidationError as error:
                errors += [f"{path}: {document['kind']} {_name(document)}: {line}" for line in describe(error)]
            except UserError as error:
                errors.append(f"{path}: {document.get('kind')} {_name(document)}: {error}")
    if errors:
        raise UserError("\n  ".join(["some objects cannot be used:", *errors]))
    return manifests


def describe(error: ValidationError) -> Iterator[str]:
    """Yield one line per fault: the field's path, the value where it is short, and what must hold."""
    for fault in error.errors(include_url=False):
        path = ""
        for part in fault["loc"]:
            path += f"[{part}]" if isinstance(part, int) else f".{part}"
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "unknown field; remove it or correct its spelling"
        value = fault.get("input")
        shown = f" (it is {value!r})" if isinstance(value, str | int | float) and len(str(value)) <= 80 else ""
        yield f"`{path.lstrip('.') or 'object'}`: {message}{shown}"


def _files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = sorted(item for item in path.iterdir() if item.suffix in (".yaml", ".yml") and item.is_file())
            if not found:
                raise UserError(f"{path} holds no *.yaml file")
            yield from found
        elif path.is_file():
            yield path
        else:
            raise UserError(f"{path} does not exist")


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise UserError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: byte {error.start}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}:{line} is not YAML: {getattr(error, 'problem', error)}") from None
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise UserError(f"{path} holds a {type(document).__name__} where an object with `kind` is expected")
        items = document.get("items")
        yield from items if document.get("kind") == "List" and isinstance(items, list) else [document]


def _add(manifests: Manifests, document: dict[str, Any]) -> None:
    kind, version = document.get("kind"), str(document.get("apiVersion", ""))
    if kind == "Secret" and version == "v1":
        manifests.secrets.update(_secret(document))
    elif kind in _KINDS and version.split("/")[0] == GROUP:
        if version != API_VERSION:
            raise UserError(f"`apiVersion` {version} is not known; use {API_VERSION}")
        loaded = _KINDS[kind].model_validate(document)
        key = (loaded.metadata.namespace, loaded.metadata.name)
        if key in (manifests.pools if isinstance(loaded, ModelPool) else manifests.policies):
            raise UserError(f"`metadata.name` {loaded.metadata.name!r} appears twice; remove one")
        if isinstance(loaded, ModelPool):
            manifests.pools[key] = loaded
        else:
            manifests.policies[key] = loaded


def _secret(document: dict[str, Any]) -> dict[tuple[str, str], bytes]:
    name = _name(document)
    found: dict[tuple[str, str], bytes] = {}
    for key, value in (document.get("data") or {}).items():
        try:
            found[name, key] = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError, TypeError):
            raise UserError(f"`data.{key}` is not base64; use `stringData` for plain text") from None
    for key, value in (document.get("stringData") or {}).items():
        found[name, key] = str(value).encode()
    return found


def _name(document: dict[str, Any]) -> str:
    metadata = document.get("metadata")
    return str(metadata.get("name", "without a name")) if isinstance(metadata, dict) else "without a name"

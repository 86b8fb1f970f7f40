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
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from foresail_api.budgets import Amount
from foresail_api.common import API_VERSION, GROUP, Dollars, ObjectMeta
from foresail_api.errors import UserError
from foresail_api.policy import RoutingPolicy
from foresail_api.pool import ModelPool

MAX_FILE_BYTES = 4 * 1024 * 1024


class _SecretManifest(BaseModel):
    """What is read of a Secret. Values never reach an error: `hide_input_in_errors` and `describe` see to it."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", hide_input_in_errors=True)

    metadata: ObjectMeta
    data: dict[str, str] | None = None
    string_data: dict[str, str] | None = None


_KINDS: dict[str, type[ModelPool] | type[RoutingPolicy]] = {"ModelPool": ModelPool, "RoutingPolicy": RoutingPolicy}


@dataclass(frozen=True, slots=True)
class Manifests:
    """What was found: objects by (namespace, name), and Secrets' values by key, by (namespace, name), never shown."""

    pools: dict[tuple[str, str], ModelPool]
    policies: dict[tuple[str, str], RoutingPolicy]
    secrets: dict[tuple[str, str], dict[str, bytes]] = field(repr=False)

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

    def credentials_of(self, policy: RoutingPolicy) -> dict[tuple[str, str], bytes]:
        """Return the values of the Secrets beside a policy by (Secret name, key); those of other namespaces are not its own."""
        return {
            (name, key): value
            for (namespace, name), values in self.secrets.items()
            if namespace == policy.metadata.namespace
            for key, value in values.items()
        }


def load_manifests(paths: list[Path]) -> Manifests:
    """Read all `*.yaml` and `*.yml` in `paths` (files, or directories, not recursively).

    Objects of other kinds are passed over. Raises `UserError` with every broken object, each by file, object and field.
    """
    manifests = Manifests({}, {}, {})
    errors: list[str] = []
    for path in manifest_files(paths):
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


def manifest_files(paths: list[Path]) -> Iterator[Path]:
    """Yield the files that `load_manifests` reads; raise `UserError` for a path that has none."""
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


# Users know amounts, not the patterns that they match.
_MONEY = {TypeAdapter(amount).json_schema()["pattern"] for amount in (Amount, Dollars)}


def describe(error: ValidationError) -> Iterator[str]:
    """Yield one line per fault: the field's path, the value where it is short and can be no secret, and what must hold."""
    for fault in error.errors(include_url=False):
        path = ""
        for part in fault["loc"]:
            path += f"[{part}]" if isinstance(part, int) else f".{part}"
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "unknown field; remove it or correct its spelling"
        value = fault.get("input")
        if fault["type"] == "string_type" and isinstance(value, int | float):
            message = "must be text; write it in quotes"
        if fault["type"] == "string_pattern_mismatch" and fault["ctx"]["pattern"] in _MONEY:
            message = 'must be US dollars in digits, with at most 6 decimals, such as "0.25"'
        short = isinstance(value, str | int | float) and len(str(value)) <= 80
        shown = f" (it is {value!r})" if short and not _may_be_secret(fault["type"], path, str(value)) else ""
        yield f"`{path.lstrip('.') or 'object'}`: {message}{shown}"


def _may_be_secret(fault: str, path: str, value: str) -> bool:
    """Tell whether a key may stand there: in a Secret, in an unknown field, beside `auth`, or inside of a URL."""
    if path.startswith((".data", ".stringData")) or fault in ("extra_forbidden", "model_type"):
        return True
    return ".auth" in path or (".url" in path and not set("@?#").isdisjoint(value))


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: byte {error.start}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        # What YAML says of a fault quotes the value, which can be a key.
        raise UserError(
            f"{path}:{line} is not YAML; check the indentation, and quote values that hold `: ` or begin with * & ! % @"
        ) from None
    except ValueError:
        raise UserError(f"{path} holds a date or number that does not exist; quote it") from None
    except RecursionError:
        raise UserError(f"{path} is nested too deeply") from None
    for document in documents:
        listed = isinstance(document, dict) and document.get("kind") == "List"
        items = document.get("items") if listed else document
        for item in items if listed and isinstance(items, list) else [items]:
            if isinstance(item, dict):
                yield item
            elif item is not None:
                raise UserError(f"{path} holds a {type(item).__name__} where an object with `kind` is expected")


def _add(manifests: Manifests, document: dict[str, Any]) -> None:
    kind, version = str(document.get("kind")), str(document.get("apiVersion", ""))
    if kind == "Secret" and version == "v1":
        secret = _SecretManifest.model_validate(document)
        place = (secret.metadata.namespace, secret.metadata.name)
        if place in manifests.secrets:
            raise UserError(f"`metadata.name` {secret.metadata.name!r} appears twice; remove one")
        manifests.secrets[place] = _values(secret)
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


def _values(secret: _SecretManifest) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for key, value in (secret.data or {}).items():
        try:
            found[key] = base64.b64decode("".join(value.split()), validate=True)
        except (binascii.Error, ValueError):
            raise UserError(f"`data.{key}` is not base64; use `stringData` for plain text") from None
    return found | {key: value.encode() for key, value in (secret.string_data or {}).items()}


def _name(document: dict[str, Any]) -> str:
    metadata = document.get("metadata")
    return str(metadata.get("name", "without a name")) if isinstance(metadata, dict) else "without a name"

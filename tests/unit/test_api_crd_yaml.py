"""The committed CRDs are what the models generate, and a structural schema as Kubernetes demands it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from foresail_api.console import main
from foresail_api.crd import KINDS, Kind, definition

CRDS = Path(__file__).parents[2] / "crds"
Node = dict[str, Any]


def nodes(node: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")


def spec_and_status(kind: Kind) -> Iterator[tuple[str, Node]]:
    schema = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for part in ("spec", "status"):
        yield from nodes(schema["properties"][part], part)


def test_the_committed_files_are_generated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crds", "--check", str(CRDS)]) == 0, capsys.readouterr().out
    assert {path.name for path in CRDS.glob("*.yaml")} == {kind.file_name for kind in KINDS}


def test_the_files_have_no_anchors() -> None:
    assert [path.name for path in CRDS.glob("*.yaml") if "&id" in path.read_text()] == []


def test_a_stale_file_is_named_with_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new"
    assert main(["crds", "--write", str(target)]) == 0
    assert main(["crds", "--check", str(target)]) == 0
    (target / "foresail.dev_modelpools.yaml").write_text("kind: Other\n")
    assert main(["crds", "--check", str(target)]) == 1
    assert capsys.readouterr().out == (
        f"foresail.dev_modelpools.yaml differ from the models; run: foresail crds --write {target}\n"
    )


def test_printing_gives_one_document_per_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crds"]) == 0
    printed = list(yaml.safe_load_all(capsys.readouterr().out))
    assert printed == [definition(kind) for kind in KINDS]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_the_schema_is_structural(kind: Kind) -> None:
    for path, node in spec_and_status(kind):
        assert node["type"] in ("object", "array", "string", "integer", "boolean"), path
        assert not {"$ref", "anyOf", "oneOf", "allOf", "title", "const"} & set(node), path
        assert (node["type"] == "array") == ("items" in node), path


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_field_is_bounded_and_described(kind: Kind) -> None:
    for path, node in spec_and_status(kind):
        if not path.endswith("[]"):
            assert len(node.get("description", "")) > 8, path
        if node["type"] == "array":
            assert "maxItems" in node, path
            if node["items"]["type"] == "object":
                assert node["x-kubernetes-list-type"] == "map", path
                assert set(node["x-kubernetes-list-map-keys"]) <= set(node["items"]["required"]), path
        if node["type"] == "string":
            assert "maxLength" in node or "enum" in node, path
        if node["type"] == "integer":
            assert "minimum" in node, path
        if path.startswith("spec") and node["type"] == "integer":
            assert "maximum" in node, path


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_field_names_carry_no_float_and_defaults_fit_their_enum(kind: Kind) -> None:
    for path, node in spec_and_status(kind):
        assert node["type"] != "number", path
        if "enum" in node and "default" in node:
            assert node["default"] in node["enum"], path


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_rules_say_what_must_hold(kind: Kind) -> None:
    rules = [rule for _, node in spec_and_status(kind) for rule in node.get("x-kubernetes-validations", ())]
    assert rules
    assert all("must be" in rule["message"] for rule in rules)


def test_names_that_users_type() -> None:
    for kind in KINDS:
        spec = definition(kind)["spec"]
        assert spec["names"]["categories"] == ["foresail"]
        assert spec["versions"][0]["subresources"] == {"status": {}}
    assert [kind.short_name for kind in KINDS] == ["fpool", "fpolicy"]

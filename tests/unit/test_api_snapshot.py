"""The snapshot as text: one form for one content, and nothing broken or foreign is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foresail_api.compile import Target, compile_policy
from foresail_api.errors import UserError
from foresail_api.manifests import load_manifests
from foresail_api.policy import RoutingPolicy
from foresail_api.pool import ModelPool
from foresail_api.snapshot import Snapshot, SnapshotEnvelope, read_envelope

FORMAT_1 = Path(__file__).parent / "snapshots" / "format-1.json"


def compiled_from(file: Path) -> Snapshot:
    manifests = load_manifests([file])
    policy = manifests.policy(None)
    compilation = compile_policy(policy, manifests.pool_of(policy), Target.CLUSTER)
    assert compilation.snapshot is not None
    return compilation.snapshot


def snapshot(alias: str = "auto", capabilities: tuple[str, ...] = ("Tools", "Vision", "JSONSchema")) -> Snapshot:
    model: dict[str, Any] = {
        "name": "small",
        "upstreams": [{"name": "main", "url": "https://models.example/v1"}],
        "contextWindowTokens": 8192,
        "maxOutputTokens": 1024,
        "capabilities": list(capabilities),
    }
    spec = {"poolRef": {"name": "pool"}, "router": {"strategy": "Cheapest"}, "aliases": [alias]}
    compilation = compile_policy(
        RoutingPolicy.model_validate({"metadata": {"name": "policy"}, "spec": spec}),
        ModelPool.model_validate({"metadata": {"name": "pool"}, "spec": {"models": [model]}}),
        Target.LOCAL,
    )
    assert compilation.snapshot is not None
    return compilation.snapshot


@given(
    sequence=st.integers(1, 2**53),
    alias=st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9._:/@+]{0,40}[A-Za-z0-9])?", fullmatch=True),
)
def test_what_is_written_is_read_back(sequence: int, alias: str) -> None:
    envelope = SnapshotEnvelope.seal(snapshot(alias), sequence)
    assert read_envelope(envelope.to_json(), "the file") == envelope


def test_the_hash_is_of_the_content_and_not_of_the_sequence() -> None:
    first, later = (SnapshotEnvelope.seal(snapshot(), sequence) for sequence in (1, 2))
    assert first.hash == later.hash
    assert SnapshotEnvelope.seal(snapshot("smart"), 1).hash != first.hash


def test_the_order_of_a_set_makes_no_difference() -> None:
    assert snapshot().content_hash() == snapshot(capabilities=("Vision", "JSONSchema", "Tools")).content_hash()


def test_this_format_never_changes_its_hash() -> None:
    """Sidecars compare hashes with operators of other releases: a changed default or order must raise the format version."""
    assert snapshot().content_hash() == "sha256:cde84a6703994c42c28c5a34d3c4013a41d6e62f9a46c360614ba3d23f02a33d"


def test_the_format_before_is_read_and_means_what_it_meant() -> None:
    text = FORMAT_1.read_text()
    envelope = read_envelope(text, "the file")
    assert (envelope.sequence, envelope.hash) == (1, json.loads(text)["hash"])
    assert envelope.snapshot.format_version == 2
    assert envelope.snapshot.content_hash() != envelope.hash
    compiled = compiled_from(FORMAT_1.with_name("format-1.yaml"))
    assert envelope.snapshot == compiled
    again = SnapshotEnvelope.seal(envelope.snapshot, 2)
    assert read_envelope(again.to_json(), "the file") == again


def test_the_format_before_is_checked_as_it_was_written() -> None:
    data = json.loads(FORMAT_1.read_text())
    data["snapshot"]["per_request_nano_dollars"] *= 10
    with pytest.raises(UserError, match=r"^the file is damaged"):
        read_envelope(json.dumps(data), "the file")


def altered(change: str) -> str:
    data = json.loads(SnapshotEnvelope.seal(snapshot(), 1).to_json())
    if change == "content":
        data["snapshot"]["anonymous_allowed"] = True
    elif change == "version":
        data["snapshot"]["format_version"] = 3
    elif change == "unknown":
        data["snapshot"]["surprise"] = 1
    elif change == "missing":
        del data["snapshot"]["models"]
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (altered("content"), "is damaged"),
        (altered("version"), "not a snapshot of format 1 or 2: snapshot.format_version"),
        (altered("unknown"), "surprise"),
        (altered("missing"), "snapshot.models"),
        (altered("none")[:-40], "not a snapshot"),
        ("", "not a snapshot"),
        ("[]", "not a snapshot"),
        (b"\xff\xfe", "not a snapshot"),
    ],
)
def test_what_is_broken_or_foreign_is_named_by_its_source(text: str | bytes, words: str) -> None:
    with pytest.raises(UserError, match=r"^/etc/snapshot\.json is") as caught:
        read_envelope(text, "/etc/snapshot.json")
    assert words in str(caught.value)


def test_a_model_is_found_by_name() -> None:
    found = snapshot().model("small")
    assert found is not None
    assert found.name == "small"
    assert snapshot().model("large") is None

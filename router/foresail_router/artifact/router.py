"""A router ready to estimate: an artifact's strategy and encoder, put together; and the files of a new artifact.

It must not know batching, deadlines or prices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from safetensors.numpy import save as save_safetensors

from foresail_router.artifact.manifest import ContainedEncoder, Manifest, PackagedEncoder
from foresail_router.artifact.store import Artifact, ArtifactError
from foresail_router.features.encoder import Encoder, OnnxEncoder, encoder_key, packaged_encoder
from foresail_router.features.weights import EncoderSource, Precision, load_package
from foresail_router.strategies.base import Features, Predictions, State, Strategy, find_strategy, strategy_names

ROUTER_FILE = "router.safetensors"
GRAPH_FILE = "encoder.onnx"
TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class Router:
    """An artifact in memory, ready to use."""

    digest: str
    manifest: Manifest
    encoder: Encoder
    strategy: Strategy

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Return estimates for each text, for the manifest's models in their order."""
        return self.strategy.predict(Features(texts, self.encoder.encode(texts)))


def open_router(artifact: Artifact, *, encoder: Encoder | None = None, threads: int | None = None) -> Router:
    """Build the router of a verified artifact, with a given encoder where that is already loaded; raises `ArtifactError`."""
    return Router(
        artifact.digest, artifact.manifest, encoder or open_encoder(artifact, threads=threads), open_strategy(artifact)
    )


def open_strategy(artifact: Artifact) -> Strategy:
    """Rebuild the strategy of a verified artifact; raises `ArtifactError` for one that this release does not know or cannot use."""
    manifest = artifact.manifest
    if manifest.strategy not in strategy_names():
        known = ", ".join(strategy_names())
        raise ArtifactError(
            f"artifact {artifact.directory}: unknown strategy {manifest.strategy!r}; this release knows: {known}"
        )
    state = State(artifact.arrays(ROUTER_FILE), manifest.strategy_config)
    try:
        return find_strategy(manifest.strategy).from_state(
            state, models=len(manifest.models), width=manifest.encoder.width
        )
    except ValueError as error:
        raise ArtifactError(f"artifact {artifact.directory}: {error}; train it again") from error


def open_encoder(artifact: Artifact, *, threads: int | None = None) -> Encoder:
    """Load the encoder that an artifact holds or names; raises `ArtifactError` when it is not the one that it was trained with."""
    facts = artifact.manifest.encoder
    key = encoder_key(facts.digest, facts.precision)
    if isinstance(facts, PackagedEncoder):
        source = load_package()
        if source.digest != facts.digest:
            wanted = f"the encoder of {facts.package} {facts.version}"
            raise ArtifactError(
                f"artifact {artifact.directory}: needs {wanted}, but {source.package} {source.version} is installed and "
                f"differs; install {facts.package}=={facts.version}"
            )
        return packaged_encoder(facts.precision, threads=threads, source=source)
    if not {facts.graph, facts.tokenizer} <= artifact.files.keys():
        raise ArtifactError(f"artifact {artifact.directory}: lacks the files of its encoder; train it again")
    try:
        return OnnxEncoder(artifact.files[facts.graph], artifact.files[facts.tokenizer], key=key, threads=threads)
    except ValueError as error:
        raise ArtifactError(f"artifact {artifact.directory}: its encoder is {error}; train it again") from error


def strategy_file(strategy: Strategy) -> bytes:
    """Return the arrays of a fitted strategy as safetensors; the same arrays give the same bytes."""
    return save_safetensors(
        {name: np.ascontiguousarray(array) for name, array in sorted(strategy.state().arrays.items())}
    )


def describe_package(source: EncoderSource, precision: Precision, width: int) -> PackagedEncoder:
    """Return how a manifest names the packaged encoder."""
    return PackagedEncoder(
        package=source.package, version=source.version, digest=source.digest, precision=precision, width=width
    )


def contain_encoder(
    source: EncoderSource, precision: Precision, width: int
) -> tuple[ContainedEncoder, dict[str, bytes]]:
    """Return the packaged encoder as files of an artifact, and how its manifest names them."""
    from foresail_router.features.onnx_graph import build_graph

    graph = build_graph(source.weights, source.shape, int8=precision == "int8")
    facts = ContainedEncoder(
        graph=GRAPH_FILE, tokenizer=TOKENIZER_FILE, digest=source.digest, precision=precision, width=width
    )
    return facts, {GRAPH_FILE: graph, TOKENIZER_FILE: source.tokenizer}

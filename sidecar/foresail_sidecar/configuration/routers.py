"""Loads an artifact into a scorer: in this process, or as a client of one that scores behind a Unix socket.

Owns what a decision is told of an artifact, and that loading never holds up the event loop. It must not know where artifacts lie.
What it imports is heavy, and only a policy that is learned needs it: so it imports when it is asked to load.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from foresail_api.errors import UserError
from foresail_sidecar.configuration.artifacts import LoadedRouter, LoadRouter
from foresail_sidecar.configuration.state import ArtifactFacts

if TYPE_CHECKING:
    from foresail_router.artifact.manifest import Manifest


def router_loader(scorer_socket: Path | None) -> LoadRouter:
    """Return what loads artifacts: to score in this process, or in the one behind the socket."""
    return _load_in_process


async def _load_in_process(directory: Path, digest: str) -> LoadedRouter:
    raise UserError(f"{directory}: loading {digest} is not wired up yet")


def artifact_facts(manifest: Manifest, digest: str) -> ArtifactFacts:
    """Return what a decision needs of a manifest."""
    return ArtifactFacts(
        digest=digest,
        method=manifest.strategy,
        models=manifest.model_names,
        best_single_model=manifest.reference.model,
        mean_input_tokens=manifest.reference.mean_input_tokens,
        mean_output_tokens=manifest.reference.mean_output_tokens,
    )

"""Loads artifacts into a scoring engine: in this process, or in one that scores behind a Unix socket.

Owns what a decision is told of an artifact, and that loading never holds up the event loop. It must not know where artifacts lie.
What it imports is heavy, and only a policy that is learned needs it: so it imports when it is asked to load.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from foresail_api.errors import UserError
from foresail_router.decision.ratios import InputMeans
from foresail_router.engine.interface import ArtifactNotLoaded, Scorer, ScoreRequest, ScoreResult, ScoringError
from foresail_sidecar.configuration.artifacts import EngineUnavailable, LoadedRouter
from foresail_sidecar.configuration.state import ArtifactFacts
from foresail_sidecar.telemetry.logs import log, log_defect

if TYPE_CHECKING:
    from foresail_router.artifact.manifest import Manifest

_CONNECT_SECONDS = 2.0

_LOGGER = logging.getLogger(__name__)


class Engine(Scorer, Protocol):
    """A scorer that artifacts are loaded into."""

    async def load(self, directory: Path, digest: str | None = None) -> str:
        """Load a verified artifact; raise `UserError` if it is bad, `ScoringError` if the engine cannot."""
        ...

    async def unload(self, digest: str) -> None:
        """Forget an artifact."""
        ...

    async def close(self) -> None:
        """Release everything."""
        ...


class EngineRouters:
    """Loads all artifacts of this process into one engine: the one behind `scorer_socket`, else its own."""

    def __init__(self, scorer_socket: Path | None = None) -> None:
        self._socket = scorer_socket
        self._engine: Engine | None = None

    async def load(self, directory: Path, digest: str) -> LoadedRouter:
        """Return the router in a directory, whose artifact must have that digest.

        Raises `UserError` if it cannot be used, `EngineUnavailable` if nobody is there to load it.
        """
        engine = await self._opened()
        try:
            await engine.load(directory, digest)
            manifest = await asyncio.to_thread(_read_manifest, directory, digest)
        except ScoringError as error:
            raise EngineUnavailable(f"the artifact {directory} could not be loaded: {error}") from None
        except UserError:
            raise
        except Exception as error:
            log_defect(_LOGGER, "artifact not loaded", error)
            raise UserError(
                f"the artifact {directory} could not be loaded ({type(error).__name__}); train it again"
            ) from None
        scorer = _ArtifactScorer(engine, directory, digest)
        return LoadedRouter(scorer, artifact_facts(manifest, digest), scorer.close)

    async def available(self) -> bool:
        """Return whether somebody is there to load artifacts."""
        if self._socket is None:
            return True
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, writer = await asyncio.open_unix_connection(str(self._socket))
        except OSError:
            return False
        writer.close()
        return True

    async def close(self) -> None:
        """Release the engine."""
        if self._engine is not None:
            await self._engine.close()

    async def _opened(self) -> Engine:
        if self._engine is None:
            if self._socket is None:
                local = await asyncio.to_thread(importlib.import_module, "foresail_router.engine.local")
                self._engine = local.LocalScorer()
            else:
                client = await asyncio.to_thread(importlib.import_module, "foresail_router.engine.client")
                self._engine = client.SocketScorer(self._socket)
        assert self._engine is not None  # noqa: S101  either branch opened one
        return self._engine


class _ArtifactScorer:
    """The engine as it scores with one artifact; loads it again where the engine's process was restarted without it."""

    def __init__(self, engine: Engine, directory: Path, digest: str) -> None:
        self._engine = engine
        self._directory = directory
        self._digest = digest
        self._loading: asyncio.Task[None] | None = None

    async def score(self, request: ScoreRequest) -> ScoreResult:
        try:
            return await self._engine.score(request)
        except ArtifactNotLoaded:
            if self._loading is None or self._loading.done():
                self._loading = asyncio.create_task(self._load_again(), name="load-artifact-again")
            raise

    async def close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        with contextlib.suppress(ScoringError):
            await self._engine.unload(self._digest)

    async def _load_again(self) -> None:
        try:
            await self._engine.load(self._directory, self._digest)
            log(_LOGGER, logging.INFO, "artifact loaded again", digest=self._digest)
        except (UserError, ScoringError) as error:
            log(_LOGGER, logging.ERROR, "artifact not loaded again", digest=self._digest, reason=str(error))


def artifact_facts(manifest: Manifest, digest: str) -> ArtifactFacts:
    """Return what a decision needs of a manifest."""
    return ArtifactFacts(
        digest=digest,
        method=manifest.strategy,
        models=manifest.model_names,
        best_single_model=manifest.reference.model,
        mean_input_tokens=manifest.reference.mean_input_tokens,
        mean_output_tokens=manifest.reference.mean_output_tokens,
        input_means={
            model.name: InputMeans(model.mean_input_tokens, model.mean_input_tokens / model.input_tokens_per_byte)
            for model in manifest.models
            if model.mean_input_tokens > 0 and model.input_tokens_per_byte > 0
        },
    )


def _read_manifest(directory: Path, digest: str) -> Manifest:
    from foresail_router.artifact.store import read_manifest

    return read_manifest(directory, expected_digest=digest)[0]

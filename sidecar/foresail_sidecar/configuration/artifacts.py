"""Where a policy's artifact lies on this machine, and what a loaded one offers.

Owns the way from an artifact reference to a directory. It must not know the artifact's format, nor how it scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from foresail_api.errors import UserError
from foresail_api.snapshot import SnapshotArtifact
from foresail_router.engine.interface import Scorer
from foresail_sidecar.configuration.state import ArtifactFacts

_MAX_FILES = 256


@dataclass(frozen=True, slots=True)
class LoadedRouter:
    """A scorer with what is known of its artifact. `close` releases it once nobody scores with it any more."""

    scorer: Scorer
    facts: ArtifactFacts
    close: Callable[[], Awaitable[None]]


class EngineUnavailable(UserError):
    """Nobody is there to load an artifact: worth another try as soon as `Routers.available`, with nothing else changed."""


class Routers(Protocol):
    """Where artifacts are loaded."""

    async def load(self, directory: Path, digest: str) -> LoadedRouter:
        """Return the router in a directory, whose artifact must have that digest; raise `UserError` if it cannot be used."""
        ...

    async def available(self) -> bool:
        """Return whether somebody is there to load artifacts."""
        ...

    async def close(self) -> None:
        """Release what all routers share."""
        ...


def locate(artifact: SnapshotArtifact, claims: Mapping[str, Path]) -> Path:
    """Return the artifact's directory; raise `UserError` if its volume is not mapped or the path leaves it."""
    if artifact.claim is None:
        directory = Path(artifact.path)
    else:
        root = claims.get(artifact.claim)
        if root is None:
            raise UserError(
                f"the artifact lies on the volume claim {artifact.claim!r}: "
                f"say where that is with --volume-claim {artifact.claim}=DIR"
            )
        directory = root / artifact.path
        if not directory.resolve().is_relative_to(root.resolve()):
            raise UserError(f"the artifact {artifact.path} leaves its volume {root}; put it inside")
    if not directory.is_dir():
        raise UserError(f"the artifact {directory} does not exist or is not a directory")
    return directory


def fingerprint(artifact: SnapshotArtifact, claims: Mapping[str, Path]) -> str:
    """Return a text that changes when files of the artifact come, go or grow, so that a failed load is tried again."""
    try:
        directory = locate(artifact, claims)
        files = sorted(directory.iterdir())[:_MAX_FILES]
        facts = [(file.name, status.st_size, status.st_mtime_ns) for file in files for status in [file.stat()]]
    except (UserError, OSError) as error:
        return f"broken: {error}"
    return hashlib.sha256(repr(facts).encode()).hexdigest()

"""Where a configuration comes from: manifest files or a compiled snapshot.

Owns reading either into one value and telling whether anything changed. It must not know what is served, nor artifacts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from foresail_api.compile import Target, compile_policy
from foresail_api.errors import UserError
from foresail_api.manifests import load_manifests, manifest_files
from foresail_api.policy import RoutingPolicy
from foresail_api.pool import ModelPool
from foresail_api.revocation import without_revoked
from foresail_api.snapshot import Snapshot, read_envelope
from foresail_sidecar.configuration import secrets
from foresail_sidecar.configuration.state import CredentialKey

MAX_SNAPSHOT_BYTES = 4 * 1024 * 1024


class Withdrawn(UserError):
    """The policy or its pool was taken away: what was served must no longer be."""


class Incompatible(UserError):
    """A policy and its pool can be read but not be served together. What they take away holds all the same.

    `credentials` are those of the Secrets beside them, which can be read whatever is wrong with the rest.
    """

    def __init__(
        self, message: str, policy: RoutingPolicy, pool: ModelPool, credentials: Mapping[CredentialKey, str]
    ) -> None:
        super().__init__(message)
        self.credentials = credentials
        self._policy = policy
        self._pool = pool

    def rest_of(self, served: Snapshot) -> Snapshot | None:
        """Return what may still be served of `served`, or None if nothing may."""
        return without_revoked(served, self._policy, self._pool)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a source says now. `sequence` is None where the source has none, `credentials` are those of Secret manifests."""

    snapshot: Snapshot
    sequence: int | None
    credentials: Mapping[CredentialKey, str] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()


class Source(Protocol):
    """Reads a configuration from files. Both methods block, so call them in a thread."""

    def fingerprint(self) -> str:
        """Return a text that changes with any byte that `load` would read. Raises nothing for broken content."""
        ...

    def load(self) -> Configuration:
        """Return the configuration; raise `UserError` if it cannot be used, `Withdrawn` if it was taken away."""
        ...


class ManifestSource:
    """Both kinds and Secrets from YAML files, compiled as `foresail compile --target local` does."""

    def __init__(self, paths: list[Path], policy: str | None) -> None:
        self._paths = paths
        self._policy = policy

    def fingerprint(self) -> str:
        """Return the hash of all files' names and contents."""
        try:
            return hash_of(list(manifest_files(self._paths)))
        except UserError as error:
            return f"broken: {error}"

    def load(self) -> Configuration:
        """Return the compiled policy with the credentials of the Secrets beside it."""
        manifests = load_manifests(self._paths)
        if not manifests.policies:
            raise Withdrawn(
                f"no RoutingPolicy in {', '.join(map(str, self._paths))}; `foresail init` writes an example"
            )
        policy = manifests.policy(self._policy)
        pool = manifests.pool_of(policy)
        compilation = compile_policy(policy, pool, Target.LOCAL)
        credentials, faults = secrets.usable(manifests.credentials_of(policy))
        if compilation.snapshot is None:
            lines = [f"RoutingPolicy {policy.metadata.name}: {problem.message}" for problem in compilation.problems]
            message = "\n  ".join(lines)
            raise Withdrawn(message) if pool is None else Incompatible(message, policy, pool, credentials)
        return Configuration(compilation.snapshot, None, credentials, (*compilation.warnings, *faults))


class SnapshotSource:
    """One snapshot file, as the operator writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fingerprint(self) -> str:
        """Return the hash of the file's content."""
        return hash_of([self._path])

    def load(self) -> Configuration:
        """Return the snapshot with its sequence number."""
        try:
            with self._path.open("rb") as opened:
                text = opened.read(MAX_SNAPSHOT_BYTES + 1)
        except OSError as error:
            raise UserError(f"{self._path} cannot be read: {error.strerror}") from None
        if len(text) > MAX_SNAPSHOT_BYTES:
            raise UserError(f"{self._path} is larger than {MAX_SNAPSHOT_BYTES} bytes and is no snapshot")
        envelope = read_envelope(text, str(self._path))
        return Configuration(envelope.snapshot, envelope.sequence)


def hash_of(files: list[Path]) -> str:
    """Return one hash of names and contents; a file that cannot be read or is too large counts as that."""
    content = hashlib.sha256()
    for file in files:
        try:
            raw = file.read_bytes() if file.stat().st_size <= MAX_SNAPSHOT_BYTES else b"too large"
        except OSError as error:
            raw = f"error {error.errno}".encode()
        content.update(f"{file}\0{len(raw)}\0".encode() + raw)
    return content.hexdigest()

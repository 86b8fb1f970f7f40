"""Artifacts as directories: written whole or not at all, read only after every byte was verified.

The digest of an artifact is the SHA-256 of its `manifest.json`, which holds the SHA-256 of every other file. It must not know what
the files mean beyond that.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from foresail_api.errors import UserError
from foresail_router.artifact.manifest import FILE_NAME_PATTERN, MANIFEST_NAME, FileFacts, Manifest, parse_manifest

MAX_MANIFEST_BYTES = 4 * 2**20
MAX_FILE_BYTES = 2 * 2**30
MAX_ARTIFACT_BYTES = 4 * 2**30
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ArtifactError(UserError):
    """An artifact that is not what it should be; the message names directory, file and what to do."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A verified artifact: its manifest, its digest, and the verified content of every other file."""

    directory: Path
    digest: str
    manifest: Manifest
    files: Mapping[str, bytes]

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of one safetensors file; raises `ArtifactError` when it is none."""
        if name not in self.files:
            raise _error(self.directory, f"its manifest lists no {name}, which this strategy needs", "train it again")
        try:
            return load_safetensors(self.files[name])
        except SafetensorError as error:
            raise _error(self.directory, f"{name} is not a safetensors file", "train the artifact again") from error


def sha256_digest(content: bytes) -> str:
    """Return `sha256:` and the hex digest."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def file_facts(files: Mapping[str, bytes]) -> dict[str, FileFacts]:
    """Return what a manifest says of these files."""
    return {
        name: FileFacts(digest=sha256_digest(content), bytes=len(content)) for name, content in sorted(files.items())
    }


def write_artifact(directory: Path, manifest: Manifest, files: Mapping[str, bytes]) -> str:
    """Write an artifact, in place of one that is there already, and return its digest; the same content gives the same bytes.

    Raises `UserError` when the directory cannot be written, or holds something that is not an artifact.
    """
    if directory.exists() and not _replaceable(directory):
        raise UserError(f"{directory}: exists and is not an artifact; remove it or choose another directory")
    content = manifest.to_bytes()
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    except OSError as error:
        raise UserError(f"{directory}: cannot be written: {error.strerror}") from error
    try:
        temporary.chmod(0o755)
        for name, part in {**files, MANIFEST_NAME: content}.items():
            with (temporary / name).open("xb") as file:
                file.write(part)
                file.flush()
                os.fsync(file.fileno())
        _swap_in(temporary, directory)
    except OSError as error:
        raise UserError(f"{directory}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(temporary.with_name(f"{temporary.name}.old"), ignore_errors=True)
    return sha256_digest(content)


def _swap_in(new: Path, directory: Path) -> None:
    """Put a finished directory in place; one cannot be renamed over another, so an old one steps aside, and back if that fails."""
    old = new.with_name(f"{new.name}.old")
    if directory.exists():
        directory.rename(old)
    try:
        new.rename(directory)
    except OSError:
        if old.exists():
            old.rename(directory)
        raise


def read_artifact(directory: Path, *, expected_digest: str | None = None) -> Artifact:
    """Read and verify an artifact; raises `ArtifactError` at the first thing that is wrong, before anything of it is used."""
    manifest, digest = read_manifest(directory, expected_digest=expected_digest)
    _check_listing(directory, manifest)
    if sum(facts.bytes for facts in manifest.files.values()) > MAX_ARTIFACT_BYTES:
        raise _error(directory, f"its files exceed {MAX_ARTIFACT_BYTES} bytes together", "train a smaller artifact")
    files: dict[str, bytes] = {}
    for name, facts in manifest.files.items():
        content = _read_file(directory, name, MAX_FILE_BYTES)
        if len(content) != facts.bytes:
            raise _error(
                directory,
                f"{name} has {len(content)} bytes, its manifest says {facts.bytes}",
                "copy the artifact again",
            )
        if sha256_digest(content) != facts.digest:
            raise _error(directory, f"{name} is damaged: its digest is not the manifest's", "copy the artifact again")
        files[name] = content
    return Artifact(directory, digest, manifest, files)


def read_manifest(directory: Path, *, expected_digest: str | None = None) -> tuple[Manifest, str]:
    """Read the manifest alone, and the artifact's digest, checked against the pinned one; raises `ArtifactError`."""
    if not directory.is_dir():
        raise _error(directory, "there is no such directory", "train an artifact or correct the path")
    if not (directory / MANIFEST_NAME).exists():
        raise _error(directory, f"it holds no {MANIFEST_NAME}", "give the directory that `foresail train -o` wrote")
    content = _read_file(directory, MANIFEST_NAME, MAX_MANIFEST_BYTES)
    digest = sha256_digest(content)
    if expected_digest is not None and not _DIGEST.fullmatch(expected_digest):
        raise _error(
            directory, "the pinned digest is not of the form sha256:<64 hex digits>", f"its digest is {digest}"
        )
    try:
        manifest = parse_manifest(content)
    except ValueError as error:
        raise ArtifactError(f"artifact {directory}: {MANIFEST_NAME} {error}") from error
    if expected_digest not in (None, digest):
        raise _error(
            directory,
            f"its digest is {digest}, but {expected_digest} is pinned",
            "pin the former, or restore the latter",
        )
    return manifest, digest


def _check_listing(directory: Path, manifest: Manifest) -> None:
    expected = {*manifest.files, MANIFEST_NAME}
    present = {entry.name for entry in os.scandir(directory)}
    if missing := sorted(expected - present):
        raise _error(directory, f"{missing[0]} is missing", "copy the artifact again")
    if extra := sorted(present - expected):
        shown = extra[0] if re.fullmatch(FILE_NAME_PATTERN, extra[0]) else ascii(extra[0])[:80]
        raise _error(directory, f"{shown} is not listed in its manifest", "remove it: only what is listed is verified")


def _read_file(directory: Path, name: str, limit: int) -> bytes:
    """Read a regular file that is no link, at most `limit` bytes of it, from one open handle."""
    try:
        handle = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = "is a link" if (directory / name).is_symlink() else f"cannot be read: {error.strerror}"
        raise _error(directory, f"{name} {reason}", "an artifact holds plain files only") from error
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise _error(directory, f"{name} is not a plain file", "an artifact holds plain files only")
        if facts.st_size > limit:
            raise _error(directory, f"{name} has {facts.st_size} bytes, more than {limit}", "train a smaller artifact")
        return file.read(limit + 1)


def _replaceable(directory: Path) -> bool:
    return (
        directory.is_dir()
        and not directory.is_symlink()
        and (not any(directory.iterdir()) or (directory / MANIFEST_NAME).is_file())
    )


def _error(directory: Path, fault: str, remedy: str) -> ArtifactError:
    return ArtifactError(f"artifact {directory}: {fault}; {remedy}")

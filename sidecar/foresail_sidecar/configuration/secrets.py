"""Credentials from a directory of `<Secret name>/<key>` files, as Kubernetes mounts Secrets, and from Secret manifests.

Owns what a usable credential is. It must not know who needs one. No message here ever holds a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from foresail_sidecar.configuration.state import CredentialKey

MAX_CREDENTIAL_BYTES = 16 * 1024
MAX_CREDENTIALS = 1000


def credential_files(directory: Path) -> Iterator[tuple[CredentialKey, Path]]:
    """Yield each (Secret name, key) with its file, sorted, at most `MAX_CREDENTIALS`; nothing where there is no directory.

    Kubernetes swaps a symbolic link called `..data` when a Secret changes; such names are not keys.
    """
    found = 0
    for secret in _listed(directory):
        if secret.name.startswith(".") or not secret.is_dir():
            continue
        for file in _listed(secret):
            if file.name.startswith("..") or not file.is_file():
                continue
            found += 1
            if found > MAX_CREDENTIALS:
                return
            yield (secret.name, file.name), file


def read_directory(directory: Path | None) -> tuple[dict[CredentialKey, str], list[str]]:
    """Return the usable credentials of a directory and, for each other file, why it is not one."""
    values: dict[CredentialKey, str] = {}
    faults: list[str] = []
    if directory is None:
        return values, faults
    if not directory.is_dir():
        # The operator's pods mount Secrets that may not exist yet, so this is no error.
        return values, [f"the directory of secrets {directory} does not exist"]
    for key, file in credential_files(directory):
        try:
            with file.open("rb") as opened:
                raw = opened.read(MAX_CREDENTIAL_BYTES + 1)
        except OSError as error:
            faults.append(f"{file} cannot be read: {error.strerror}")
            continue
        _take(values, faults, key, raw, str(file))
    return values, faults


def usable(secrets: Mapping[CredentialKey, bytes]) -> tuple[dict[CredentialKey, str], list[str]]:
    """Return the usable credentials of Secret manifests and, for each other value, why it is not one."""
    values: dict[CredentialKey, str] = {}
    faults: list[str] = []
    for (name, key), raw in sorted(secrets.items()):
        _take(values, faults, (name, key), raw, f"Secret {name}, key {key},")
    return values, faults


def _take(values: dict[CredentialKey, str], faults: list[str], key: CredentialKey, raw: bytes, source: str) -> None:
    if len(raw) > MAX_CREDENTIAL_BYTES:
        faults.append(f"{source} is larger than {MAX_CREDENTIAL_BYTES} bytes and is no credential")
        return
    text = raw.decode("latin-1").rstrip("\r\n")
    if not text:
        faults.append(f"{source} is empty")
    elif not (text.isascii() and text.isprintable()):
        faults.append(f"{source} holds characters that no header can carry; a credential is one line of ASCII")
    else:
        values[key] = text


def _listed(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []

"""Credentials and certificates from a directory of `<Secret name>/<key>` files, as Kubernetes mounts Secrets, and from Secret manifests.

Owns what a usable one is, and which of them are tenants' keys. It must not know who needs one. No message here ever holds a value.
"""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path

from foresail_sidecar.configuration.state import CERTIFICATE, CredentialKey
from foresail_sidecar.tenants.directory import TenantDirectory, read_keys

MAX_CREDENTIAL_BYTES = 16 * 1024
MAX_CREDENTIALS = 1000


def credential_files(directory: Path) -> Iterator[tuple[CredentialKey, Path]]:
    """Yield each (Secret name, key) with its file, sorted, at most `MAX_CREDENTIALS`; nothing where there is no directory.

    Kubernetes swaps a symbolic link called `..data` when a Secret changes; such names are not keys.
    """
    yield from itertools.islice(_credential_files(directory), MAX_CREDENTIALS)


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
    if next(itertools.islice(_credential_files(directory), MAX_CREDENTIALS, None), None) is not None:
        faults.append(f"{directory} holds more than {MAX_CREDENTIALS} files; those after them are not read")
    return values, faults


def usable(secrets: Mapping[CredentialKey, bytes]) -> tuple[dict[CredentialKey, str], list[str]]:
    """Return the usable credentials of Secret manifests and, for each other value, why it is not one."""
    values: dict[CredentialKey, str] = {}
    faults: list[str] = []
    for (name, key), raw in sorted(secrets.items()):
        _take(values, faults, (name, key), raw, f"Secret {name}, key {key},")
    return values, faults


def tenants_of(
    credentials: Mapping[CredentialKey, str], secret_name: str | None
) -> tuple[TenantDirectory, tuple[str, ...]]:
    """Return the tenants whose keys stand in that Secret and, for each of its entries that is no key's line, what is wrong with it."""
    entries = {key: value for (name, key), value in credentials.items() if name == secret_name}
    directory, faults = read_keys(entries)
    return directory, tuple(f"Secret {secret_name}, {fault}" for fault in faults)


def _credential_files(directory: Path) -> Iterator[tuple[CredentialKey, Path]]:
    for secret in _listed(directory):
        if secret.name.startswith(".") or not secret.is_dir():
            continue
        for file in _listed(secret):
            if not file.name.startswith("..") and file.is_file():
                yield (secret.name, file.name), file


def _take(values: dict[CredentialKey, str], faults: list[str], key: CredentialKey, raw: bytes, source: str) -> None:
    if len(raw) > MAX_CREDENTIAL_BYTES:
        faults.append(f"{source} is larger than {MAX_CREDENTIAL_BYTES} bytes and is no credential")
        return
    text = raw.decode("latin-1").rstrip("\r\n")
    if not text:
        faults.append(f"{source} is empty")
    elif CERTIFICATE in text:
        if not _are_certificates(text):
            faults.append(f"{source} holds certificates that cannot be read")
        else:
            values[key] = text
    elif not (text.isascii() and text.isprintable()):
        faults.append(f"{source} holds characters that no header can carry; a credential is one line of ASCII")
    else:
        values[key] = text


def _are_certificates(text: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        return False
    return True


def _listed(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []

"""Writes what `foresail init` made: two manifests, and each key into a file that only its owner can read.

Owns modes and the refusal to overwrite. It must not know what the manifests say.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from foresail_api.errors import UserError
from foresail_sidecar.onboarding.manifests import SECRET_KEY
from foresail_sidecar.onboarding.providers import FoundKey

SECRETS = "secrets"


def key_file(directory: Path, found: FoundKey) -> Path:
    """Return where a key goes, as `foresail serve --secrets` reads it."""
    return directory / SECRETS / found.provider.name / SECRET_KEY


def write_all(directory: Path, manifests: Mapping[str, str], keys: Iterable[FoundKey], *, overwrite: bool) -> None:
    """Write everything, or raise `UserError` before anything is written if a file exists and may not be overwritten."""
    keys = tuple(keys)
    targets = [*(directory / name for name in manifests), *(key_file(directory, found) for found in keys)]
    if not overwrite and (existing := [str(path) for path in targets if path.exists()]):
        raise UserError(f"{', '.join(existing)} exists already; choose another directory, or overwrite with --force")
    try:
        _write_keys(directory, keys)
        for name, text in manifests.items():
            (directory / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{error.filename or directory} cannot be written: {error.strerror}") from None


def _write_keys(directory: Path, keys: Iterable[FoundKey]) -> None:
    secrets = directory / SECRETS
    secrets.mkdir(parents=True, exist_ok=True)
    secrets.chmod(0o700)
    (secrets / ".gitignore").write_text("*\n")
    for found in keys:
        file = key_file(directory, found)
        file.parent.mkdir(exist_ok=True)
        file.parent.chmod(0o700)
        # Replaced, not rewritten: an old file could be readable by others, or be a link to somewhere else.
        file.unlink(missing_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(f"{found.key}\n")

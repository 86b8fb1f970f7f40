"""API keys: how one is made, the line that stands for it in a Secret, and how that line is read.

Owns the format of both. A key itself is never kept: a line holds its hash. It must not know where lines are kept, nor who calls.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from foresail_api.errors import UserError
from foresail_api.tenants import is_tenant_name

_PREFIX: Final = "fsk_"
_RANDOM_BYTES: Final = 32
_KEY: Final = re.compile(r"fsk_[A-Za-z0-9_-]{43}", re.ASCII)
_HASH: Final = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_LINE: Final = "`sha256:<64 hex digits> tenant=<name> [expires=<RFC 3339>]`, as `foresail key create` prints it"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Whose key a hash stands for, and from when on it is none any more, in milliseconds of the Unix epoch."""

    tenant: str
    expires_ms: int | None = None


def new_key() -> str:
    """Return a new key: `fsk_` and 32 random bytes in URL-safe base64."""
    return _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def is_key(text: str) -> bool:
    """Return whether `text` has the form of a key of ours; no other is hashed, because a short one could be guessed from its hash."""
    return _KEY.fullmatch(text) is not None


def hash_of_key(key: str) -> str:
    """Return `sha256:` and the hex digest. The key is random and long, so that no salt and no slow hash is needed."""
    return f"sha256:{hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()}"


def key_line(key_hash: str, tenant: str, expires: datetime | None) -> str:
    """Return the line that `read_key_line` reads."""
    until = "" if expires is None else f" expires={expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return f"{key_hash} tenant={tenant}{until}"


def read_key_line(line: str) -> tuple[str, ApiKey]:
    """Return a line's hash and whose key it is; raise `UserError`, which never repeats the line, if it is none.

    An unknown word is an error, so that a misspelt expiry does not make a key that lasts for ever.
    """
    key_hash, *words = line.split()
    if _HASH.fullmatch(key_hash) is None:
        raise UserError(f"does not begin with a hash; write {_LINE}")
    fields = dict(word.partition("=")[::2] for word in words)
    if len(fields) != len(words) or not {"tenant"} <= fields.keys() <= {"tenant", "expires"}:
        raise UserError(f"has other fields than `tenant` and `expires`, each once; write {_LINE}")
    if not is_tenant_name(fields["tenant"]):
        raise UserError(
            "`tenant` must be at most 63 lower-case letters, digits and hyphens that start and end with a letter or a digit, "
            "and not `anonymous`"
        )
    return key_hash, ApiKey(fields["tenant"], _milliseconds(fields["expires"]) if "expires" in fields else None)


def _milliseconds(moment: str) -> int:
    try:
        read = datetime.fromisoformat(moment)
        if read.tzinfo is not None:
            return int(read.timestamp() * 1000)
    except (ValueError, OverflowError):
        pass
    raise UserError("`expires` must be a moment with its time zone, for example 2027-01-31T00:00:00Z")

"""The directory of tenants: which key belongs to whom. Pure; the moment is given.

Owns what makes a key valid. It must not know where the lines come from, nor how a key reaches us.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from foresail_api.errors import UserError
from foresail_sidecar.tenants.keys import ApiKey, hash_of_key, read_key_line

ANONYMOUS: Final = ""


@dataclass(frozen=True, slots=True)
class TenantDirectory:
    """The valid keys by their hash."""

    by_hash: Mapping[str, ApiKey] = field(default_factory=dict)

    def tenant_of(self, key: str, now_ms: int) -> str | None:
        """Return whose key it is, or None if it is nobody's or has expired by `now_ms`, in milliseconds of the Unix epoch."""
        found = self.by_hash.get(hash_of_key(key))
        if found is None or (found.expires_ms is not None and found.expires_ms <= now_ms):
            return None
        return found.tenant


def read_keys(entries: Mapping[str, str]) -> tuple[TenantDirectory, tuple[str, ...]]:
    """Return the directory of a Secret's entries, one line each, and what is wrong with the others, by their names alone.

    A key that stands there twice with different words is not valid at all: nobody can tell which of them is meant.
    """
    by_hash: dict[str, ApiKey] = {}
    first: dict[str, str] = {}
    disputed: set[str] = set()
    faults: list[str] = []
    for name, line in sorted(entries.items()):
        try:
            key_hash, key = read_key_line(line)
        except UserError as error:
            faults.append(f"entry {name!r}: {error}")
            continue
        if by_hash.setdefault(key_hash, key) != key:
            disputed.add(key_hash)
            faults.append(
                f"entries {first[key_hash]!r} and {name!r} are the same key with different tenants or expiries, so it is not valid; "
                "remove one of them"
            )
        first.setdefault(key_hash, name)
    kept = {key_hash: key for key_hash, key in by_hash.items() if key_hash not in disputed}
    return TenantDirectory(kept), tuple(faults)

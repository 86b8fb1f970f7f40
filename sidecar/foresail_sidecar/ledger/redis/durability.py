"""Whether what a Redis acknowledges outlives a crash: a verdict over its own account of itself. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SETTINGS: Final = ("appendonly", "appendfsync", "maxmemory-policy", "maxmemory")
_REMEDY: Final = "see `docs/how-to/redis.md`"


def faults_of(settings: Mapping[str, str] | None, persistence: Mapping[str, str] | None) -> tuple[str, ...]:
    """Judge `CONFIG GET` and `INFO persistence`; None where the server does not let them be read."""
    faults: list[str] = []
    if settings is None or persistence is None:
        return (f"LedgerNotDurable: durability cannot be checked, Redis refuses `CONFIG GET` or `INFO`; {_REMEDY}",)
    if settings.get("appendonly") != "yes":
        faults.append(
            f"LedgerNotDurable: `appendonly` is not `yes`, a restart of Redis loses what was spent; {_REMEDY}"
        )
    elif settings.get("appendfsync") == "no":
        faults.append(
            f"LedgerNotDurable: `appendfsync` is `no`, a crash of the machine loses more than a second; {_REMEDY}"
        )
    if persistence.get("aof_last_write_status", "ok") != "ok":
        faults.append("LedgerNotDurable: Redis could not write its append-only file; look at its disk")
    if settings.get("maxmemory", "0") != "0" and settings.get("maxmemory-policy") != "noeviction":
        faults.append(
            f"LedgerNotDurable: `maxmemory-policy` is `{settings.get('maxmemory-policy')}` and not `noeviction`, "
            f"Redis drops budgets when its memory is full; {_REMEDY}"
        )
    return tuple(faults)


def pairs_of(flat: object) -> dict[str, str]:
    """The reply of `CONFIG GET` as a mapping."""
    if isinstance(flat, Mapping):
        return {_text(name): _text(value) for name, value in flat.items()}
    words = [_text(word) for word in flat] if isinstance(flat, list) else []
    return dict(zip(words[::2], words[1::2], strict=False))


def lines_of(info: object) -> dict[str, str]:
    """The reply of `INFO` as a mapping."""
    if isinstance(info, Mapping):
        return {_text(name): _text(value) for name, value in info.items()}
    parts = (line.partition(":") for line in _text(info).splitlines())
    return {name: value for name, colon, value in parts if colon}


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

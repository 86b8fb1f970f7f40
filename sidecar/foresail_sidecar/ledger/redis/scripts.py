"""The Lua scripts of the ledger as they are sent to the server. It owns their composition, not their arguments."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

_ROOM = files("foresail_sidecar.ledger.redis") / "scripts"


@dataclass(frozen=True, slots=True)
class Script:
    """Source and the digest by which the server knows it once it is loaded."""

    name: str
    source: str
    digest: str


def _script(name: str, *parts: str) -> Script:
    source = "\n".join((_ROOM / f"{part}.lua").read_text(encoding="utf-8") for part in (*parts, name))
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


RESERVE = _script("reserve", "prelude", "claims")
SETTLE = _script("settle", "prelude")
ABANDON = _script("abandon", "prelude")
RENEW = _script("renew", "prelude")
USAGE = _script("usage", "prelude", "claims")
RESTORE = _script("restore", "prelude")

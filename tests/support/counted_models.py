"""A real tokenizer as a file, and models whose prompts it counts."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.support.configurations import Object

from foresail_router.features.weights import load_package


def tokenizer_content() -> bytes:
    """Return the `tokenizer.json` of the packaged encoder."""
    return load_package().tokenizer


def counted_by(where: Path | Object, digest: str | None = None, **changes: object) -> Object:
    """Return the `tokenCount` of a model: its tokenizer is in a file, or on a volume; the digest is the right one unless given."""
    right = f"sha256:{hashlib.sha256(tokenizer_content()).hexdigest()}"
    place: Object = {"uri": f"file://{where}"} if isinstance(where, Path) else {"volumeClaim": where}
    return {"method": "Tokenizer", "tokenizer": place | {"digest": digest or right}, "overheadTokens": 10, **changes}

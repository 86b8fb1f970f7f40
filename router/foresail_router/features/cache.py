"""A cache of embeddings on disk, for training and evaluation: the same prompts are encoded once per encoder.

It holds vectors under hashes of what was encoded, never text. It must not know data sets.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from foresail_api.errors import UserError
from foresail_router.features.encoder import Encoder, Progress, Vectors
from foresail_router.features.text import text_key

_FLUSH_EVERY = 1024


def default_cache_directory() -> Path:
    """Return `foresail/embeddings` under `$XDG_CACHE_HOME`, or under `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "foresail" / "embeddings"


class CachedEncoder:
    """An encoder that keeps on disk what it has encoded: one file per encoder, rewritten as it grows."""

    def __init__(self, encoder: Encoder, directory: Path) -> None:
        self.key = encoder.key
        self._encoder = encoder
        self._path = directory / f"{hashlib.sha256(encoder.key.encode()).hexdigest()[:32]}.safetensors"
        self._vectors = _read(self._path)

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Return one row per text, encoding only what the cache lacks."""
        keys = [text_key(text) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._vectors}
        if progress is not None:
            progress(len(texts) - len(missing))
        todo = list(missing.items())
        for start in range(0, len(todo), _FLUSH_EVERY):
            part = todo[start : start + _FLUSH_EVERY]
            encoded = self._encoder.encode([text for _, text in part], progress)
            self._vectors.update((key, vector) for (key, _), vector in zip(part, encoded, strict=True))
            _write(self._path, self._vectors)
        if not keys:
            return self._encoder.encode([])
        return np.stack([self._vectors[key] for key in keys])


def _read(path: Path) -> dict[bytes, NDArray[np.float32]]:
    try:
        tensors = load_safetensors(path.read_bytes())
        keys, vectors = tensors["keys"], tensors["vectors"]
        return {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}
    except (OSError, SafetensorError, KeyError, ValueError):
        # A cache that is absent or unreadable is an empty one.
        return {}


def _write(path: Path, vectors: dict[bytes, NDArray[np.float32]]) -> None:
    keys = np.frombuffer(b"".join(vectors), dtype=np.uint8).reshape(len(vectors), 32)
    temporary = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(save_safetensors({"keys": keys, "vectors": np.stack(list(vectors.values()))}))
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"embeddings cannot be cached in {path.parent}: {error.strerror}; name a folder of yours with --cache-dir"
        ) from None

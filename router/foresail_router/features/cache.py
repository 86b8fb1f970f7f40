"""A cache of embeddings on disk, for training and evaluation: the same prompts are encoded once per encoder.

It holds vectors under hashes of what was encoded, never text. It must not know data sets.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_safetensors

from foresail_api.errors import UserError
from foresail_router.features.encoder import Encoder, Progress, Vectors
from foresail_router.features.text import text_key

_FLUSH_EVERY = 1024
# The file that holds a vector, and its row there.
_Place = tuple[Path, int]


def default_cache_directory() -> Path:
    """Return `foresail/embeddings` under `$XDG_CACHE_HOME`, or under `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "foresail" / "embeddings"


class CachedEncoder:
    """An encoder that keeps on disk what it has encoded: one folder per encoder, to which files are added and in which none is changed.

    Several processes may share the folder; what two of them encode at once is kept twice, and harmless. Vectors are kept as float16.
    In memory it holds where each vector lies; the vectors themselves are read when they are asked for.
    """

    def __init__(self, encoder: Encoder, directory: Path) -> None:
        self.key = encoder.key
        self._encoder = encoder
        self._directory = directory / hashlib.sha256(encoder.key.encode()).hexdigest()[:32]
        self._places = _index(self._directory)

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Return one row per text, encoding only what the cache lacks; the same rows whether or not they were cached."""
        keys = [text_key(text) for text in texts]
        found = self._read(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if progress is not None:
            progress(len(texts) - len(missing))
        # Sorted by length, so that a batch on an accelerator is not padded to the longest text of all.
        todo = sorted(missing.items(), key=lambda item: len(item[1]))
        for start in range(0, len(todo), _FLUSH_EVERY):
            part = todo[start : start + _FLUSH_EVERY]
            encoded = self._encoder.encode([text for _, text in part], progress).astype(np.float16)
            new = {key: vector for (key, _), vector in zip(part, encoded, strict=True)}
            path = _write(self._directory, new)
            self._places.update((key, (path, row)) for row, key in enumerate(new))
            found.update(new)
        if not keys:
            return self._encoder.encode([])
        vectors = np.empty((len(keys), len(found[keys[0]])), dtype=np.float32)
        for row, key in enumerate(keys):
            vectors[row] = found[key]
        return vectors

    def _read(self, keys: Iterable[bytes]) -> dict[bytes, NDArray[np.float16]]:
        """Return the vectors that the cache has, by key; what a file no longer holds is forgotten, and so encoded again."""
        by_file: dict[Path, dict[bytes, int]] = {}
        for key in dict.fromkeys(keys):
            if key in self._places:
                path, row = self._places[key]
                by_file.setdefault(path, {})[key] = row
        found: dict[bytes, NDArray[np.float16]] = {}
        for path, rows in by_file.items():
            try:
                with safe_open(path, framework="numpy") as file:
                    vectors = file.get_tensor("vectors")[list(rows.values())]
            except (OSError, SafetensorError, IndexError):
                for key in rows:
                    del self._places[key]
                continue
            found.update(zip(rows, vectors, strict=True))
        return found


def _index(directory: Path) -> dict[bytes, _Place]:
    places: dict[bytes, _Place] = {}
    for path in sorted(directory.glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as file:
                keys, shape = file.get_tensor("keys"), file.get_slice("vectors").get_shape()
        except (OSError, SafetensorError):
            # A file that is unreadable is one that is not there: its texts are encoded again.
            continue
        if len(shape) == 2 and len(keys) == shape[0]:
            places.update((key.tobytes(), (path, row)) for row, key in enumerate(keys))
    return places


def _write(directory: Path, vectors: dict[bytes, NDArray[np.float16]]) -> Path:
    keys = np.frombuffer(b"".join(vectors), dtype=np.uint8).reshape(len(vectors), 32)
    path = directory / f"{hashlib.sha256(keys.tobytes()).hexdigest()[:32]}.safetensors"
    temporary = path.with_suffix(f".{os.getpid()}.part")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(save_safetensors({"keys": keys, "vectors": np.stack(list(vectors.values()))}))
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"embeddings cannot be cached in {directory}: {error.strerror}; name a folder of yours with --cache-dir"
        ) from None
    return path

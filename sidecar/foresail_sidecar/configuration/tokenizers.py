"""The tokenizers that a pool names: found on this machine, checked against their digests, ready to count.

Owns files, digests and what a tokenizer must not do. It must not know requests, nor what counts are for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

from foresail_api.errors import UserError
from foresail_api.snapshot import Snapshot, SnapshotTokenizer

_MOST_BYTES: Final = 128 * 2**20


class TextCounter(Protocol):
    """A tokenizer, as far as it counts. May be asked by several threads at once."""

    def count(self, text: str) -> int:
        """Return how many tokens a text becomes."""
        ...


class _Loaded:
    def __init__(self, content: bytes) -> None:
        """Build from the content of a `tokenizer.json`; raises `ValueError` when it is none."""
        # Most pools name none.
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises bare Exception
            raise ValueError(str(error)) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # Else a client's text that spells a special token would count as one where a provider reads its letters.
        self._tokenizer.encode_special_tokens = True

    def count(self, text: str) -> int:
        return len(self._tokenizer.encode(text).ids)


Tokenizers = Mapping[str, TextCounter]


def load(snapshot: Snapshot, claims: Mapping[str, Path], known: Tokenizers) -> tuple[Tokenizers, tuple[str, ...]]:
    """Return the snapshot's tokenizers by digest, those that are `known` already as they are, and a warning for each that is not to be had.

    Blocks: reading a large one takes a second.
    """
    found: dict[str, TextCounter] = {}
    warnings = []
    for model, wanted in _wanted(snapshot):
        if wanted.digest in found:
            continue
        try:
            found[wanted.digest] = known.get(wanted.digest) or read(wanted, claims)
        except UserError as error:
            warnings.append(f"the model {model!r}: {error}; until then the bytes of its prompts are counted")
    return found, tuple(warnings)


def fingerprint(snapshot: Snapshot, claims: Mapping[str, Path]) -> tuple[object, ...]:
    """Return what changes when a file of the snapshot's tokenizers comes or goes."""
    return tuple(_facts(wanted, claims) for _, wanted in _wanted(snapshot))


def _wanted(snapshot: Snapshot) -> Iterator[tuple[str, SnapshotTokenizer]]:
    return ((model.name, model.tokenizer) for model in snapshot.models if model.tokenizer is not None)


def _facts(wanted: SnapshotTokenizer, claims: Mapping[str, Path]) -> object:
    try:
        status = _locate(wanted, claims).stat()
    except (UserError, OSError) as error:
        return str(error)
    return status.st_size, status.st_mtime_ns


def _locate(wanted: SnapshotTokenizer, claims: Mapping[str, Path]) -> Path:
    if wanted.claim is None:
        return Path(wanted.path)
    root = claims.get(wanted.claim)
    if root is None:
        raise UserError(
            f"its tokenizer lies on the volume claim {wanted.claim!r}: say where that is with --volume-claim {wanted.claim}=DIR"
        )
    file = root / wanted.path
    if not file.resolve().is_relative_to(root.resolve()):
        raise UserError(f"its tokenizer {wanted.path} leaves its volume {root}; put it inside")
    return file


def read(wanted: SnapshotTokenizer, claims: Mapping[str, Path]) -> TextCounter:
    """Return the tokenizer in a file; raise `UserError` if it cannot be had or is not the one that is wanted. Blocks."""
    file = _locate(wanted, claims)
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise UserError(f"its tokenizer {file} has more than {_MOST_BYTES} bytes; name a tokenizer.json")
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"its tokenizer {file} cannot be read ({error.strerror}); put it there") from None
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if digest != wanted.digest:
        raise UserError(f"its tokenizer {file} has the digest {digest}, not {wanted.digest}; correct either")
    try:
        return _Loaded(content)
    except ValueError:
        raise UserError(
            f"its tokenizer {file} is no tokenizer.json; name the file that the model's makers publish"
        ) from None

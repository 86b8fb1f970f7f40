"""The tokenizers that a pool names: found on this machine, checked against their digests, ready to count.

Owns files, digests and what a tokenizer must not do. It must not know requests, nor what counts are for.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

from foresail_api.errors import UserError
from foresail_api.snapshot import Snapshot, SnapshotTokenizer

_MOST_BYTES: Final = 128 * 2**20


class TextCounter(Protocol):
    """A tokenizer, as far as it counts. May be asked by several threads at once."""

    def count(self, text: str) -> int:
        """Return how many tokens a text becomes; raise `ValueError` where the tokenizer has none for something in it."""
        ...


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Make a `ValueError` of whatever the library raises: bare exceptions, and for what it takes for its own defect one that is none."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise ValueError(str(error)) from None
        raise


class _Loaded:
    def __init__(self, content: bytes) -> None:
        """Build from the content of a `tokenizer.json`; raises `ValueError` when it is none."""
        # Most pools name none.
        from tokenizers import Tokenizer

        # Else a batch, if only of one, starts a thread per CPU inside the tokenizer.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

        with _told():
            self._tokenizer = Tokenizer.from_buffer(content)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # Else a client's text that spells a special token would count as one where a provider reads its letters.
        self._tokenizer.encode_special_tokens = True

    def count(self, text: str) -> int:
        with _told():
            # Nothing but a batch lets other threads run meanwhile.
            (encoding,) = self._tokenizer.encode_batch_fast([text])
        return len(encoding)


Tokenizers = Mapping[str, TextCounter]


def load(snapshot: Snapshot, claims: Mapping[str, Path], known: Tokenizers) -> tuple[Tokenizers, tuple[str, ...]]:
    """Return the snapshot's tokenizers by digest, those that are `known` already as they are, and a warning for each that is not to be had.

    Blocks: reading a large one takes a second.
    """
    found: dict[str, TextCounter] = {}
    missing = []
    for model, wanted in _wanted(snapshot):
        if wanted.digest in found:
            continue
        try:
            found[wanted.digest] = known.get(wanted.digest) or read(wanted, claims)
        except UserError as error:
            missing.append(
                (wanted.digest, f"the model {model!r}: {error}; until then the bytes of its prompts are counted")
            )
    return found, tuple(warning for digest, warning in missing if digest not in found)


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
    # A copy can keep size and time of what it replaces, and a file can become readable without a change.
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


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
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"its tokenizer {file} is no file; name a tokenizer.json")
        if status.st_size > _MOST_BYTES:
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

"""Which models are not believed any more: those whose upstreams reported more than was bounded, again and again.

Owns the counts, one for each declaration of a model, and how those of several processes become one. It must not know requests, nor
where anything is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from foresail_api.snapshot import Snapshot, SnapshotModel

MOST_EXCESSES: Final = 3

_Counts = dict[str, dict[str, int]]
_KEPT: Final = TypeAdapter(dict[str, dict[str, Annotated[int, Field(ge=1, le=MOST_EXCESSES)]]])
# The price and all else that a bound is worked out from.
_DECLARED: Final = frozenset(
    {
        "name",
        "price",
        "max_tokens_per_byte",
        "overhead_tokens",
        "tokenizer",
        "max_tokens_per_image",
        "max_tokens_per_audio",
        "max_output_tokens",
    }
)


class Trust:
    """Counts excesses. A model is distrusted from the third one on, until what is declared of it changes.

    Each process raises a count of its own under its `writer`, and takes the larger one of everybody else's: so counts that several
    processes keep in one place are complete once each of them has written after the others, in whatever order that happened.
    Not thread-safe; it belongs to one event loop. There is nothing in it but for declarations that were exceeded.
    """

    def __init__(self, writer: str | None = None) -> None:
        self._writer = writer or os.urandom(8).hex()
        self._counts: _Counts = {}
        self._found: tuple[Snapshot, frozenset[str]] | None = None

    def exceeded(self, model: SnapshotModel) -> None:
        """Note that an upstream of `model` reported more than its bound."""
        counts = self._counts.setdefault(declaration_of(model), {})
        if not _distrusted(counts):
            counts[self._writer] = counts.get(self._writer, 0) + 1
            self._found = None

    def distrusted(self, snapshot: Snapshot) -> frozenset[str]:
        """Return the models of the snapshot that are not believed any more."""
        if not self._counts:
            return frozenset()
        if self._found is None or self._found[0] is not snapshot:
            names = [
                model.name for model in snapshot.models if _distrusted(self._counts.get(declaration_of(model), {}))
            ]
            self._found = snapshot, frozenset(names)
        return self._found[1]

    def merge(self, kept: str | None, snapshot: Snapshot) -> str | None:
        """Take what other processes counted, and forget declarations that are not in the snapshot.

        Returns what is to be kept instead, None if `kept` says it already.
        """
        others = _read(kept)
        if not others and not self._counts:
            return None
        merged: _Counts = {}
        for declaration in map(declaration_of, snapshot.models):
            counts = _larger(self._counts.get(declaration, {}), others.get(declaration, {}))
            if counts:
                merged[declaration] = counts
        if merged != self._counts:
            self._counts, self._found = merged, None
        return None if merged == others else json.dumps(merged, sort_keys=True)


def declaration_of(model: SnapshotModel) -> str:
    """Return what stands for the model with all that its bound rests on: a change of any of it is another declaration."""
    # Where a tokenizer lies changes no bound. A model without one is declared as in releases that knew none: what is kept stays valid.
    without = {"tokenizer": {"claim", "path"}} if model.tokenizer is not None else {"tokenizer"}
    declared = model.model_dump(mode="json", include=set(_DECLARED), exclude=without)
    return hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()


def _distrusted(counts: Mapping[str, int]) -> bool:
    return sum(counts.values()) >= MOST_EXCESSES


def _larger(ours: Mapping[str, int], theirs: Mapping[str, int]) -> dict[str, int]:
    return {writer: max(ours.get(writer, 0), theirs.get(writer, 0)) for writer in ours.keys() | theirs.keys()}


def _read(kept: str | None) -> _Counts:
    """Return what was kept; what cannot be read is nothing, for it is written again by whoever knows better."""
    if kept is None:
        return {}
    try:
        return _KEPT.validate_json(kept)
    except ValidationError:
        return {}

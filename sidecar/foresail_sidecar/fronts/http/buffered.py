"""How many bytes of bodies and whole answers the process holds, over all requests.

Owns the total and its limit. It must not know what the bytes are. Copies that are made on the way are not counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from foresail_sidecar.fronts.http import errors
from foresail_sidecar.fronts.http.errors import Refused


class BufferedBytes:
    """Counts what is held. Belongs to one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    def __len__(self) -> int:
        return self._held

    @contextlib.contextmanager
    def holding(self) -> Iterator[Held]:
        """Yield what one request counts its bytes with; they are free again when the block ends."""
        held = Held(self)
        try:
            yield held
        finally:
            self._held -= held.bytes

    @contextlib.contextmanager
    def writing(self, length: int) -> Iterator[None]:
        """Count an answer that is there already while the block writes it, also above the limit."""
        self._held += length
        try:
            yield
        finally:
            self._held -= length

    def take(self, length: int) -> None:
        """Count `length` bytes more; raise `Refused`, and count none, where they would exceed the limit."""
        if self._held + length > self._limit:
            raise Refused(errors.overloaded())
        self._held += length


class Held:
    """What one request holds."""

    __slots__ = ("_all", "bytes")

    def __init__(self, every: BufferedBytes) -> None:
        self.bytes = 0
        self._all = every

    def take(self, length: int) -> None:
        """Hold `length` bytes more, until the request's block ends; raise `Refused` where all requests would hold too many."""
        self._all.take(length)
        self.bytes += length

"""How many bytes of bodies and whole answers the process holds, over all requests.

Owns the total and its limit. It must not know what the bytes are. Copies that are made on the way are not counted.
"""

from __future__ import annotations

from typing import Self

from foresail_sidecar.fronts.http import errors
from foresail_sidecar.fronts.http.errors import Refused


class BufferedBytes:
    """Counts what is held. Belongs to one event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._most = 0

    def __len__(self) -> int:
        return self._held

    def most(self) -> int:
        """Return the most that was held at a time since this was last asked."""
        most, self._most = self._most, self._held
        return most

    def holding(self) -> Held:
        """Return what one request counts its bytes with; to be used as a context manager, after which they are free again."""
        return Held(self)

    def writing(self, length: int) -> Held:
        """Count an answer that is there already, also above the limit, until the end of the context that is returned."""
        self._add(length)
        return Held(self, length)

    def take(self, length: int) -> None:
        """Count `length` bytes more; raise `Refused`, and count none, where they would exceed the limit."""
        if self._held + length > self._limit:
            raise Refused(errors.overloaded())
        self._add(length)

    def free(self, length: int) -> None:
        """Count `length` bytes no longer."""
        self._held -= length

    def _add(self, length: int) -> None:
        self._held += length
        if self._held > self._most:
            self._most = self._held


class Held:
    """What one request holds until the end of its context."""

    __slots__ = ("_all", "bytes")

    def __init__(self, every: BufferedBytes, length: int = 0) -> None:
        self.bytes = length
        self._all = every

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._all.free(self.bytes)

    def take(self, length: int) -> None:
        """Hold `length` bytes more, until the request's block ends; raise `Refused` where all requests would hold too many."""
        self._all.take(length)
        self.bytes += length

    def let_go(self) -> None:
        """Hold nothing of what was taken until now."""
        self._all.free(self.bytes)
        self.bytes = 0

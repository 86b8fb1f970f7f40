"""Identities of requests: 32 hexadecimal digits that no other request has, in the order of time.

Owns their form: 12 digits are the millisecond, 20 are random. It must not know what is named by them. A ledger keeps attempts by these
names, so those that come together lie together, and a commit writes few pages.
"""

from __future__ import annotations

import os
import time
from typing import Final

_RANDOM_BYTES: Final = 10
_NAMES_AT_ONCE: Final = 256
_NANOSECONDS: Final = 1_000_000


class Identities:
    """Makes identities. The system is asked for random bytes for many of them at once. Belongs to one thread."""

    def __init__(self) -> None:
        self._random = ""
        self._used = 0

    def new(self) -> str:
        """Return an identity that was never returned before, here or elsewhere."""
        if self._used >= len(self._random):
            self._random = os.urandom(_RANDOM_BYTES * _NAMES_AT_ONCE).hex()
            self._used = 0
        start = self._used
        self._used = start + 2 * _RANDOM_BYTES
        return f"{time.time_ns() // _NANOSECONDS:012x}{self._random[start : self._used]}"

"""Gives memory back to the system that many or large bodies have left free.

Owns when that is done. It must not know requests.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from typing import Final

from foresail_sidecar.fronts.http.buffered import BufferedBytes
from foresail_sidecar.fronts.http.settings import MEBIBYTE

_LOOK_SECONDS: Final = 1.0
# On the way, bodies are there several times. Once they are free, small objects between them keep the allocator from giving them back.
_MANY_BYTES: Final = 2 * MEBIBYTE
_FEW_BYTES: Final = MEBIBYTE // 2


class Trimmer:
    """Looks every second whether much was held and no longer is, and then calls `trim`."""

    def __init__(self, buffered: BufferedBytes, trim: Callable[[], None]) -> None:
        self._buffered = buffered
        self._trim = trim
        self._most = 0

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self.is_time():
                # It takes milliseconds where there is much to give back, and does without the interpreter.
                await asyncio.to_thread(self._trim)

    def is_time(self) -> bool:
        """Return whether to trim now: after much was held, once few requests hold anything. Says so once."""
        self._most = max(self._most, self._buffered.most())
        if self._most < _MANY_BYTES or len(self._buffered) > _FEW_BYTES:
            return False
        self._most = 0
        return True


def trim_heap() -> None:
    """Give the free pages of the C library's heap back to the system. Does nothing where the library is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))

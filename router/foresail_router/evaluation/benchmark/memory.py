"""How much memory and CPU time a run takes, over all its processes; and the way back of memory that is free. It must not know what runs."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import resource
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_EVERY_SECONDS = 0.5
_PROPORTIONAL = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)
_PEAK = re.compile(rb"^VmHWM:\s+(\d+) kB", re.MULTILINE)
_RESIDENT = re.compile(rb"^VmRSS:\s+(\d+) kB", re.MULTILINE)


class MemoryWatch:
    """While it is entered, samples twice a second what this process and all that descend from it hold together, in MiB.

    What several of them share counts once (proportional set size). `peak_mib` is None where the system does not tell.
    """

    def __init__(self) -> None:
        self.peak_mib: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        """Begin to sample."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop sampling."""
        self._ended.set()
        self._thread.join(10)

    def _sample(self) -> None:
        while True:
            held = held_together_mib(os.getpid())
            if held is not None:
                self.peak_mib = max(self.peak_mib or 0.0, held)
            if self._ended.wait(_EVERY_SECONDS):
                return


def held_together_mib(process: int) -> float | None:
    """Return what a process and its descendants hold now, shared pages counted once, or None where the system does not tell."""
    total, waiting = 0, [process]
    while waiting:
        current = waiting.pop()
        try:
            found = _PROPORTIONAL.search(Path(f"/proc/{current}/smaps_rollup").read_bytes())
            tasks = [*Path(f"/proc/{current}/task").iterdir()]
            children = [child for task in tasks for child in (task / "children").read_bytes().split()]
        except OSError:
            if current == process:
                return None
            # It has ended meanwhile.
            continue
        total += int(found[1]) if found else 0
        waiting.extend(int(child) for child in children)
    return total / 2**10


def peak_mib() -> float:
    """Return the largest resident size that this process had."""
    # The kernel's other count, that of getrusage, begins with what the parent held when it started this process.
    found = _status(_PEAK)
    return found if found is not None else _peak_of_resources()


def resident_mib() -> float:
    """Return the resident size of this process, or its peak where the system does not tell."""
    found = _status(_RESIDENT)
    return found if found is not None else _peak_of_resources()


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def give_back_memory() -> None:
    """Hand memory that is free back to the system, where its allocator would keep it for this process."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _status(wanted: re.Pattern[bytes]) -> float | None:
    try:
        found = wanted.search(Path("/proc/self/status").read_bytes())
    except OSError:
        return None
    return int(found[1]) / 2**10 if found else None


def _peak_of_resources() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, Linux kibibytes.
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10

"""What large bodies have left free goes back to the system once few are held, and only then."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from foresail_sidecar.fronts.http.buffered import BufferedBytes
from foresail_sidecar.fronts.http.errors import Refused
from foresail_sidecar.serving.trimming import Trimmer, trim_heap

MEBIBYTE = 1024 * 1024


class Trims:
    """A trimmer's heap, which only counts."""

    def __init__(self) -> None:
        self.count = 0
        self.buffered = BufferedBytes(100 * MEBIBYTE)
        self.trimmer = Trimmer(self.buffered, trim_heap)

    def looked(self) -> int:
        self.count += self.trimmer.is_time()
        return self.count


def test_the_heap_is_trimmed_once_after_much_was_held() -> None:
    trims = Trims()
    with trims.buffered.holding() as held:
        held.take(3 * MEBIBYTE)
        assert trims.looked() == 0
    assert [trims.looked() for _ in range(3)] == [1, 1, 1]


def test_what_was_held_between_two_looks_counts_and_little_does_not() -> None:
    trims = Trims()
    with trims.buffered.holding() as held:
        held.take(MEBIBYTE)
    assert trims.looked() == 0
    with trims.buffered.writing(4 * MEBIBYTE):
        pass
    assert trims.looked() == 1


def test_trimming_waits_until_few_bytes_are_held() -> None:
    trims = Trims()
    with trims.buffered.writing(MEBIBYTE):
        with trims.buffered.writing(4 * MEBIBYTE):
            pass
        assert [trims.looked() for _ in range(2)] == [0, 0]
    assert trims.looked() == 1


def test_what_was_refused_was_not_held() -> None:
    trims = Trims()
    with pytest.raises(Refused), trims.buffered.holding() as held:
        held.take(101 * MEBIBYTE)
    assert trims.looked() == 0


TRIMS = """
from pathlib import Path
from foresail_sidecar.serving.trimming import trim_heap

def resident():
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0])

pairs = [(b"x" * (40_000 + number % 2), b"y" * (1000 + number % 2)) for number in range(1000)]
small = [pair[1] for pair in pairs]
del pairs
before = resident()
trim_heap()
print(before - resident())
"""


def test_free_memory_between_small_objects_goes_back_to_the_system() -> None:
    # In a process of its own: what other tests left free would do for these objects.
    done = subprocess.run([sys.executable, "-c", TRIMS], capture_output=True, check=True, timeout=60)
    if platform.libc_ver()[0] == "glibc":
        assert int(done.stdout) > 10_000

"""What large bodies have left free goes back to the system once few are held, and only then."""

from __future__ import annotations

import platform
from pathlib import Path

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
        self.trimmer = Trimmer(self.buffered, self._trim)

    def _trim(self) -> None:
        self.count += 1

    def looked(self) -> int:
        self.trimmer.look()
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


def resident_kibibytes() -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0])


def test_free_memory_between_small_objects_goes_back_to_the_system() -> None:
    pairs = [(b"x" * (40_000 + number % 2), b"y" * (1000 + number % 2)) for number in range(1000)]
    small = [pair[1] for pair in pairs]
    del pairs
    before = resident_kibibytes()
    trim_heap()
    after = resident_kibibytes()
    assert len(small) == 1000
    if platform.libc_ver()[0] == "glibc":
        assert before - after > 10_000

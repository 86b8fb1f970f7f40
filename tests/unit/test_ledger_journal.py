"""Undelivered settlements outlive the process, its crash and its neighbours, within their bounds."""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from foresail_sidecar.ledger.interface import Entry, Measure, Receipt, Settled
from foresail_sidecar.ledger.journal import MOST_AGE_MS, Journal, JournalHeld, open_journal


def settled(number: int, revision: int = 1) -> Settled:
    entries = (
        Entry("b|month|naïve", 1_000, Measure.MONEY, 60),
        Entry("u|m|a|tokens", 2_000, Measure.TOKENS, 2**53 - 1, rolling=True),
    )
    receipt = Receipt(f"attempt-{number}", 3, entries)
    return Settled(receipt.attempt_id, revision, "Counted", receipt, (number, 2**53 - 1))


class Opening:
    """Opens journals, and closes at the end what a test left open."""

    def __init__(self) -> None:
        self.journals: list[Journal] = []

    def __call__(self, path: Path, **settings: Any) -> Journal:
        self.journals.append(Journal(path, **settings))
        self.journals[-1].open()
        return self.journals[-1]

    def free(self, directory: Path, uid: str = "uid") -> Journal:
        self.journals.append(open_journal(directory, uid))
        return self.journals[-1]


@pytest.fixture
def opened() -> Iterator[Opening]:
    opening = Opening()
    yield opening
    for journal in opening.journals:
        journal.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "settlements-0.journal"


def test_what_was_added_is_there_after_another_start(path: Path, opened: Opening) -> None:
    journal = opened(path)
    assert journal.add([settled(1), settled(2, revision=2)]) == 0
    journal.close()
    assert opened(path).waiting(10) == [settled(1), settled(2, revision=2)]


def test_delivered_ones_are_forgotten_and_an_empty_journal_is_an_empty_file(path: Path, opened: Opening) -> None:
    journal = opened(path)
    journal.add([settled(1), settled(2), settled(3)])
    journal.delivered(2)
    assert journal.waiting(10) == [settled(3)]
    journal.delivered(1)
    assert (len(journal), path.stat().st_size) == (0, 0)
    journal.add([settled(4)])
    journal.close()
    assert opened(path).waiting(10) == [settled(4)]


@pytest.mark.parametrize("cut", [1, 2, 9, 60, 120])
def test_a_torn_line_costs_only_itself(path: Path, opened: Opening, cut: int) -> None:
    journal = opened(path)
    journal.add([settled(1), settled(2)])
    journal.close()
    path.write_bytes(path.read_bytes()[:-cut])
    journal = opened(path)
    survivors = journal.waiting(10)
    assert survivors in ([settled(1), settled(2)], [settled(1)])
    journal.add([settled(3)])
    journal.close()
    assert opened(path).waiting(10) == [*survivors, settled(3)]


def test_a_changed_line_is_passed_over_and_counted(path: Path, opened: Opening) -> None:
    journal = opened(path)
    journal.add([settled(1), settled(2), settled(3)])
    journal.close()
    path.write_bytes(path.read_bytes().replace(b"attempt-2", b"attempt-9"))
    journal = opened(path)
    assert journal.waiting(10) == [settled(1), settled(3)]
    assert journal.damaged == 1


def test_a_full_journal_says_how_many_it_left_out(path: Path, opened: Opening) -> None:
    journal = opened(path, most_entries=3)
    assert journal.add([settled(number) for number in range(5)]) == 2
    assert journal.add([settled(9)]) == 1
    journal.delivered(1)
    assert journal.add([settled(9)]) == 0


def test_bytes_are_bounded_and_delivered_ones_make_room(path: Path, opened: Opening) -> None:
    journal = opened(path, most_bytes=1_000)
    left_out = journal.add([settled(number) for number in range(20)])
    kept = len(journal)
    assert 0 < kept == 20 - left_out
    assert path.stat().st_size <= 1_000
    journal.delivered(kept - 1)
    assert journal.add([settled(99)]) == 0
    journal.close()
    assert opened(path).waiting(10) == [settled(kept - 1), settled(99)]


@contextlib.contextmanager
def files_may_have(size: int) -> Iterator[None]:
    """Have the system refuse what makes a file longer, as a full disk does: of a write that is too long it takes a part."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_told_and_costs_nothing_that_comes_later(path: Path, opened: Opening) -> None:
    journal = opened(path)
    journal.add([settled(1)])
    with files_may_have(path.stat().st_size + 50), pytest.raises(OSError, match="too large"):
        journal.add([settled(2)])
    assert journal.waiting(10) == [settled(1)]
    assert journal.add([settled(3)]) == 0
    journal.close()
    journal = opened(path)
    assert journal.waiting(10) == [settled(1), settled(3)]
    assert journal.damaged == 0


def test_a_full_disk_leaves_a_journal_that_is_written_anew_as_it_was(path: Path, opened: Opening) -> None:
    journal = opened(path, most_bytes=1_000)
    journal.add([settled(number) for number in range(9)])
    kept = journal.waiting(10)
    journal.delivered(1)
    with files_may_have(100), pytest.raises(OSError, match="too large"):
        journal.add([settled(9)])
    journal.close()
    assert opened(path).waiting(10) == kept


def test_one_process_holds_a_journal(path: Path, opened: Opening) -> None:
    held = opened(path)
    with pytest.raises(JournalHeld):
        opened(path)
    held.close()
    opened(path).close()


def test_a_new_process_takes_a_free_journal_and_what_others_left(tmp_path: Path, opened: Opening) -> None:
    first, second, third = (opened.free(tmp_path) for _ in range(3))
    for number, journal in enumerate((first, second, third)):
        journal.add([settled(number)])
    first.close()
    third.close()
    again = opened.free(tmp_path)
    assert again.waiting(10) == [settled(0), settled(2)]
    assert second.waiting(10) == [settled(1)]
    again.close()
    left = sorted(tmp_path.iterdir())
    assert [path.name.rsplit("-", 1)[1] for path in left] == ["0.journal", "1.journal"]
    assert opened(left[0]).waiting(10) == [settled(0), settled(2)]


def test_what_one_policy_left_is_not_taken_over_by_another(tmp_path: Path, opened: Opening) -> None:
    journal = opened.free(tmp_path, "one")
    journal.add([settled(1)])
    journal.close()
    assert opened.free(tmp_path, "another").waiting(10) == []
    assert opened.free(tmp_path, "one").waiting(10) == [settled(1)]


def test_what_waits_can_be_asked_while_a_thread_adds(path: Path, opened: Opening) -> None:
    journal = opened(path)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as pool:
            adding = pool.submit(lambda: [journal.add([settled(number)]) for number in range(300)])
            while not adding.done():
                waiting = journal.waiting(1000)
                assert [each.attempt_id for each in waiting] == [f"attempt-{number}" for number in range(len(waiting))]
    finally:
        sys.setswitchinterval(before)
    assert len(journal.waiting(1000)) == 300


def test_what_is_older_than_a_ledgers_records_is_dropped(path: Path, opened: Opening) -> None:
    now = 1_000_000
    journal = opened(path, clock_ms=lambda: now)
    journal.add([settled(1)])
    now += MOST_AGE_MS
    journal.add([settled(2)])
    assert journal.drop_old() == 0
    now += 1
    assert journal.drop_old() == 1
    assert journal.waiting(10) == [settled(2)]

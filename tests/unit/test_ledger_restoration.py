"""What is remembered of a ledger for the day on which it loses it."""

from __future__ import annotations

from foresail_sidecar.ledger.interface import Usage
from foresail_sidecar.ledger.restoration import Seen


def sight(account: str, slot: int, spent: int, sequence: int, *, rolling: bool = False) -> Usage:
    return Usage(account, slot, spent, 0, None, sequence, rolling)


def test_the_latest_sight_of_each_window_is_kept() -> None:
    seen = Seen()
    seen.take([sight("b", 1_000, 5, 1), sight("b", 2_000, 7, 2), sight("b", 1_000, 6, 3)])
    assert {(usage.slot_ms, usage.spent) for usage in seen.for_restore()} == {(1_000, 6), (2_000, 7)}


def test_an_answer_that_was_overtaken_changes_nothing() -> None:
    seen = Seen()
    seen.take([sight("b", 1_000, 9, 8)])
    seen.take([sight("b", 1_000, 4, 5)])
    assert [usage.spent for usage in seen.for_restore()] == [9]


def test_of_a_rolling_account_only_the_latest_sum_is_kept() -> None:
    seen = Seen()
    seen.take([sight("r", 1_000, 5, 1, rolling=True), sight("r", 2_000, 8, 2, rolling=True)])
    seen.take([sight("r", 1_000, 5, 1, rolling=True)])
    assert [usage.spent for usage in seen.for_restore()] == [8]
    assert seen.latest("r") == sight("r", 2_000, 8, 2, rolling=True)


def test_the_present_window_of_an_account_is_its_latest() -> None:
    seen = Seen()
    assert seen.latest("b") is None
    seen.take([sight("b", 2_000, 1, 4), sight("b", 1_000, 9, 5)])
    assert seen.latest("b") == sight("b", 2_000, 1, 4)


def test_what_was_not_seen_for_the_longest_time_is_forgotten_first() -> None:
    seen = Seen(most_slots=2)
    seen.take([sight("a", 0, 1, 1), sight("b", 0, 1, 2)])
    seen.take([sight("a", 0, 2, 3), sight("c", 0, 1, 4)])
    assert {usage.account for usage in seen.for_restore()} == {"a", "c"}
    assert seen.latest("b") is None
    assert seen.latest("a") == sight("a", 0, 2, 3)

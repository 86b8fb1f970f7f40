"""Retries are a share of requests, and the wait before the same upstream is bounded and random."""

from __future__ import annotations

from itertools import count, takewhile

from hypothesis import given
from hypothesis import strategies as st

from foresail_sidecar.flow.retries import FLOOR, MOST, RetryBudget, backoff_seconds


def taken(budget: RetryBudget, percent: int) -> int:
    return sum(1 for _ in takewhile(lambda _: budget.take(percent), count()))


def test_some_retries_are_there_from_the_start_and_requests_earn_more() -> None:
    budget = RetryBudget()
    assert taken(budget, 20) == FLOOR
    for _ in range(9):
        budget.request(20)
    assert taken(budget, 20) == 1
    budget.request(20)
    assert taken(budget, 20) == 1


def test_calm_times_save_up_a_bounded_number() -> None:
    budget = RetryBudget()
    for _ in range(100_000):
        budget.request(100)
    assert taken(budget, 100) == MOST


def test_a_policy_that_lets_requests_earn_none_gets_none() -> None:
    assert not RetryBudget().take(0)


@given(attempt=st.integers(1, 100), drawn=st.floats(0, 1, exclude_max=True))
def test_the_wait_is_random_and_at_most_a_second(attempt: int, drawn: float) -> None:
    assert 0 <= backoff_seconds(attempt, lambda: drawn) <= 1
    assert backoff_seconds(1, lambda: drawn) <= 0.1

"""The table of failures is the one that the documentation shows, and names where a request goes next."""

from __future__ import annotations

import pytest
from tests.support.failure_table import failure_rows

from foresail_sidecar.flow.failures import AFTER_FIRST_BYTE, RULES, Failure, Place, Step, next_places, of_status

ROWS = failure_rows()
A1, A2, B1, C1 = Place("a", "1", 100), Place("a", "2", 100), Place("b", "1", 50), Place("c", "1", 200)
PLACES = (A1, A2, B1, C1)


@pytest.mark.parametrize("failure", list(Failure))
def test_the_documentation_shows_the_rule(failure: Failure) -> None:
    row, rule = ROWS[failure.value], RULES[failure]
    shown = {"failure"} if rule.unhealthy else set()
    shown |= {"pause"} if rule.pauses else set()
    assert (row.attempt, row.step, row.health) == (rule.outcome.value, rule.step.value, shown)


def test_the_documentation_shows_no_other_rule() -> None:
    assert set(ROWS) == {failure.value for failure in Failure}


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (302, Failure.UNEXPECTED),
        (204, Failure.UNEXPECTED),
        (400, Failure.REFUSED),
        (401, Failure.CREDENTIAL_REFUSED),
        (403, Failure.CREDENTIAL_REFUSED),
        (404, Failure.REFUSED),
        (408, Failure.REQUEST_TIMED_OUT),
        (413, Failure.REFUSED),
        (429, Failure.RATE_LIMITED),
        (500, Failure.SERVER_ERROR),
        (502, Failure.SERVER_ERROR),
        (503, Failure.UNAVAILABLE),
        (504, Failure.SERVER_ERROR),
        (529, Failure.UNAVAILABLE),
        (599, Failure.SERVER_ERROR),
    ],
)
def test_what_a_status_is(status: int, failure: Failure) -> None:
    assert of_status(status, context_length=False) == failure


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (400, Failure.CONTEXT_LENGTH),
        (413, Failure.CONTEXT_LENGTH),
        (429, Failure.RATE_LIMITED),
        (500, Failure.SERVER_ERROR),
    ],
)
def test_a_complaint_about_length_counts_only_where_the_request_was_refused(status: int, failure: Failure) -> None:
    assert of_status(status, context_length=True) == failure


def test_nothing_follows_a_failure_after_the_first_byte() -> None:
    assert all(RULES[failure].step == Step.RETURN for failure in AFTER_FIRST_BYTE.values())
    assert all(RULES[before].outcome == RULES[after].outcome for before, after in AFTER_FIRST_BYTE.items())


def test_another_upstream_of_the_same_model_comes_before_another_model() -> None:
    assert next_places(Step.NEXT, A1, PLACES, other_models=True) == (A2, B1, C1)
    assert next_places(Step.NEXT, B1, (B1, A2, C1), other_models=True) == (A2, C1)
    assert next_places(Step.NEXT, A1, PLACES, other_models=False) == (A2,)


def test_a_prompt_that_is_too_long_goes_to_larger_windows_only() -> None:
    assert next_places(Step.LARGER_CONTEXT, A1, PLACES, other_models=True) == (C1,)
    assert next_places(Step.LARGER_CONTEXT, A1, PLACES, other_models=False) == ()


def test_what_is_returned_goes_nowhere() -> None:
    assert next_places(Step.RETURN, A1, PLACES, other_models=True) == ()

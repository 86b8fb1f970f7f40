"""What each grader takes for a right answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foresail_router.data.grading import GRADERS, MAX_GRADED_CHARACTERS, compile_grader, grade, numbers


@pytest.mark.parametrize(
    ("grader", "reference", "answer", "score"),
    [
        ("exact", "Paris", "paris.", 1),
        ("exact", "Paris", '  "PARIS"\n', 1),
        ("exact", "New  York", "new york", 1),
        ("exact", "Paris", "It is Paris", 0),
        ("exact", "½", "1⁄2", 1),
        ("contains", "Paris", "The capital is paris, of course.", 1),
        ("contains", "art", "The party started.", 0),
        ("contains", "C++", "I like c++!", 1),
        ("contains", "New York", "It is New\nYork.", 1),
        ("numeric", "42", "17 + 25 = 42.", 1),
        ("numeric", "42", "42 is 17 + 25", 0),
        ("numeric", "1234.5", "That makes $1,234.50.", 1),
        ("numeric", "-7", "The answer is −7", 1),
        ("numeric", "3.5", "about 3.5000001", 1),
        ("numeric", "3.5", "about 3.51", 0),
        ("numeric", "10", "no idea", 0),
        ("regex", "^(?!.*negative).*positive", "It sounds POSITIVE\nto me.", 1),
        ("regex", "^(?!.*negative).*positive", "positive, not negative", 0),
        ("regex", r"\bwent\b", "", 0),
    ],
)
def test_right_and_wrong_answers(grader: str, reference: str, answer: str, score: float) -> None:
    assert grade(grader, reference, answer) == score


@pytest.mark.parametrize(
    ("grader", "reference", "said"),
    [
        ("fuzzy", "x", "use one of exact, numeric, regex, contains"),
        ("numeric", "about twelve", "is not one number"),
        ("numeric", "1 or 2", "is not one number"),
        ("regex", "(unclosed", "is not a regular expression"),
        ("contains", "  ", "every answer contains it"),
    ],
)
def test_an_unusable_reference_is_refused_before_any_answer(grader: str, reference: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        compile_grader(grader, reference)


def test_commas_divide_thousands_but_not_lists() -> None:
    assert numbers("1,234 and 5,6 and 1,2345") == [1234.0, 5.0, 6.0, 1.0, 2345.0]


def test_the_end_of_a_very_long_answer_counts() -> None:
    assert grade("numeric", "42", "7 " * MAX_GRADED_CHARACTERS + "42") == 1
    assert grade("contains", "early", "early " + "x " * MAX_GRADED_CHARACTERS) == 0


@given(st.sampled_from(sorted(GRADERS)), st.text(max_size=200))
def test_no_answer_breaks_a_grader(grader: str, answer: str) -> None:
    assert grade(grader, "12", answer) in (0.0, 1.0)


@given(st.integers(min_value=-(10**9), max_value=10**9), st.sampled_from(["{}", "It is {}.", "{:,}", "= {}\n"]))
def test_a_number_is_found_however_it_is_written(number: int, form: str) -> None:
    assert grade("numeric", str(number), form.format(number)) == 1

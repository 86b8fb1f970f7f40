"""Grades an answer against a reference: exact, numeric, regex or contains; 1 is right and 0 is wrong.

Pure. It must not know models, prompts, files or how an answer came about.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from typing import Final

MAX_GRADED_CHARACTERS: Final = 20_000
_RELATIVE_TOLERANCE: Final = 1e-6
_NUMBER: Final = re.compile(r"(?<![\w.])[-+\u2212]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?")
_OUTER_PUNCTUATION: Final = " \t\r\n.,;:!?\"'`*“”‘’«»"


def grade(grader: str, reference: str, answer: str) -> float:
    """Return the score of `answer`, 0.0 or 1.0.

    Raises `ValueError` when `grader` is unknown or `reference` is not one that it understands; the text names the remedy.
    Of an answer longer than `MAX_GRADED_CHARACTERS` its end is graded.
    """
    return 1.0 if compile_grader(grader, reference)(answer[-MAX_GRADED_CHARACTERS:]) else 0.0


def compile_grader(grader: str, reference: str) -> Callable[[str], bool]:
    """Return the predicate that tells right answers from wrong ones; raise `ValueError` as `grade` does."""
    if grader not in GRADERS:
        raise ValueError(f"{grader[:40]!r} is no grader; use one of {', '.join(GRADERS)}")
    return GRADERS[grader](reference)


def _exact(reference: str) -> Callable[[str], bool]:
    """The whole answer is the reference, but for case, spaces and punctuation around it."""
    expected = _normalise(reference).strip(_OUTER_PUNCTUATION)
    return lambda answer: _normalise(answer).strip(_OUTER_PUNCTUATION) == expected


def _contains(reference: str) -> Callable[[str], bool]:
    """The reference stands somewhere in the answer as whole words, but for case and spaces."""
    expected = _normalise(reference)
    if not expected:
        raise ValueError("is blank; every answer contains it. Give the words that a right answer holds")
    pattern = re.compile(rf"(?<!\w){re.escape(expected)}(?!\w)")
    return lambda answer: pattern.search(_normalise(answer)) is not None


def _numeric(reference: str) -> Callable[[str], bool]:
    """The last number in the answer equals the reference: `1,234.50` is 1234.5, tolerance is a millionth."""
    found = numbers(reference)
    if len(found) != 1:
        raise ValueError(f"{reference[:40]!r} is not one number; write it as in 1234.5")

    def judge(answer: str) -> bool:
        given = numbers(answer)
        return bool(given) and math.isclose(given[-1], found[0], rel_tol=_RELATIVE_TOLERANCE, abs_tol=1e-9)

    return judge


def _regex(reference: str) -> Callable[[str], bool]:
    """The regular expression matches somewhere in the answer, regardless of case; a dot matches line breaks too."""
    try:
        pattern = re.compile(reference, re.IGNORECASE | re.DOTALL)
    except re.error as error:
        raise ValueError(f"{reference[:40]!r} is not a regular expression of Python: {error}") from error
    return lambda answer: pattern.search(answer) is not None


GRADERS: Final[dict[str, Callable[[str], Callable[[str], bool]]]] = {
    "exact": _exact,
    "numeric": _numeric,
    "regex": _regex,
    "contains": _contains,
}


def numbers(text: str) -> list[float]:
    """Return the numbers that stand in a text, in order; commas may divide thousands."""
    return [float(match[0].replace(",", "").replace("\u2212", "-")) for match in _NUMBER.finditer(text)]


def _normalise(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())

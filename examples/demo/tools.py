"""The tools of the demo's models: a calculator that reads plain English, and a retriever over a small fact book.

Both are ordinary programs, not language models; what they return is put before a model, which writes the answer. They must not
know the tasks' references.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

from examples.demo import tables

_NUMBER: Final = r"(\d+(?:\.\d+)?)"
_OPERATORS: Final[dict[str, Callable[[float, float], float]]] = {
    "+": operator.add, "plus": operator.add, "sum": operator.add,
    "-": operator.sub, "minus": operator.sub, "difference": operator.sub,
    "*": operator.mul, "times": operator.mul, "product": operator.mul,
}  # fmt: skip
_UNITS: Final = {
    "kilometre": 1000.0, "metre": 1.0, "centimetre": 0.01,
    "week": 604800.0, "day": 86400.0, "hour": 3600.0, "minute": 60.0, "second": 1.0,
    "kilogram": 1000.0, "gram": 1.0, "litre": 1000.0, "millilitre": 1.0,
    "yard": 36.0, "foot": 12.0, "feet": 12.0, "inch": 1.0, "inche": 1.0,
    "year": 12.0, "month": 1.0, "dozen": 12.0, "piece": 1.0,
}  # fmt: skip


def calculate(text: str) -> str | None:
    """The result of the first sum, conversion, letter count, reversal or sorting that `text` asks for; None if it asks for none."""
    for tool in (_operation, _convert, _spell, _sort):
        result = tool(text)
        if result is not None:
            return result
    return None


def _operation(text: str) -> str | None:
    infix = re.search(rf"{_NUMBER}\s*([-+*]|plus|minus|times)\s*{_NUMBER}", text)
    if infix:
        left, symbol, right = infix.groups()
    else:
        named = re.search(rf"(sum|difference|product) of {_NUMBER} and {_NUMBER}", text)
        if not named:
            return None
        symbol, left, right = named.groups()
    return _format(_OPERATORS[symbol](_number(left), _number(right)))


def _number(text: str) -> float:
    """Return a number, whole ones exactly however long they are."""
    return float(text) if "." in text else int(text)


def _convert(text: str) -> str | None:
    count = re.search(rf"{_NUMBER} ([a-z]+)", text)
    if not count or _unit(count[2]) is None:
        return None
    source = _unit(count[2])
    rest = text[: count.start()] + text[count.end() :]
    targets = [unit for unit in map(_unit, re.findall(r"[a-z]+", rest)) if unit is not None]
    if source is None or len(targets) != 1:
        return None
    return _format(float(count[1]) * source / targets[0])


def _unit(word: str) -> float | None:
    return _UNITS.get(word.removesuffix("s"))


def _spell(text: str) -> str | None:
    quoted = re.search(r"'([a-z]{2,})'", text)
    if not quoted:
        return None
    word = quoted[1]
    letter = re.search(r"'([a-z])'", text)
    if letter and re.search(r"\b(often|count|how many)\b", text, re.IGNORECASE):
        return str(word.count(letter[1]))
    if re.search(r"\bletters\b", text):
        return str(len(word))
    if re.search(r"\b(backwards|reverse)\b", text, re.IGNORECASE):
        return word[::-1]
    place = re.search(r"\b(first|last)\b", text)
    return word[0 if place[1] == "first" else -1] if place and "letter" in text else None


def _sort(text: str) -> str | None:
    listed = re.search(r"\w+(?:, \w+){2,}", text)
    if not listed or not re.search(r"\b(sort|order|put)\b", text, re.IGNORECASE):
        return None
    items = listed[0].split(", ")
    numbers = all(item.isdigit() for item in items)
    return ", ".join(sorted(items, key=int) if numbers else sorted(items))


def _format(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    rounded = round(value, 6)
    return str(int(rounded)) if rounded.is_integer() else str(rounded)


@dataclass(frozen=True, slots=True)
class Fact:
    """One sentence of the fact book and what it is about."""

    subject: str
    sentence: str


@cache
def facts() -> tuple[Fact, ...]:
    """The fact book: the tables of capitals, currencies, books and elements as sentences."""
    return (
        *(Fact(country, f"The capital city of {country} is {capital}.") for country, capital in tables.CAPITALS),
        *(
            Fact(country, f"The currency, the money people use in {country}, is the {currency}.")
            for country, currency in tables.CURRENCIES
        ),
        *(Fact(title, f"The author and writer who wrote {title} is {author}.") for title, author in tables.AUTHORS),
        *(Fact(name, f"The chemical symbol for {name} is {symbol}.") for name, symbol in tables.ELEMENT_SYMBOLS),
        *(
            Fact(name, f"The atomic number of {name}, how many protons it has, is {number}.")
            for number, (name, _) in enumerate(tables.ELEMENT_SYMBOLS, start=1)
        ),
    )


def retrieve(text: str, limit: int) -> list[str]:
    """The at most `limit` facts whose subject `text` names, those that share the most words with it first."""
    asked = _words(text)
    found = []
    for position, fact in enumerate(facts()):
        if f" {' '.join(_words(fact.subject))} " in f" {' '.join(asked)} ":
            shared = len(set(asked).intersection(_words(fact.sentence)))
            found.append((-shared, position, fact.sentence))
    return [sentence for _, _, sentence in sorted(found)[:limit]]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", re.sub(r"'s\b", "", text.casefold()))

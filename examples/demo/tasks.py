"""The demo's tasks: prompts with gradable answers, made from our tables by a seeded generator.

Each table is divided into two sides by a hash of its entries, so that held-out prompts ask about things that no training
prompt mentions. It must not know any model, nor how answers are graded.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

from examples.demo import tables

from foresail_router.data.records import Prompt, write_prompts

Side = Literal["train", "test"]
T = TypeVar("T")

HELD_OUT_PERCENT: Final = 30


@dataclass(frozen=True, slots=True)
class Task:
    """One prompt and how to grade an answer to it: `grader` is exact, numeric, regex or contains."""

    kind: str
    prompt: str
    grader: str
    reference: str


def of_side(entries: Sequence[T], side: Side) -> list[T]:
    """Return the entries of one side, in their order: of the order of their hashes the first part is held out."""
    by_hash = sorted(entries, key=lambda entry: hashlib.sha256(repr(entry).encode()).digest())
    held_out = by_hash[: math.ceil(len(entries) * HELD_OUT_PERCENT / 100)]
    return [entry for entry in entries if (entry in held_out) == (side == "test")]


def _whole_word(text: str) -> str:
    return rf"(?<!\w){re.escape(text)}(?!\w)"


def _arithmetic(rng: random.Random, side: Side) -> Task:
    operator, word = rng.choice([("+", "plus"), ("-", "minus"), ("*", "times"), ("+", "plus"), ("-", "minus")])
    top = 99 if operator == "*" else rng.choice([99, 999])
    a, b = sorted((rng.randint(11, top), rng.randint(11, top)), reverse=True)
    value = {"+": a + b, "-": a - b, "*": a * b}[operator]
    noun = {"+": "sum", "-": "difference", "*": "product"}[operator]
    phrasing = rng.choice(
        [
            f"What is {a} {operator} {b}?",
            f"Compute {a} {operator} {b}.",
            f"How much is {a} {word} {b}?",
            f"Please work out {a} {word} {b} for me.",
            f"What is the {noun} of {a} and {b}?",
            f"{a} {operator} {b} = ?",
        ]
    )
    return Task("arithmetic", phrasing, "numeric", str(value))


_UNITS: Final = (
    ("kilometres", "metres", 1000), ("metres", "centimetres", 100), ("hours", "minutes", 60), ("minutes", "seconds", 60),
    ("kilograms", "grams", 1000), ("days", "hours", 24), ("weeks", "days", 7), ("litres", "millilitres", 1000),
    ("feet", "inches", 12), ("yards", "feet", 3), ("dozens", "pieces", 12), ("years", "months", 12),
)  # fmt: skip


def _conversion(rng: random.Random, side: Side) -> Task:
    source, target, factor = rng.choice(_UNITS)
    count = rng.randint(3, 95)
    phrasing = rng.choice(
        [
            f"How many {target} are {count} {source}?",
            f"Convert {count} {source} to {target}.",
            f"{count} {source} is how many {target}?",
            f"Express {count} {source} in {target}.",
            f"I have {count} {source}. How many {target} is that?",
        ]
    )
    return Task("conversion", phrasing, "numeric", str(count * factor))


def _letters(rng: random.Random, side: Side) -> Task:
    word = rng.choice(of_side(tables.WORDS, side))
    form = rng.choice(["count", "reverse", "occurrences", "first", "last"])
    if form == "count":
        phrasing = rng.choice([f"How many letters are in the word '{word}'?", f"Count the letters of '{word}'."])
        return Task("letters", phrasing, "numeric", str(len(word)))
    if form == "occurrences":
        letter = rng.choice(word)
        phrasing = rng.choice(
            [f"How often does the letter '{letter}' occur in '{word}'?", f"Count the '{letter}'s in '{word}'."]
        )
        return Task("letters", phrasing, "numeric", str(word.count(letter)))
    if form == "reverse":
        phrasing = rng.choice(
            [f"Spell '{word}' backwards.", f"Reverse the word '{word}'.", f"What is '{word}' written backwards?"]
        )
        return Task("letters", phrasing, "contains", word[::-1])
    letter = word[0] if form == "first" else word[-1]
    phrasing = rng.choice(
        [f"What is the {form} letter of '{word}'?", f"Which letter comes {form} in the word '{word}'?"]
    )
    return Task("letters", phrasing, "regex", rf"(?<![\w']){letter}(?![\w'])|'{letter}'")


def _sorting(rng: random.Random, side: Side) -> Task:
    if rng.random() < 0.5:
        items = [str(number) for number in rng.sample(range(2, 99), rng.choice([4, 5]))]
        ordered = sorted(items, key=int)
        order = rng.choice(["from smallest to largest", "in ascending order"])
        what = "numbers"
    else:
        items = rng.sample(of_side(tables.WORDS, side), 4)
        ordered = sorted(items)
        order = "alphabetically"
        what = "words"
    phrasing = rng.choice(
        [
            f"Sort these {what} {order}: {', '.join(items)}.",
            f"Put the {what} {', '.join(items)} in order, {order}.",
            f"Order {order}: {', '.join(items)}.",
        ]
    )
    return Task("sorting", phrasing, "regex", r"\W+(?:and\W+)?".join(_whole_word(item) for item in ordered))


def _capital(rng: random.Random, side: Side) -> Task:
    country, capital = rng.choice(of_side(tables.CAPITALS, side))
    phrasing = rng.choice(
        [
            f"What is the capital of {country}?",
            f"Name the capital city of {country}.",
            f"Which city is the capital of {country}?",
            f"{country}'s capital is which city?",
            f"Tell me the capital of {country}, please.",
        ]
    )
    return Task("capitals", phrasing, "contains", capital)


def _element(rng: random.Random, side: Side) -> Task:
    element, symbol = rng.choice(of_side(tables.ELEMENT_SYMBOLS, side))
    number = [name for name, _ in tables.ELEMENT_SYMBOLS].index(element) + 1
    if rng.random() < 0.5:
        phrasing = rng.choice(
            [f"What is the chemical symbol for {element}?", f"Which symbol does {element} have in the periodic table?"]
        )
        return Task("elements", phrasing, "regex", rf"(?-i:(?<![\w']){symbol}(?!\w))")
    phrasing = rng.choice(
        [f"What is the atomic number of {element}?", f"How many protons does an atom of {element} have?"]
    )
    return Task("elements", phrasing, "numeric", str(number))


def _author(rng: random.Random, side: Side) -> Task:
    title, author = rng.choice(of_side(tables.AUTHORS, side))
    phrasing = rng.choice(
        [
            f"Who wrote {title}?",
            f"Who is the author of {title}?",
            f"Name the writer of '{title}'.",
            f"{title} was written by whom?",
        ]
    )
    return Task("authors", phrasing, "contains", author.split()[-1])


def _currency(rng: random.Random, side: Side) -> Task:
    country, currency = rng.choice(of_side(tables.CURRENCIES, side))
    phrasing = rng.choice(
        [
            f"What is the currency of {country}?",
            f"Which currency do people in {country} use?",
            f"With what money do you pay in {country}?",
        ]
    )
    return Task("currencies", phrasing, "regex", _whole_word(currency)[: -len(r"(?!\w)")] + r"s?(?!\w)")


def _sentiment(rng: random.Random, side: Side) -> Task:
    good = rng.random() < 0.5
    review = rng.choice(of_side(tables.PRAISE if good else tables.COMPLAINTS, side))
    phrasing = rng.choice(
        [
            f"Is this review positive or negative? '{review}'",
            f"Classify the sentiment as positive or negative: {review}",
            f"'{review}' Does this sound positive or negative?",
            f"Positive or negative: {review}",
        ]
    )
    right, wrong = ("positive", "negative") if good else ("negative", "positive")
    return Task("sentiment", phrasing, "regex", rf"^(?!.*{wrong}).*{right}")


def _topic(rng: random.Random, side: Side) -> Task:
    topic = rng.choice(sorted(tables.TOPICS))
    sentence = rng.choice(of_side(tables.TOPICS[topic], side))
    names = sorted(tables.TOPICS)
    others = "|".join(name for name in names if name != topic)
    phrasing = rng.choice(
        [
            f"Is this about {', '.join(names[:-1])} or {names[-1]}? '{sentence}'",
            f"Choose the topic ({', '.join(names)}): {sentence}",
            f"Which topic fits, {', '.join(names[:-1])} or {names[-1]}? {sentence}",
        ]
    )
    return Task("topics", phrasing, "regex", rf"^(?!.*(?:{others})).*{topic}")


def _antonym(rng: random.Random, side: Side) -> Task:
    word, opposite = rng.choice(of_side(tables.ANTONYMS, side))
    phrasing = rng.choice(
        [
            f"What is the opposite of '{word}'?",
            f"Give an antonym of {word}.",
            f"Which word means the opposite of {word}?",
            f"The opposite of {word} is what?",
        ]
    )
    return Task("antonyms", phrasing, "contains", opposite)


_ACCENTS: Final = {
    "dia": "d[ií]a",
    "arbol": "[aá]rbol",
    "corazon": "coraz[oó]n",
    "ecole": "[eé]cole",
    "ete": "[eé]t[eé]",
    "eglise": "[eé]glise",
}


def _translation(rng: random.Random, side: Side) -> Task:
    language, table = rng.choice([("Spanish", tables.SPANISH), ("French", tables.FRENCH)])
    word, translated = rng.choice(of_side(table, side))
    phrasing = rng.choice(
        [
            f"Translate '{word}' into {language}.",
            f"What is the {language} word for '{word}'?",
            f"How do you say '{word}' in {language}?",
            f"'{word}' in {language}?",
        ]
    )
    return Task("translation", phrasing, "regex", rf"(?<!\w){_ACCENTS.get(translated, translated)}(?!\w)")


def _past_tense(rng: random.Random, side: Side) -> Task:
    verb, past = rng.choice(of_side(tables.PAST_TENSES, side))
    phrasing = rng.choice(
        [
            f"What is the past tense of '{verb}'?",
            f"Put the verb '{verb}' into the past tense.",
            f"Give the simple past of {verb}.",
            f"Today I {verb}. Yesterday I ...?",
        ]
    )
    return Task("past tense", phrasing, "contains", past)


def _odd_one_out(rng: random.Random, side: Side) -> Task:
    usual, other = rng.sample(sorted(tables.CATEGORIES), 2)
    odd = rng.choice(of_side(tables.CATEGORIES[other], side))
    items = [*rng.sample(tables.CATEGORIES[usual], 3), odd]
    rng.shuffle(items)
    others = "|".join(item for item in items if item != odd)
    phrasing = rng.choice(
        [
            f"Which word does not belong: {', '.join(items)}?",
            f"Find the odd one out: {', '.join(items)}.",
            f"One of these is different from the rest. Which? {', '.join(items)}",
        ]
    )
    return Task("odd one out", phrasing, "regex", rf"^(?!.*\b(?:{others})\b).*\b{odd}\b")


def _extraction(rng: random.Random, side: Side) -> Task:
    name, other = rng.sample(of_side(tables.NAMES, side), 2)
    day, place, thing = rng.choice(tables.DAYS), rng.choice(tables.PLACES), rng.choice(tables.OBJECTS)
    number = rng.randint(12, 98)
    article = "an" if thing[0] in "aeiou" else "a"
    text = rng.choice(
        [
            f"On {day}, {name} met {other} at the {place} and bought {article} {thing} for {number} euros.",
            f"{name} paid {number} euros for {article} {thing} when visiting the {place} with {other} on {day}.",
        ]
    )
    question, grader, reference = rng.choice(
        [
            ("On which day did this happen?", "contains", day),
            ("How many euros were paid?", "numeric", str(number)),
            ("What was bought?", "contains", thing),
            ("Where did they go?", "contains", place),
        ]
    )
    phrasing = rng.choice([f"{text} {question}", f"Read this: {text} {question}", f"{question} {text}"])
    return Task("extraction", phrasing, grader, reference)


def _sequence(rng: random.Random, side: Side) -> Task:
    start, step = rng.randint(1, 30), rng.choice([2, 3, 4, 5, 10, 1])
    if rng.random() < 0.3:
        start, step = start + 60, -step
    terms = [start + step * index for index in range(5)]
    listed = ", ".join(map(str, terms[:4]))
    phrasing = rng.choice(
        [
            f"What comes next: {listed}, ...?",
            f"Continue the sequence with one number: {listed}",
            f"{listed}, ? Which number follows?",
        ]
    )
    return Task("sequences", phrasing, "regex", rf"^(?:.*{listed}\W+|[^\d]*){terms[4]}(?!\d)")


GENERATORS: Final[dict[str, Callable[[random.Random, Side], Task]]] = {
    "arithmetic": _arithmetic,
    "conversion": _conversion,
    "letters": _letters,
    "sorting": _sorting,
    "capitals": _capital,
    "elements": _element,
    "authors": _author,
    "currencies": _currency,
    "sentiment": _sentiment,
    "topics": _topic,
    "antonyms": _antonym,
    "translation": _translation,
    "past tense": _past_tense,
    "odd one out": _odd_one_out,
    "extraction": _extraction,
    "sequences": _sequence,
}


def generate(seed: int, side: Side, count: int, without: frozenset[str] = frozenset()) -> Iterator[Task]:
    """Yield `count` different tasks of a side, the kinds in turn; none whose prompt is in `without`."""
    rng = random.Random(f"{seed}/{side}")
    seen = set(without)
    kinds = list(GENERATORS)
    rng.shuffle(kinds)
    made = 0
    while made < count:
        kind = kinds[made % len(kinds)]
        task = GENERATORS[kind](rng, side)
        if task.prompt not in seen:
            seen.add(task.prompt)
            made += 1
            yield task


def prompts(seed: int, side: Side, count: int, without: frozenset[str] = frozenset()) -> Iterator[Prompt]:
    """Yield the tasks of `generate` as prompts of the data format, with ids of their side, seed and number."""
    for number, task in enumerate(generate(seed, side, count, without), start=1):
        yield Prompt(
            id=f"{side}-{seed}-{number:04d}",
            prompt=task.prompt,
            task=task.kind,
            split=side,
            grader=task.grader,
            reference=task.reference,
        )


def main() -> None:
    """Write the demo's prompts: `python -m examples.demo.tasks examples/demo/data/prompts.jsonl`."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo.tasks", description="Writes the demo's prompts.")
    parser.add_argument("out", type=Path, help=".jsonl or .parquet file to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--train", type=int, default=448, help="prompts to learn from (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=192, help="prompts held out (default: %(default)s)")
    options = parser.parse_args()
    train = list(prompts(options.seed, "train", options.train))
    held_out = prompts(options.seed, "test", options.held_out, frozenset(prompt.prompt for prompt in train))
    write_prompts(options.out, [*train, *held_out])


if __name__ == "__main__":
    main()

"""Worked examples that are put before a question for a base model, which only continues text.

They are ours, and none of them is an entry of the tasks' tables. It must not know the tasks' references.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cache
from typing import Final

EXAMPLES: Final = (
    ("What is the opposite of 'noisy'?", "silent"),
    ("Give an antonym of thirsty.", "hydrated"),
    ("Which word means the opposite of careful?", "careless"),
    ("The opposite of visible is what?", "invisible"),
    ("What is the opposite of 'north'?", "south"),
    ("Give an antonym of expand.", "shrink"),
    ("Which word means the opposite of generous?", "stingy"),
    ("The opposite of lazy is what?", "hardworking"),
    ("Translate 'rain' into Spanish.", "lluvia"),
    ("What is the Spanish word for 'horse'?", "caballo"),
    ("How do you say 'fire' in Spanish?", "fuego"),
    ("'chair' in Spanish?", "silla"),
    ("What is the Spanish word for 'eight'?", "ocho"),
    ("How do you say 'blue' in Spanish?", "azul"),
    ("Translate 'rain' into French.", "pluie"),
    ("What is the French word for 'chair'?", "chaise"),
    ("How do you say 'fire' in French?", "feu"),
    ("'blue' in French?", "bleu"),
    ("What is the French word for 'eight'?", "huit"),
    ("How do you say 'spring' in French?", "printemps"),
    ("What is the past tense of 'sink'?", "sank"),
    ("Put the verb 'hide' into the past tense.", "hid"),
    ("Give the simple past of freeze.", "froze"),
    ("Today I come. Yesterday I ...?", "came"),
    ("What is the past tense of 'seek'?", "sought"),
    ("Put the verb 'weep' into the past tense.", "wept"),
    ("Give the simple past of make.", "made"),
    ("Today I ring. Yesterday I ...?", "rang"),
    ("Is this review positive or negative? 'I slept badly and the bed was hard.'", "negative"),
    ("Positive or negative: A joy to use, thank you!", "positive"),
    ("Classify the sentiment as positive or negative: The colours are gorgeous.", "positive"),
    ("'I want my money back.' Does this sound positive or negative?", "negative"),
    ("Is this about business, food, sports or weather? 'The boxer won in round two.'", "sports"),
    ("Choose the topic (business, food, sports, weather): The frost will last until March.", "weather"),
    ("Which topic fits, business, food, sports or weather? Stir the sauce slowly.", "food"),
    ("Choose the topic (business, food, sports, weather): The firm hired ninety engineers.", "business"),
    ("Which word does not belong: lion, bear, chair, fox?", "chair"),
    ("Find the odd one out: rose, truck, tulip, daisy.", "truck"),
    ("One of these is different from the rest. Which? ship, boat, ferry, onion", "onion"),
    ("Find the odd one out: cup, plate, bowl, dolphin.", "dolphin"),
    ("What comes next: 101, 102, 103, 104, ...?", "105"),
    ("Continue the sequence with one number: 110, 120, 130, 140", "150"),
    ("200, 198, 196, 194, ? Which number follows?", "192"),
    ("What comes next: 105, 110, 115, 120, ...?", "125"),
    ("Continue the sequence with one number: 303, 300, 297, 294", "291"),
    ("104, 108, 112, 116, ? Which number follows?", "120"),
    ("On Sunday, Paul met Rita at the zoo and bought a kite for 11 euros. What was bought?", "a kite"),
    ("Where did they go? Paul paid 99 euros for a hat when visiting the park with Rita on Sunday.", "the park"),
    (
        "Read this: Rita paid 11 euros for a hat when visiting the zoo with Paul on Sunday. On which day did this happen?",
        "Sunday",
    ),
    ("How many euros were paid? On Sunday, Rita met Paul at the park and bought a kite for 99 euros.", "99"),
    ("What is the capital of France?", "Paris"),
    ("Which city is the capital of Egypt?", "Cairo"),
    ("Who wrote Hamlet?", "William Shakespeare"),
    ("Name the writer of 'Oliver Twist'.", "Charles Dickens"),
    ("What is the currency of Egypt?", "pound"),
    ("What is the chemical symbol for gold?", "Au"),
    ("What is the atomic number of gold?", "79"),
    ("What is 2 + 3?", "5"),
    ("How much is 9 minus 4?", "5"),
    ("How many metres are 2 kilometres?", "2000"),
    ("How many letters are in the word 'sky'?", "3"),
    ("What is the first letter of 'sky'?", "s"),
    ("Spell 'sky' backwards.", "yks"),
    ("Sort these numbers from smallest to largest: 103, 101, 102.", "101, 102, 103"),
    ("Sort these words alphabetically: sky, air, moon.", "air, moon, sky"),
)


def select(question: str, limit: int) -> list[tuple[str, str]]:
    """The `limit` examples that share the rarest words with `question`, the most alike last, next to the question."""
    weights = _word_weights()
    asked = set(_words(question))
    ranked = sorted(
        range(len(EXAMPLES)),
        key=lambda index: -sum(weights[word] for word in asked.intersection(_words(EXAMPLES[index][0]))),
    )
    return [EXAMPLES[index] for index in reversed(ranked[:limit])]


@cache
def _word_weights() -> dict[str, float]:
    counts = Counter(word for question, _ in EXAMPLES for word in set(_words(question)))
    return {word: math.log(len(EXAMPLES) / count) for word, count in counts.items()}


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())

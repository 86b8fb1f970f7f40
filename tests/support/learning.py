"""A small data set of our own making, whose right routing is known, for tests of learning and scoring.

Three kinds of prompts; `specialist` is good at sums and terse, `generalist` good at the rest and wordy, `guesser` poor and cheap.
"""

from __future__ import annotations

import random
from pathlib import Path

from foresail_router.artifact.build import Recipe, train
from foresail_router.artifact.store import write_artifact
from foresail_router.data.matrix import OutcomeMatrix, build_matrix
from foresail_router.data.records import Outcome, Prompt, write_outcomes, write_prompts
from foresail_router.features.encoder import packaged_encoder
from foresail_router.features.weights import load_package

MODELS = ("generalist", "guesser", "specialist")
PRICES = {"generalist": (2.5, 10.0), "guesser": (0.05, 0.1), "specialist": (0.5, 1.5)}
_CITIES = ("Oslo", "Lima", "Cairo", "Hanoi", "Quito", "Accra", "Minsk", "Sofia", "Tunis", "Dakar", "Seoul", "Rabat")
_SKILL = {
    "sum": {"generalist": 0.4, "guesser": 0.1, "specialist": 0.95},
    "travel": {"generalist": 0.95, "guesser": 0.3, "specialist": 0.2},
    "reverse": {"generalist": 0.7, "guesser": 0.05, "specialist": 0.4},
}
_LENGTH = {"generalist": 120, "guesser": 15, "specialist": 30}


def make_prompts(count: int = 120, seed: int = 1) -> list[Prompt]:
    """Return prompts of three kinds in turn, all different."""
    draw = random.Random(seed)
    prompts = []
    for number in range(count):
        kind = ("sum", "travel", "reverse")[number % 3]
        if kind == "sum":
            text = f"Work out {draw.randint(100, 9999)} + {draw.randint(100, 9999)} and give only the number, please ({number})."
        elif kind == "travel":
            text = (
                f"I spend day {number} in {draw.choice(_CITIES)}. Which sight should I visit with my family, and why?"
            )
        else:
            word = "".join(draw.choice("abcdefghijklmnop") for _ in range(9))
            text = f"Write the letters of the word {word} backwards, one after the other (case {number})."
        prompts.append(Prompt(f"p{number:04d}", text, task=kind))
    return prompts


def make_outcomes(prompts: list[Prompt], seed: int = 2) -> list[Outcome]:
    """Return one outcome per prompt and model, with costs that follow from tokens and prices."""
    draw = random.Random(seed)
    outcomes = []
    for prompt in prompts:
        for model in MODELS:
            score = float(draw.random() < _SKILL[str(prompt.task)][model])
            read, written = len(prompt.prompt) // 4 + 8, max(1, round(draw.lognormvariate(0, 0.3) * _LENGTH[model]))
            price = PRICES[model]
            cost = (read * price[0] + written * price[1]) / 1e6
            outcomes.append(Outcome(prompt.id, model, score, read, written, cost, "an answer"))
    return outcomes


def make_matrix(count: int = 120, seed: int = 1) -> OutcomeMatrix:
    """Return the data set in memory."""
    prompts = make_prompts(count, seed)
    return build_matrix(prompts, make_outcomes(prompts), name="test data")


def write_data(directory: Path, count: int = 120, seed: int = 1, suffix: str = "jsonl") -> Path:
    """Write the data set as a data directory and return it."""
    directory.mkdir(parents=True, exist_ok=True)
    prompts = make_prompts(count, seed)
    write_prompts(directory / f"prompts.{suffix}", prompts)
    write_outcomes(directory / f"outcomes.{suffix}", make_outcomes(prompts))
    return directory


def write_trained(directory: Path, count: int = 120, *, self_contained: bool = False) -> str:
    """Train on the data set with the real encoder, write the artifact and return its digest."""
    source = load_package()
    recipe = Recipe("knn", "int8", self_contained=self_contained)
    encoder = packaged_encoder("int8", threads=1, source=source)
    trained = train(make_matrix(count), recipe, encoder=encoder, source=source, say=lambda _: None)
    return write_artifact(directory, trained.manifest, trained.files)

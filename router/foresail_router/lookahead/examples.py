"""Prompts, answers and labels as a network is given them: token numbers, cut to length, and targets.

Owns how data become examples and which prompts are learned from, chosen by, calibrated on and tested. It must not know networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foresail_router.data.answers import Answers
from foresail_router.data.matrix import OutcomeMatrix
from foresail_router.data.splits import fold_of, normalised
from foresail_router.lookahead.labels import labels_per_dataset, labels_per_prompt, routed
from foresail_router.lookahead.recipe import Recipe

# All seeds of a training see the same prompts: seeds tell of the training, not of the sample.
_SAMPLE_SEED = 20251019
_CHARACTERS_PER_TOKEN = 16


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt: its tokens, the first tokens of each model's answer (None where there is none), and a label in {0, 1, NaN} each.

    `routed` is whether the models differ on it, so that the labels count.
    """

    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...] | None, ...]
    labels: tuple[float, ...]
    routed: bool


@dataclass(frozen=True, slots=True)
class Sides:
    """Row numbers of the matrix: learned from, checkpoints chosen by, calibrated on, tested. Equal texts lie on one side."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    calibration: NDArray[np.int64]
    test: NDArray[np.int64]


def choose_sides(texts: Sequence[str], recipe: Recipe, *, test_fold: int | None) -> Sides:
    """Share out prompts: the test fold, if any, and of the rest validation, calibration and training in a seeded order."""
    test = np.array([test_fold is not None and fold_of(text) == test_fold for text in texts], dtype=np.bool_)
    groups: dict[str, list[int]] = {}
    for row in np.flatnonzero(~test):
        groups.setdefault(normalised(texts[int(row)]), []).append(int(row))
    keys = sorted(groups)
    order = [groups[keys[number]] for number in np.random.default_rng(_SAMPLE_SEED).permutation(len(keys))]
    validation = _take(order, recipe.validation_prompts)
    calibration = _take(order, recipe.calibration_prompts)
    available = sum(map(len, order))
    training = _take(order, round(recipe.data_share * min(recipe.training_prompts or available, available)))
    if not len(training) or not len(validation) or not len(calibration):
        raise ValueError(
            f"{len(texts)} prompts do not suffice for {recipe.validation_prompts} to validate and "
            f"{recipe.calibration_prompts} to calibrate on; lower validation_prompts and calibration_prompts"
        )
    return Sides(training, validation, calibration, np.flatnonzero(test))


def _take(order: list[list[int]], count: int) -> NDArray[np.int64]:
    """Move whole groups of equal texts out of `order` until there are `count` rows."""
    taken: list[int] = []
    while order and len(taken) < count:
        taken.extend(order.pop(0))
    return np.array(taken, dtype=np.int64)


def make_examples(
    tokenizer: Any, outcomes: OutcomeMatrix, recipe: Recipe, answers: Answers | None = None
) -> list[Example]:
    """Return one example per row; without `answers` they have none, as when a prompt is routed."""
    prompts = prompt_tokens(tokenizer, outcomes.texts, recipe)
    opened = _answer_tokens(tokenizer, answers, recipe) if answers is not None else {}
    if recipe.labels == "dataset":
        tasks = [prompt.task for prompt in outcomes.prompts]
        labels = labels_per_dataset(outcomes.score, tasks, recipe.label_threshold)
    else:
        labels = labels_per_prompt(outcomes.score, recipe.label_threshold)
    differs = routed(outcomes.score)
    index = answers.index if answers is not None else np.full(labels.shape, -1)
    return [
        Example(
            prompt,
            tuple(opened.get(int(number)) for number in index[row]),
            tuple(map(float, labels[row])),
            bool(differs[row]),
        )
        for row, prompt in enumerate(prompts)
    ]


def prompt_tokens(tokenizer: Any, texts: Sequence[str], recipe: Recipe) -> list[tuple[int, ...]]:
    """Return each text's last `prompt_tokens` tokens: what is asked for mostly stands at the end.

    A decoder that expects a first token is given it in front; an encoder's own tokens are set around the prompt by its model.
    """
    # No token is worth more than so many characters in running text, and a text of megabytes need not be tokenised to be cut.
    kept = [text[-_CHARACTERS_PER_TOKEN * recipe.prompt_tokens :] for text in texts]
    found = tokenizer(kept, add_special_tokens=False)["input_ids"] if kept else []
    first = _first_tokens(tokenizer) if recipe.variant == "causal" else ()
    return [(*first, *(tokens[-recipe.prompt_tokens :] or [_filler(tokenizer)])) for tokens in found]


def _answer_tokens(tokenizer: Any, answers: Answers, recipe: Recipe) -> dict[int, tuple[int, ...]]:
    """Return the first tokens of each text of `answers` by its number, closed by the end token where the answer is shorter."""
    if not answers.texts:
        return {}
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    texts = [text[: _CHARACTERS_PER_TOKEN * recipe.answer_tokens] for text in answers.texts]
    found = tokenizer(texts, add_special_tokens=False)["input_ids"]
    closing = [] if end is None else [end]
    return {number: tuple([*tokens, *closing][: recipe.answer_tokens]) for number, tokens in enumerate(found)}


def _first_tokens(tokenizer: Any) -> tuple[int, ...]:
    begun = tokenizer("a")["input_ids"]
    return (tokenizer.bos_token_id,) if begun and begun[0] == tokenizer.bos_token_id else ()


def _filler(tokenizer: Any) -> int:
    """Return a token to stand for a text that has none, so that every prompt has a position to attend to."""
    for token in (tokenizer.unk_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0

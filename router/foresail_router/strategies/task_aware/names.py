"""Readable names of tasks: the words that are frequent in a task's prompts and rare in the others'. For training alone.

Prompts are the user's own; a name holds a few single words of them. It must not know models or outcomes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\b[a-z][a-z-]{1,22}[a-z]\b")
_WORDS = 3
_MOST_PROMPTS = 400
# A word is a task's own only if so many of its prompts have it.
_LEAST_PROMPTS = 3
_LEAST_SHARE = 0.05
# A word that is as frequent as this in all tasks is none of them's own.
_NOT_OWN_FROM = 0.9
_COMMON = frozenset(
    re.findall(
        r"\w+",
        """
        the and for are but not you all any can her was one our out has had how its may new now who did get use with that this from they
        will have been were what when your said each which their them then than these those some would there into more other could also
        such only about where after between over under does following given find answer question true false none above below please
        because first most many much number numbers his him himself itself self two three several according following make made
        """,
    )
)


def task_names(texts: Sequence[str], task: NDArray[np.int64], tasks: int) -> tuple[str, ...]:
    """Return a name of up to three words for each task, all different; `task` is each prompt's task, below 0 for none.

    Words are ranked by how much more often they occur in prompts of the task than in prompts in general, weighted by how often.
    """
    counts = [Counter[str]() for _ in range(tasks)]
    sizes = np.zeros(tasks)
    everywhere: Counter[str] = Counter()
    for number in range(tasks):
        members = np.flatnonzero(task == number)[:_MOST_PROMPTS]
        sizes[number] = len(members)
        for index in members:
            words = set(_WORD.findall(texts[index].lower())) - _COMMON
            counts[number].update(words)
        # Each task weighs the same in what is usual, so that a large one does not make its own words common.
        everywhere.update({word: count / max(len(members), 1) for word, count in counts[number].items()})
    names: list[str] = []
    for number in range(tasks):
        names.append(_different(_name(counts[number], sizes[number], everywhere, tasks), names))
    return tuple(names)


def _name(counts: Counter[str], size: float, everywhere: Counter[str], tasks: int) -> str:
    least = max(_LEAST_PROMPTS, _LEAST_SHARE * size)
    scores: dict[str, float] = {}
    for word, count in counts.items():
        share = count / max(size, 1.0)
        if count >= min(least, size) and everywhere[word] < _NOT_OWN_FROM * tasks:
            scores[word] = share * float(np.log(tasks / everywhere[word]))
    best = sorted(scores, key=lambda word: (-scores[word], word))
    chosen: list[str] = []
    for word in best:
        # Of a word and its plural one is enough.
        if len(chosen) < _WORDS and not any(word.startswith(other[:5]) and len(other) >= 5 for other in chosen):
            chosen.append(word)
    return " ".join(chosen) or "unnamed"


def _different(name: str, taken: list[str]) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name} {number}" in taken:
        number += 1
    return f"{name} {number}"

"""Leak-free splits by text: prompts with the same normalised text always lie on the same side, in every data set.

Pure functions of the prompt. They must not know where prompts come from.
"""

from __future__ import annotations

import hashlib
import re

_NOT_WORD = re.compile(r"\W+")
_SPLIT_CHARACTERS = 400


def normalised(prompt: str) -> str:
    """Return the text that decides a prompt's side: lower case, every run of other than word characters one blank."""
    return _NOT_WORD.sub(" ", prompt.lower())


def split_of(prompt: str) -> str:
    """Return `train` (70 %), `val` (10 %) or `test` (20 %) by the MD5 of the first 400 normalised characters.

    Prompts that share a long preamble lie on one side together, so a task with a fixed preamble is wholly seen or wholly unseen.
    """
    digest = hashlib.md5(normalised(prompt)[:_SPLIT_CHARACTERS].encode(), usedforsecurity=False).hexdigest()
    bucket = int(digest, 16) % 100
    if bucket < 70:
        return "train"
    return "val" if bucket < 80 else "test"


def fold_of(prompt: str, folds: int = 5) -> int:
    """Return the fold, 0 to `folds` - 1, by the SHA-1 of the whole normalised text, so tasks with a common preamble spread over the folds."""
    return int(hashlib.sha1(normalised(prompt).encode(), usedforsecurity=False).hexdigest(), 16) % folds

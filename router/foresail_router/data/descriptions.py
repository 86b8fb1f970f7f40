"""One-sentence descriptions of prompts' tasks, as a model wrote them: a JSONL file with one description per prompt text.

Owns the format, which knows prompts by the digest of their text, so that a description outlives ids. It must not know who asks for
descriptions or what is learned from them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from foresail_router.data.records import name, text
from foresail_router.data.rows import Column, cell_error, json_line, read_rows

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Description:
    """What a model wrote of a prompt: `prompt_sha256` is `prompt_digest` of its text, `id` one prompt that has the text."""

    prompt_sha256: str
    id: str
    model: str
    description: str


def prompt_digest(prompt: str) -> str:
    """Return the SHA-256 of a prompt's text, in hex."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


def _digest(value: object) -> str:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ValueError("is not a SHA-256 of 64 hex digits")
    return value


_COLUMNS = {
    "prompt_sha256": Column(_digest, required=True),
    "id": Column(name, required=True),
    "model": Column(name, required=True),
    "description": Column(text, required=True),
}


def read_descriptions(path: Path) -> dict[str, Description]:
    """Return descriptions by the digest of their prompt; raises `UserError` at the first fault, as where one prompt has two."""
    found: dict[str, Description] = {}
    for row in read_rows(path, _COLUMNS):
        description = Description(**row.cells)
        if description.prompt_sha256 in found:
            raise cell_error(path, row.place, "prompt_sha256", "is described twice; keep one row")
        found[description.prompt_sha256] = description
    return found


def description_line(description: Description) -> str:
    """Return a description as one line of JSONL."""
    return json_line({slot: getattr(description, slot) for slot in Description.__slots__})


def descriptions_of(texts: Sequence[str], described: Mapping[str, Description]) -> list[str | None]:
    """Return each text's description, None where there is none."""
    found = (described.get(prompt_digest(prompt)) for prompt in texts)
    return [None if description is None else description.description for description in found]

"""The outcomes that a collection has so far: a JSONL file in the data format that only grows, and survives being killed.

Owns the output directory. It must not know models, connections or grading.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from foresail_api.errors import UserError
from foresail_router.data.records import (
    Outcome,
    Prompt,
    read_outcomes,
    read_prompts,
    record_line,
    write_outcomes,
    write_prompts,
)
from foresail_router.data.rows import drop_torn_end


class Journal:
    """One collection's directory, held by one process at a time. To be used as a context manager.

    `done` holds the pairs (prompt id, model) that have an outcome.
    """

    def __init__(self, directory: Path, prompts: Sequence[Prompt]) -> None:
        self._directory = directory
        self._outcomes = directory / "outcomes.jsonl"
        self._prompts = list(prompts)
        self._file: TextIO | None = None
        self.done: set[tuple[str, str]] = set()

    def __enter__(self) -> Self:
        """Take up what is there; raise `UserError` if that is of other prompts, damaged, or held by another process."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._file = self._outcomes.open("a", encoding="utf-8")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.__exit__(None, None, None)
            raise UserError(
                f"{self._outcomes} is being written by another process; wait for it, or choose another --out"
            ) from None
        except OSError as error:
            raise UserError(f"{self._directory} cannot be written: {error.strerror}") from error
        try:
            self._resume()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def append(self, outcome: Outcome) -> None:
        """Keep one outcome; it is in the operating system's hands when this returns."""
        if self._file is None:
            raise RuntimeError("the journal is closed")
        self._file.write(record_line(outcome))
        self._file.flush()
        self.done.add((outcome.id, outcome.model))

    def put_in_order(self, models: Sequence[str]) -> None:
        """Write the outcomes anew in the order of the prompts and, for each, of `models`, so that equal collections are equal files."""
        if not self.done:
            return
        by_prompt = {prompt.id: number for number, prompt in enumerate(self._prompts)}
        by_model = {name: number for number, name in enumerate(models)}

        def place(outcome: Outcome) -> tuple[int, int, str]:
            return by_prompt[outcome.id], by_model.get(outcome.model, len(by_model)), outcome.model

        write_outcomes(self._outcomes, sorted(read_outcomes(self._outcomes), key=place))

    def _resume(self) -> None:
        for name in ("prompts.parquet", "outcomes.parquet"):
            if (self._directory / name).exists():
                raise UserError(f"{self._directory / name}: a collection grows as JSONL; choose another --out")
        self._merge_prompts()
        drop_torn_end(self._outcomes)
        if self._outcomes.stat().st_size:
            known = (prompt.id for prompt in self._prompts)
            self.done = {(outcome.id, outcome.model) for outcome in read_outcomes(self._outcomes, prompt_ids=known)}

    def _merge_prompts(self) -> None:
        path = self._directory / "prompts.jsonl"
        if path.exists():
            self._prompts = list(_merged(path, read_prompts(path), self._prompts))
        write_prompts(path, self._prompts)


def _merged(path: Path, kept: Iterable[Prompt], wanted: Iterable[Prompt]) -> Iterable[Prompt]:
    prompts = {prompt.id: prompt for prompt in kept}
    for prompt in wanted:
        before = prompts.setdefault(prompt.id, prompt)
        if (before.prompt, before.grader, before.reference) != (prompt.prompt, prompt.grader, prompt.reference):
            raise UserError(
                f"{path}: prompt {prompt.id!r} was collected with another text, grader or reference; choose another --out, or give it a new id"
            )
        prompts[prompt.id] = prompt
    return prompts.values()

"""Has a model describe the task of each prompt in one sentence, with bounded concurrency, and writes each down as it comes.

Owns what is asked and the file of descriptions. It must not know what descriptions are used for.
"""

from __future__ import annotations

import asyncio
import fcntl
import random
import re
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from foresail_api.errors import UserError
from foresail_api.pool import OutputLimitField
from foresail_router.data.descriptions import Description, description_line, prompt_digest, read_descriptions
from foresail_router.data.records import Prompt
from foresail_router.data.rows import drop_torn_end
from foresail_router.features.text import readable
from foresail_sidecar.collecting.asking import GIVE_UP_AFTER, Asker
from foresail_sidecar.collecting.retries import Failure, RetryBudget
from foresail_sidecar.protocols.openai.single import single_prompt_body
from foresail_sidecar.upstreams.client import UpstreamClient
from foresail_sidecar.upstreams.failures import FailureKind
from foresail_sidecar.upstreams.targets import Target
from foresail_sidecar.upstreams.timeouts import UpstreamTimeouts

_QUESTION = """Describe in one sentence what kind of task the text between the lines sets: its field, the skill it takes, and the form of \
the answer. Name the kind of task, not its details, and do not solve it.
---
{prompt}
---
One sentence:"""
_OUTPUT_TOKENS = 80
_MOST_CHARACTERS = 400
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")


@dataclass(frozen=True, slots=True)
class Settings:
    """How prompts are put: `concurrency` questions at once, `attempts` per question, `timeout_seconds` per attempt."""

    concurrency: int
    attempts: int
    timeout_seconds: float


@dataclass(slots=True)
class Described:
    """What came of a run: `described` now, failures by cause, and prompts that were never put."""

    described: int = 0
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    not_asked: int = 0


class Notebook:
    """The file of descriptions, which only grows and is held by one process at a time. To be used as a context manager.

    `done` holds the digests of the prompts that are described.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None
        self.done: set[str] = set()

    def __enter__(self) -> Self:
        """Take up what is there; raise `UserError` if it is damaged, or held by another process."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a", encoding="utf-8")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            drop_torn_end(self._path)
        except BlockingIOError:
            self.__exit__(None, None, None)
            raise UserError(
                f"{self._path} is being written by another process; wait for it, or choose another -o"
            ) from None
        except OSError as error:
            raise UserError(f"{self._path} cannot be written: {error.strerror}") from error
        try:
            self.done = set(read_descriptions(self._path)) if self._path.stat().st_size else set()
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

    def append(self, description: Description) -> None:
        """Keep one description; it is in the operating system's hands when this returns."""
        if self._file is None:
            raise RuntimeError("the file of descriptions is closed")
        self._file.write(description_line(description))
        self._file.flush()
        self.done.add(description.prompt_sha256)


def open_prompts(prompts: Sequence[Prompt], notebook: Notebook) -> dict[str, Prompt]:
    """Return the prompts that are still to be described, by digest: one for each text."""
    wanted: dict[str, Prompt] = {}
    for prompt in prompts:
        digest = prompt_digest(prompt.prompt)
        if digest not in notebook.done:
            wanted.setdefault(digest, prompt)
    return wanted


class Describing:
    """One run over the open prompts. `progress` is called with how many more are settled."""

    def __init__(
        self,
        notebook: Notebook,
        target: Target,
        settings: Settings,
        progress: Callable[[int], object],
        rng: random.Random,
    ) -> None:
        self._notebook = notebook
        self._target = target
        self._settings = settings
        self._progress = progress
        self._rng = rng
        self._failed_in_a_row = 0
        self.result = Described()

    async def run(self, wanted: dict[str, Prompt]) -> Described:
        """Have every prompt described. What was described is kept if this is cancelled."""
        questions = deque(wanted.items())
        timeouts = UpstreamTimeouts(first_byte=self._settings.timeout_seconds, idle=self._settings.timeout_seconds)
        async with UpstreamClient(timeouts) as client, asyncio.TaskGroup() as tasks:
            budget = RetryBudget(len(wanted))
            asker = Asker(client, self._settings.attempts, self._settings.timeout_seconds, budget, self._rng)
            for _ in range(min(self._settings.concurrency, len(questions))):
                tasks.create_task(self._work(asker, questions))
        return self.result

    async def _work(self, asker: Asker, questions: deque[tuple[str, Prompt]]) -> None:
        while questions:
            digest, prompt = questions.popleft()
            answer = await self._ask(asker, prompt.prompt)
            self._progress(1)
            if isinstance(answer, Failure):
                self.result.failures[answer.reason, remedy(answer)] += 1
                self._failed_in_a_row += 1
            else:
                self._notebook.append(Description(digest, prompt.id, self._target.model, answer))
                self.result.described += 1
                self._failed_in_a_row = 0
            if self._failed_in_a_row >= GIVE_UP_AFTER and questions:
                self.result.not_asked += len(questions)
                self._progress(len(questions))
                questions.clear()

    async def _ask(self, asker: Asker, prompt: str) -> str | Failure:
        body = single_prompt_body(
            _QUESTION.format(prompt=readable(prompt)),
            model=self._target.model,
            limit_field=self._target.output_limit_field,
            output_limit=_OUTPUT_TOKENS,
            temperature=0.0,
        )
        answer = await asker.ask(self._target, body)
        if isinstance(answer, Failure):
            return answer
        return first_sentence(answer[0]) or Failure("the answer is empty", kind=FailureKind.BROKEN)


def first_sentence(answer: str) -> str:
    """Return the first sentence of what a model wrote, on one line, of bounded length."""
    line = " ".join(answer.split())
    return _SENTENCE_END.split(line, maxsplit=1)[0][:_MOST_CHARACTERS].strip()


def remedy(failure: Failure) -> str:
    """Return what to do about a failure."""
    if failure.status in (401, 403):
        return "check --key-file, and what the key may use"
    if failure.status == 404:
        return "check --url (it includes the version, as in `https://host/v1`) and --model"
    if failure.status is not None and 400 <= failure.status < 500 and failure.status != 429:
        return "check --model; some endpoints want --output-limit-field max_completion_tokens"
    if failure.status == 429:
        return "lower --concurrency, or wait, and run the same command again"
    if failure.kind == FailureKind.UNREACHABLE:
        return "check that --url is right and that it runs; then run the same command again"
    if failure.kind == FailureKind.TIMED_OUT:
        return "raise --timeout, or lower --concurrency; then run the same command again"
    return "run the same command again; what was described is kept"


def target_of(url: str, model: str, limit_field: OutputLimitField, credential: str | None) -> Target:
    """Return the endpoint to ask; raises `UserError` when `url` is no base URL of one."""
    from yarl import URL

    from foresail_sidecar.protocols.openai import PATH

    try:
        parsed = URL(url.rstrip("/") + PATH)
    except ValueError:
        parsed = URL()
    if (
        parsed.scheme not in ("http", "https")
        or not parsed.host
        or parsed.user
        or parsed.query_string
        or parsed.fragment
    ):
        raise UserError("--url is not of the form http(s)://host/v1, without credentials, query and fragment")
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    if credential is not None:
        headers["Authorization"] = f"Bearer {credential}"
    return Target("describer", parsed, model, limit_field, headers, credential)

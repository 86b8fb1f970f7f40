"""Asks the open questions with bounded concurrency and writes each outcome down as it comes.

Owns the order of questions and giving up. It must not know files beyond the journal it is given, nor how answers are graded.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from foresail_api.common import NANO_DOLLARS
from foresail_router.data.records import Outcome
from foresail_router.decision.counts import TokenCounts
from foresail_router.decision.price import cost_of
from foresail_sidecar.collecting.asking import GIVE_UP_AFTER, Answer, Asker
from foresail_sidecar.collecting.journal import Journal
from foresail_sidecar.collecting.plan import AskedModel, GradedPrompt
from foresail_sidecar.collecting.retries import Failure, RetryBudget
from foresail_sidecar.protocols.openai.single import single_prompt_body
from foresail_sidecar.upstreams.client import UpstreamClient
from foresail_sidecar.upstreams.timeouts import UpstreamTimeouts


@dataclass(frozen=True, slots=True)
class Settings:
    """How questions are asked: `concurrency` per model, `attempts` per question, `timeout_seconds` per attempt."""

    concurrency: int
    attempts: int
    timeout_seconds: float
    temperature: float | None


@dataclass(slots=True)
class Collected:
    """What came of a collection: `answered` now, failures by model and cause, and questions that were never put, by model."""

    answered: int = 0
    failures: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    not_asked: Counter[str] = field(default_factory=Counter)
    cost_usd: float = 0.0
    unpriced: int = 0


class Collection:
    """One run over the open questions. `progress` is called after each of them with the number of questions that it settles."""

    def __init__(
        self, journal: Journal, settings: Settings, progress: Callable[[int], object], rng: random.Random
    ) -> None:
        self._journal = journal
        self._settings = settings
        self._progress = progress
        self._rng = rng
        self.result = Collected()

    async def run(self, prompts: Sequence[GradedPrompt], models: Sequence[AskedModel]) -> Collected:
        """Ask every model every prompt that has no outcome yet. Outcomes that came are kept if this is cancelled."""
        lanes = [_Lane(model, deque(self.open_questions(prompts, model))) for model in models]
        budget = RetryBudget(sum(len(lane.questions) for lane in lanes))
        timeouts = UpstreamTimeouts(first_byte=self._settings.timeout_seconds, idle=self._settings.timeout_seconds)
        async with UpstreamClient(timeouts) as client, asyncio.TaskGroup() as tasks:
            asker = Asker(client, self._settings.attempts, self._settings.timeout_seconds, budget, self._rng)
            for lane in lanes:
                for _ in range(min(self._settings.concurrency, len(lane.questions))):
                    tasks.create_task(self._work(asker, lane))
        return self.result

    def open_questions(self, prompts: Sequence[GradedPrompt], model: AskedModel) -> list[GradedPrompt]:
        """Return the prompts for which a model has no outcome yet."""
        return [item for item in prompts if (item.prompt.id, model.model.name) not in self._journal.done]

    async def _work(self, asker: Asker, lane: _Lane) -> None:
        while lane.questions:
            answered = await self._settle(asker, lane.model, lane.questions.popleft())
            lane.failed_in_a_row = 0 if answered else lane.failed_in_a_row + 1
            self._progress(1)
            if lane.failed_in_a_row >= GIVE_UP_AFTER and lane.questions:
                self.result.not_asked[lane.model.model.name] += len(lane.questions)
                self._progress(len(lane.questions))
                lane.questions.clear()

    async def _settle(self, asker: Asker, asked: AskedModel, item: GradedPrompt) -> bool:
        answer = await self._ask(asker, asked, item.prompt.prompt)
        if isinstance(answer, Failure):
            self.result.failures[asked.model.name, answer.reason, answer.remedy] += 1
            return False
        text, usage = answer
        outcome = self._outcome(asked, item, text, usage)
        self._journal.append(outcome)
        self.result.answered += 1
        self.result.cost_usd += outcome.cost_usd or 0.0
        self.result.unpriced += outcome.cost_usd is None
        return True

    def _outcome(self, asked: AskedModel, item: GradedPrompt, text: str, usage: TokenCounts | None) -> Outcome:
        price = asked.model.price
        cost = cost_of(price, usage) / NANO_DOLLARS if price and usage else None
        return Outcome(
            id=item.prompt.id,
            model=asked.model.name,
            score=1.0 if item.is_right(text) else 0.0,
            input_tokens=usage.input_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
            cost_usd=cost,
            answer=text,
        )

    async def _ask(self, asker: Asker, asked: AskedModel, prompt: str) -> Answer | Failure:
        body = single_prompt_body(
            prompt,
            model=asked.target.model,
            limit_field=asked.target.output_limit_field,
            output_limit=asked.output_limit,
            temperature=self._settings.temperature,
        )
        return await asker.ask(asked.target, body)


@dataclass(slots=True)
class _Lane:
    """One model's open questions, which its workers take from in turn."""

    model: AskedModel
    questions: deque[GradedPrompt]
    failed_in_a_row: int = 0

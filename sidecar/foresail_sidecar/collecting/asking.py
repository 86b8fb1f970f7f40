"""Puts one question to one upstream: attempts, their deadline, the pauses between them, and the budget of all retries.

It must not know what is asked or what becomes of the answer.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from foresail_router.decision.counts import TokenCounts
from foresail_sidecar.collecting.retries import Failure, RetryBudget, pause_seconds
from foresail_sidecar.protocols.openai.single import read_single_answer
from foresail_sidecar.upstreams.client import UpstreamClient
from foresail_sidecar.upstreams.failures import FailureKind, UpstreamFailure
from foresail_sidecar.upstreams.targets import Target

MAX_ANSWER_BYTES = 8 * 2**20
# After so many questions in a row that failed, the rest would fail, too.
GIVE_UP_AFTER = 8
Answer = tuple[str, TokenCounts | None]


@dataclass(frozen=True, slots=True)
class Asker:
    """How questions are put: at most `attempts` times each, `timeout_seconds` per attempt, retries within one `budget`."""

    client: UpstreamClient
    attempts: int
    timeout_seconds: float
    budget: RetryBudget
    rng: random.Random

    async def ask(self, target: Target, body: bytes) -> Answer | Failure:
        """Return the answer's text and usage, or why there is none after the last attempt."""
        for attempt in range(1, self.attempts + 1):
            answer = await self._attempt(target, body)
            if not isinstance(answer, Failure) or not answer.transient or attempt == self.attempts:
                return answer
            if not self.budget.take():
                return answer
            await asyncio.sleep(pause_seconds(answer, attempt, self.rng))
        raise AssertionError("at least one attempt is made")

    async def _attempt(self, target: Target, body: bytes) -> Answer | Failure:
        try:
            async with asyncio.timeout(self.timeout_seconds):
                answer = await self.client.ask(target, list(target.headers.items()), body)
                try:
                    content = await answer.read(MAX_ANSWER_BYTES)
                finally:
                    answer.close()
        except TimeoutError:
            return Failure(f"no answer within {self.timeout_seconds:g} s", kind=FailureKind.TIMED_OUT)
        except UpstreamFailure as failure:
            return Failure(str(failure), kind=failure.kind)
        if answer.status != 200:
            wait = answer.headers.get("Retry-After", "")
            seconds = float(wait) if wait.isdigit() else None
            return Failure(f"status {answer.status}", status=answer.status, retry_after_seconds=seconds)
        try:
            return read_single_answer(content)
        except ValueError as error:
            return Failure(f"the answer {error}", kind=FailureKind.BROKEN)

"""Reads streams on whose clients have left, so that their usage is still learned: a few of them, each for a short time.

Owns those tasks and their bounds. It must not know what an end is worth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from foresail_sidecar.flow.outcomes import AttemptOutcome
from foresail_sidecar.protocols.answers import AnswerMachine, EndingKind
from foresail_sidecar.upstreams.answer import UpstreamAnswer
from foresail_sidecar.upstreams.failures import UpstreamFailure

MOST_STREAMS: Final = 64
LONGEST_SECONDS: Final = 30.0


class Drainer:
    """Drains streams in tasks of its own. Belongs to one event loop."""

    def __init__(self, most: int = MOST_STREAMS, seconds: float = LONGEST_SECONDS) -> None:
        self._most = most
        self._seconds = seconds
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, answer: UpstreamAnswer, machine: AnswerMachine, end: Callable[[AttemptOutcome], None]) -> bool:
        """Take over a stream and call `end` once with how it ended; return False, and take nothing, where there are enough already."""
        if len(self._tasks) >= self._most:
            return False
        task = asyncio.create_task(self._drain(answer, machine, end), name="drain")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def aclose(self) -> None:
        """Cut off all streams that are left; each is ended as far as it came."""
        # A task that has not begun could not end its stream.
        await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _drain(
        self, answer: UpstreamAnswer, machine: AnswerMachine, end: Callable[[AttemptOutcome], None]
    ) -> None:
        def feed(received: bytes) -> bool:
            machine.feed(received)
            return True

        outcome = AttemptOutcome.CLIENT_LEFT
        try:
            async with asyncio.timeout(self._seconds):
                await answer.deliver(feed)
            complete = machine.finish().kind == EndingKind.COMPLETE
            outcome = AttemptOutcome.ANSWERED if complete else AttemptOutcome.BROKE
        except UpstreamFailure:
            outcome = AttemptOutcome.BROKE
        except TimeoutError:
            pass
        finally:
            answer.close()
            end(outcome)

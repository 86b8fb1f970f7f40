"""The queue in front of the encoder: bounded, in order, cut into batches by a token budget, with an estimate of the wait.

Owns which entries run next and which are dropped. It must not know models, threads or the event loop's clock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foresail_router.engine.interface import DeadlineExceeded, ScorerOverloaded
from foresail_router.features.weights import MAX_TOKENS

Row = NDArray[np.float64]
# The estimate is the median of so many batches: one that was held up by something else says nothing about the next.
_REMEMBERED = 7
_FIRST_SECONDS_PER_TOKEN = 1e-4
# How much longer than estimated work is taken to be: refused too early costs one estimate, too late the whole deadline for nothing.
_CAUTION = 1.3


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One text that waits for its estimates (measures x models); `deadline` is on the event loop's clock."""

    digest: str
    key: bytes
    text: str
    tokens: int
    deadline: float
    future: asyncio.Future[Row]


def expected_tokens(text: str) -> int:
    """Return about how many tokens an encoder will read of a text, without tokenising it."""
    return min(MAX_TOKENS, 2 + len(text) // 4)


class BatchQueue:
    """Waiting entries. There is no batching timer: what came while the worker was busy is the next batch."""

    def __init__(self, *, max_entries: int, max_batch_tokens: int) -> None:
        self._max_entries = max_entries
        self._max_batch_tokens = max_batch_tokens
        self._entries: deque[Entry] = deque()
        self._seconds_per_token = _FIRST_SECONDS_PER_TOKEN
        self._measured: deque[float] = deque(maxlen=_REMEMBERED)
        self._running_tokens = 0
        self._running_since = 0.0

    def __len__(self) -> int:
        return len(self._entries)

    def admit(self, entries: list[Entry], now: float) -> None:
        """Queue entries, all or none; raises `ScorerOverloaded` when there is no room, `DeadlineExceeded` when the wait is too long."""
        if len(self._entries) + len(entries) > self._max_entries:
            raise ScorerOverloaded(f"{len(self._entries)} texts are waiting already")
        wait = self.wait(now)
        own = self._seconds(sum(entry.tokens for entry in entries))
        # An idle worker always tries, so a bad estimate mends itself.
        if wait > 0 and now + _CAUTION * (wait + own) >= min(entry.deadline for entry in entries):
            raise DeadlineExceeded(f"the texts ahead will take about {1000 * wait:.0f} ms")
        self._entries.extend(entries)

    def wait(self, now: float) -> float:
        """Return the seconds that the entries ahead of a new one will probably take."""
        queued = sum(entry.tokens for entry in self._entries if not entry.future.done())
        left = max(0.0, self._seconds(self._running_tokens) - (now - self._running_since))
        return self._seconds(queued) + left

    def next_batch(self, now: float) -> list[Entry]:
        """Take the next entries within the token budget, at least one if any is left; drop what was cancelled, fail what is late.

        Late is also what would be by the time that it is done, where others wait that may not be.
        """
        batch: list[Entry] = []
        tokens = 0
        while self._entries:
            entry = self._entries[0]
            done = now + (self._seconds(tokens + entry.tokens) if len(self._entries) > 1 else 0.0)
            if entry.future.done():
                self._entries.popleft()
            elif entry.deadline <= done:
                self._entries.popleft().future.set_exception(
                    DeadlineExceeded("the deadline would have passed before the text's turn was over")
                )
            elif batch and tokens + entry.tokens > self._max_batch_tokens:
                break
            else:
                batch.append(self._entries.popleft())
                tokens += entry.tokens
        self._running_tokens, self._running_since = tokens, now
        return batch

    def _seconds(self, tokens: int) -> float:
        return tokens * self._seconds_per_token

    def finished(self, seconds: float) -> None:
        """Learn how long the batch took that was taken last."""
        if self._running_tokens:
            self._measured.append(seconds / self._running_tokens)
            self._seconds_per_token = median(self._measured)
        self._running_tokens = 0

    def fail_all(self, error: Exception) -> None:
        """Fail every waiting entry and forget it."""
        while self._entries:
            future: asyncio.Future[Any] = self._entries.popleft().future
            if not future.done():
                future.set_exception(error)

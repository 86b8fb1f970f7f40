"""Answers as any protocol gives them: what they used, how they ended, and the state machine that reads them without I/O.

It must not know any protocol's bodies.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from foresail_api.values import value
from foresail_router.decision.counts import TokenCounts


class EndingKind(StrEnum):
    """How an answer ended."""

    COMPLETE = "Complete"
    CUT = "Cut"
    ERROR = "Error"


@value
class Ending:
    """The end of an answer: `rest` is what remains to be relayed, `error` the upstream's message, shortened, if it sent one."""

    kind: EndingKind
    rest: bytes
    error: str | None = None


class AnswerMachine(Protocol):
    """Reads one answer as its bytes arrive. Never raises on what an upstream sends, and holds a bounded amount of it."""

    @property
    def usage(self) -> TokenCounts | None:
        """The tokens that the upstream reported so far to have billed, reasoning included in the output, or None."""

    @property
    def started(self) -> bool:
        """Whether any part of an answer has come."""

    @property
    def output_bytes(self) -> int:
        """UTF-8 bytes of all generated text that has come, over all choices. Reasoning that the upstream hides is not in it."""

    @property
    def error(self) -> str | None:
        """The upstream's message, shortened, if it sent an error so far."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes from the upstream and return those to relay to the client now."""

    def finish(self) -> Ending:
        """Say how the answer ended, once the upstream sends no more, whatever the cause."""

"""The closed set of ways in which an attempt at an upstream fails. It must not know what a client is told of them."""

from __future__ import annotations

from enum import StrEnum


class FailureKind(StrEnum):
    """What went wrong, by what it means for the request.

    After `UNREACHABLE` nothing of the request was sent, so it may go elsewhere. After any other, the upstream may have answered and will bill.
    """

    UNREACHABLE = "Unreachable"
    TIMED_OUT = "TimedOut"
    BROKEN = "Broken"
    TOO_LARGE = "TooLarge"


def without_frames(error: BaseException) -> str:
    """Return the name of an error that a connection keeps, and take the tracebacks from it and from those that led to it.

    They know the frames that know the connection: in that circle, all of a request would stay until somebody searches for garbage.
    """
    link: BaseException | None = error
    while link is not None and link.__traceback__ is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return type(error).__name__


class UpstreamFailure(Exception):
    """An attempt that gave no whole answer. The message names neither prompts nor credentials and is fit for clients."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind

"""The scoring interface: what any front end asks of a router, in this process, in another one, or over a network.

Owns the plain, serialisable values that cross that seam. It must not know artifacts' contents, requests or prices.
"""

from __future__ import annotations

from typing import Protocol

from foresail_api.values import value


@value
class Estimate:
    """What the router foresees of one model's answer to one prompt.

    `quality` lies in [0, 1], `quality_std` is its standard deviation (what the router does not know, not the noise of one answer);
    `output_tokens` is the expected length in tokens, with its 5 % and 95 % quantiles and its median.
    """

    model: str
    quality: float
    quality_std: float
    output_tokens: float
    output_tokens_p05: float
    output_tokens_p95: float
    output_tokens_p50: float


@value
class ScoreRequest:
    """Texts to be scored for some models by one artifact, within `deadline_seconds` from now."""

    artifact_digest: str
    texts: tuple[str, ...]
    models: tuple[str, ...]
    deadline_seconds: float


@value
class ScoreResult:
    """One tuple of estimates per text, in the order of `ScoreRequest.models`."""

    estimates: tuple[tuple[Estimate, ...], ...]


class ScoringError(Exception):
    """Scoring gave no estimates; `reason` is one word for decisions and metrics."""

    reason = "ScoringFailed"


class DeadlineExceeded(ScoringError):
    """The estimates would have come, or came, after the deadline."""

    reason = "DeadlineExceeded"


class ArtifactNotLoaded(ScoringError):
    """The scorer does not hold an artifact of that digest."""

    reason = "ArtifactNotLoaded"


class ModelNotInArtifact(ScoringError):
    """The artifact was not trained on a model that estimates were asked for."""

    reason = "ModelNotInArtifact"


class ScorerOverloaded(ScoringError):
    """The scorer's queue is full."""

    reason = "ScorerOverloaded"


class Scorer(Protocol):
    """Scores texts. Implementations are safe to call concurrently from one event loop."""

    async def score(self, request: ScoreRequest) -> ScoreResult:
        """Return the estimates, or raise a `ScoringError` no later than the request's deadline."""
        ...

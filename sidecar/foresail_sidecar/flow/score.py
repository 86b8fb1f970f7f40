"""Asks the router for its estimates under the policy's deadline. Whatever goes wrong becomes one word, never an exception.

Owns the bound on the wait. It must not know how a scorer works, nor what is decided without estimates.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Final

from foresail_api.policy import Strategy
from foresail_api.snapshot import Snapshot
from foresail_api.values import value
from foresail_router.decision.types import NeutralRequest
from foresail_router.engine.interface import (
    ArtifactNotLoaded,
    DeadlineExceeded,
    Estimate,
    Scorer,
    ScoreRequest,
    ScoringError,
)
from foresail_sidecar.configuration.state import ArtifactFacts
from foresail_sidecar.telemetry.logs import log

# The artifact was trained on none of the models that can answer this request.
MODELS_UNKNOWN: Final = "ModelsUnknown"

_LOGGER = logging.getLogger(__name__)


@value
class Scores:
    """The estimates by model, or one word that says why there are none. Both are None where the policy asks no router.

    `seconds` is how long that took, None where nothing was asked.
    """

    estimates: Mapping[str, Estimate] | None = None
    error: str | None = None
    seconds: float | None = field(default=None, compare=False)


UNSCORED: Final = Scores()


def wants_scores(snapshot: Snapshot, request: NeutralRequest) -> bool:
    """Return whether the router has a say: the policy is learned, and the request leaves the choice to it."""
    return snapshot.router.strategy == Strategy.LEARNED and request.model in snapshot.aliases


async def score(
    scorer: Scorer | None,
    artifact: ArtifactFacts | None,
    snapshot: Snapshot,
    request: NeutralRequest,
    eligible: Sequence[str],
) -> Scores:
    """Return the scores of those eligible models that the artifact knows, no later than the policy's deadline; without any, nothing is asked."""
    if not eligible:
        return UNSCORED
    if scorer is None or artifact is None:
        return Scores(error=ArtifactNotLoaded.reason)
    models = tuple(model for model in eligible if model in artifact.models)
    if not models:
        return Scores(error=MODELS_UNKNOWN)
    deadline = snapshot.router.deadline_milliseconds / 1000
    asked = ScoreRequest(artifact.digest, (request.text,), models, deadline)
    started = time.perf_counter()
    try:
        async with asyncio.timeout(deadline):
            result = await scorer.score(asked)
        estimates = {estimate.model: estimate for estimate in result.estimates[0]}
        return Scores(estimates, None, time.perf_counter() - started)
    except TimeoutError:
        reason = DeadlineExceeded.reason
    except ScoringError as error:
        reason = error.reason
    except Exception as error:
        # A defect of a scorer must cost an estimate and not an answer; its message could quote the prompt.
        log(_LOGGER, logging.ERROR, "scorer failed", exception=type(error).__name__)
        reason = ScoringError.reason
    return Scores(None, reason, time.perf_counter() - started)

"""The plain values that a decision takes and gives: the protocol-neutral request, candidates, the decision, a refusal.

It must not know how any of them comes about. Money is in whole nano-dollars.
"""

from __future__ import annotations

from enum import StrEnum

from foresail_api.pool import Capability
from foresail_api.reasons import Basis, Elimination
from foresail_api.values import value
from foresail_router.decision.counts import CountedTexts, InputBound
from foresail_router.engine.interface import Estimate


@value
class NeutralRequest:
    """What a protocol's module reads from a request, without any field name of its body.

    `text` is what the router reads, always valid Unicode. `input_bytes` counts the UTF-8 bytes of all that the upstream turns into input tokens, media apart.
    `output_limit` is the smallest limit that the client named; `choices` is how many answers it wants for the prompt.
    `unpriceable` says why no bound on the cost can be given (remote files, tools that the provider runs), or is None.
    `images` and `audio_parts` count the media that the request itself holds; `thinking_tokens` is the budget that the client gives to
    reasoning, as a part of the output limit. `counted` is what the pool's tokenizers say of the messages' texts, None where it has none.
    """

    model: str
    text: str
    input_bytes: int
    required: frozenset[Capability]
    output_limit: int | None
    choices: int
    stream: bool
    unpriceable: str | None
    images: int = 0
    audio_parts: int = 0
    thinking_tokens: int | None = None
    counted: CountedTexts | None = None


@value
class Candidate:
    """One model of the pool as seen by one decision. An eliminated one says why, in a word and in a sentence.

    `output_limit` is the limit that would be forwarded; `uncapped_output_limit` is what it was before the cap lowered it, or None if
    it did not. `cost` is predicted, with its 5 % and 95 % quantiles where the router gave them; `worst_case` bounds what the upstream can bill. Costs are
    None where the model has no price, `worst_case` where no bound can be given. Of a model that the cap rules out, `worst_case` is
    that of the smallest useful answer: the smallest cap that would let it answer.
    """

    model: str
    elimination: Elimination | None
    detail: str
    output_limit: int
    input_tokens: int
    input_bound: InputBound | None
    worst_case: int | None
    uncapped_output_limit: int | None = None
    estimate: Estimate | None = None
    cost: int | None = None
    cost_p05: int | None = None
    cost_p95: int | None = None
    utility: float | None = None

    def predicted(
        self,
        estimate: Estimate | None,
        cost: int | None = None,
        cost_p05: int | None = None,
        cost_p95: int | None = None,
        utility: float | None = None,
    ) -> Candidate:
        """Return the candidate with what is predicted of it."""
        # Of each candidate of each request, and `replace` takes eight times as long.
        return Candidate(
            self.model,
            self.elimination,
            self.detail,
            self.output_limit,
            self.input_tokens,
            self.input_bound,
            self.worst_case,
            self.uncapped_output_limit,
            estimate,
            cost,
            cost_p05,
            cost_p95,
            utility,
        )

    @property
    def input_tokens_bound(self) -> int | None:
        """The most input tokens that can be billed, of all kinds together; None where there is no bound."""
        return None if self.input_bound is None else self.input_bound.total


class RefusalKind(StrEnum):
    """Why a request gets no answer at all."""

    UNKNOWN_MODEL = "UnknownModel"
    NO_ELIGIBLE_MODEL = "NoEligibleModel"
    COST_CAP_EXCEEDED = "CostCapExceeded"
    SCORING_FAILED = "ScoringFailed"
    NO_HEALTHY_UPSTREAM = "NoHealthyUpstream"


@value
class Refusal:
    """A request that must not be forwarded, with a message for its sender that names the remedy."""

    kind: RefusalKind
    message: str


@value
class Decision:
    """Which model answers, what that rests on, and every candidate. Exactly one of `chosen` and `refusal` is set.

    `scoring_error` names why the router gave no estimates, where it was asked and did not. `order` names every model that may answer,
    the chosen one first, then the next best. `pressure_percent` is how much the budgets pressed towards the cheapest: 100 leaves no choice.
    """

    chosen: Candidate | None
    refusal: Refusal | None
    basis: Basis | None
    candidates: tuple[Candidate, ...]
    snapshot_hash: str
    artifact_digest: str | None
    scoring_error: str | None = None
    order: tuple[str, ...] = ()
    pressure_percent: int = 0

"""What a caller is told when no model may answer: the reason of each, and what would help.

It must not know how the reasons came about, nor the status code that carries them.
"""

from __future__ import annotations

from collections.abc import Sequence

from foresail_api.reasons import Elimination
from foresail_api.snapshot import Snapshot
from foresail_router.decision.price import dollars
from foresail_router.decision.types import Candidate, NeutralRequest, Refusal, RefusalKind

_BY_CAP = frozenset({Elimination.OVER_PER_REQUEST_CAP, Elimination.CLAMP_TOO_SMALL})
_LONGEST_NAME = 64

_REMEDIES = {
    Elimination.CONTEXT_TOO_SMALL: "shorten the conversation",
    Elimination.CLAMP_TOO_SMALL: "name another `max_tokens` or a smaller budget for reasoning",
    Elimination.MISSING_CAPABILITY: "leave out what the models cannot do, or declare it in the pool's `capabilities` if they can",
    Elimination.UNPRICEABLE: "leave out what has no price, or have the pool declare `price` and `tokenCount`",
    Elimination.BOUND_EXCEEDED: "have the pool's `price`, `tokenCount` or `maxOutputTokens` of the model corrected",
    Elimination.NOT_ALLOWED: "ask for a model that is allowed",
    Elimination.CREDENTIAL_MISSING: "have the credential's Secret created",
}


def unknown_model(request: NeutralRequest, snapshot: Snapshot) -> Refusal:
    """Return the refusal of a request for a name that the policy does not serve."""
    name = request.model if len(request.model) <= _LONGEST_NAME else f"{request.model[:_LONGEST_NAME]}..."
    models = ", ".join(model.name for model in snapshot.models)
    message = (
        f"The model {name!r} does not exist here. Ask for {' or '.join(snapshot.aliases)} to have requests routed, "
        f"or for a model by its name: {models}."
    )
    return Refusal(RefusalKind.UNKNOWN_MODEL, message)


def scoring_failed(scoring_error: str, snapshot: Snapshot) -> Refusal:
    """Return the refusal of a policy with failure mode `FailClose` whose router gave no estimates."""
    message = (
        f"The router gave no estimates ({scoring_error}) and policy {snapshot.policy!r} fails closed. "
        "Try again, or ask for a model by its name."
    )
    return Refusal(RefusalKind.SCORING_FAILED, message)


def no_eligible_model(candidates: Sequence[Candidate], cap: int | None) -> Refusal:
    """Return the refusal that lists why each model is out; one that the cap alone decides names the cap and the smallest that fits.

    A model that is out for now is worth waiting for, whatever keeps the others out. `cap` is in nano-dollars, None where none applies.
    """
    asked = [candidate for candidate in candidates if candidate.elimination != Elimination.NOT_REQUESTED]
    over_cap = [each for each in asked if each.elimination in _BY_CAP and each.worst_case is not None]
    listed = "; ".join(f"{candidate.model}: {candidate.elimination} ({candidate.detail})" for candidate in asked)
    if any(candidate.elimination == Elimination.UNHEALTHY for candidate in asked):
        message = f"No model can answer this request now. {listed}. To get an answer: try again later."
        return Refusal(RefusalKind.NO_HEALTHY_UPSTREAM, message)
    if over_cap and cap is not None:
        return Refusal(RefusalKind.COST_CAP_EXCEEDED, f"{_over_cap(over_cap, cap)} {listed}.")
    remedies = [_REMEDIES[reason] for reason in _REMEDIES if any(reason == model.elimination for model in asked)]
    remedy = f" To get an answer: {'; '.join(remedies)}." if remedies else ""
    return Refusal(RefusalKind.NO_ELIGIBLE_MODEL, f"No model can answer this request. {listed}.{remedy}")


def _over_cap(over_cap: Sequence[Candidate], cap: int) -> str:
    needed = [(candidate.worst_case, candidate.model) for candidate in over_cap if candidate.worst_case is not None]
    smallest, model = min(needed)
    return (
        f"This request can cost more than the cap of {dollars(cap)} USD per request: at worst, the cheapest answer costs "
        f"{dollars(smallest)} USD ({model}). Shorten the input, ask for fewer answers, or raise the cap: "
        "`costLimits.perRequest`, or the request's own where that is lower."
    )

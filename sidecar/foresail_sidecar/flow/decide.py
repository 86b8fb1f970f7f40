"""From a neutral request to a decision: match, prepare, score, decide, in one order for every front end.

Owns that order and what it needs of a serving state. It must not know connections, bodies, or what follows the decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from foresail_api.values import value
from foresail_router.decision.conditions import NO_LIMITS, Conditions, RequestLimits, Unavailable
from foresail_router.decision.decide import decide
from foresail_router.decision.eliminate import eligible_models, eliminate
from foresail_router.decision.price import CostReference
from foresail_router.decision.ratios import InputRatios
from foresail_router.decision.types import Decision, NeutralRequest
from foresail_sidecar.configuration.state import ServingState
from foresail_sidecar.flow.budgets import Budgets
from foresail_sidecar.flow.limits import Limits
from foresail_sidecar.flow.score import UNSCORED, score, wants_scores


@value
class Policy:
    """What every decision under one serving state shares, worked out once. `budgeted` says that an enforced budget applies."""

    state: ServingState
    missing_credentials: frozenset[str]
    cost_reference: int | None
    budgets: Budgets
    budgeted: bool
    limits: Limits

    @classmethod
    def of(cls, state: ServingState) -> Policy:
        """Return the policy that `state` serves."""
        reference = None
        if state.artifact is not None:
            facts = state.artifact
            reference = CostReference(facts.best_single_model, facts.mean_input_tokens, facts.mean_output_tokens)
        budgets = Budgets.of(state.snapshot)
        return cls(
            state=state,
            missing_credentials=state.models_without_credentials(),
            cost_reference=None if reference is None else reference.nano_dollars(state.snapshot),
            budgets=budgets,
            budgeted=budgets.enforced,
            limits=Limits.of(state.snapshot),
        )


@value
class Decided:
    """A decision and how long scoring took, None where nothing was scored."""

    decision: Decision
    scoring_seconds: float | None


@value
class Standing:
    """What holds at the moment of one decision: what was learned of input lengths, what the caller may use, what cannot be asked, how
    much the budgets press. `distrusted` are models whose bound does not hold.
    """

    ratios: InputRatios
    limits: RequestLimits = NO_LIMITS
    allowed_models: frozenset[str] | None = None
    unavailable: Mapping[str, Unavailable] = field(default_factory=dict)
    pressure_percent: int = 0
    distrusted: frozenset[str] = frozenset()


async def decide_request(policy: Policy, request: NeutralRequest, standing: Standing) -> Decided:
    """Return the decision on `request`. Waits for the router at most as long as the policy allows."""
    state, snapshot = policy.state, policy.state.snapshot
    conditions = Conditions(
        input_tokens=_estimated_input_tokens(policy, standing.ratios, request),
        missing_credentials=policy.missing_credentials,
        limits=standing.limits,
        allowed_models=standing.allowed_models,
        unavailable=standing.unavailable,
        distrusted=standing.distrusted,
        budgeted=policy.budgeted,
    )
    candidates = eliminate(request, snapshot, conditions)
    scores = UNSCORED
    if standing.limits.routed and wants_scores(snapshot, request):
        scores = await score(state.scorer, state.artifact, snapshot, request, eligible_models(candidates))
    decision = decide(
        request,
        snapshot,
        candidates,
        scores.estimates,
        cost_reference=policy.cost_reference,
        scoring_error=scores.error,
        snapshot_hash=state.snapshot_hash,
        limits=standing.limits,
        pressure_percent=standing.pressure_percent,
    )
    return Decided(decision, scores.seconds)


def _estimated_input_tokens(policy: Policy, ratios: InputRatios, request: NeutralRequest) -> dict[str, int]:
    """Return the input tokens to expect per model: at first what the artifact's training prompts took, then what was settled here."""
    names, input_bytes = [model.name for model in policy.state.snapshot.models], request.input_bytes
    artifact = policy.state.artifact
    if artifact is None or not artifact.input_means:
        return {name: ratios.estimate(name, input_bytes) for name in names}
    means, text_bytes = artifact.input_means, len(request.text.encode())
    expected = {name: means[name].expected_tokens(text_bytes, input_bytes) for name in names if name in means}
    return {name: ratios.estimate(name, input_bytes, expected.get(name)) for name in names}

"""Which models can answer a request at all, and with which output limit. Before anything is scored.

Owns the order of the reasons and the arithmetic of the limits. It must not know predictions or bodies.

Two counts of the input serve two purposes. The *estimate* decides whether a prompt fits a context window, because the bound, one
token per byte, would refuse prompts that are a quarter as long; an upstream that counts more answers with an error, which is not
billed. The *bound* alone decides about money.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from foresail_api.reasons import Elimination
from foresail_api.snapshot import Snapshot, SnapshotModel, SnapshotPrice
from foresail_router.decision.price import bound_input_tokens, clamp_output_limit, dollars, worst_case
from foresail_router.decision.types import Candidate, NeutralRequest

_Verdict = tuple[Elimination, str]


def is_served(request: NeutralRequest, snapshot: Snapshot) -> bool:
    """Return whether the policy answers requests for that name at all: an alias or a model of the pool."""
    return request.model in snapshot.aliases or is_pass_through(request, snapshot)


def is_pass_through(request: NeutralRequest, snapshot: Snapshot) -> bool:
    """Return whether the request names a model of the pool, which is then not routed but kept within the same limits."""
    return request.model not in snapshot.aliases and snapshot.model(request.model) is not None


def eliminate(
    request: NeutralRequest,
    snapshot: Snapshot,
    *,
    input_tokens: Mapping[str, int],
    missing_credentials: frozenset[str],
) -> tuple[Candidate, ...]:
    """Return one candidate per model of the pool, in its order, each with its output limit or the reason why it is out.

    `input_tokens` holds the estimate for every model; `missing_credentials` names the models whose credential is not at hand.
    """
    return tuple(
        _candidate(request, snapshot, model, input_tokens[model.name], missing_credentials) for model in snapshot.models
    )


def eligible_models(candidates: Iterable[Candidate]) -> tuple[str, ...]:
    """Return the names of those that are still in, in the pool's order: what is to be scored."""
    return tuple(candidate.model for candidate in candidates if candidate.elimination is None)


def _candidate(
    request: NeutralRequest,
    snapshot: Snapshot,
    model: SnapshotModel,
    input_tokens: int,
    missing_credentials: frozenset[str],
) -> Candidate:
    bound = None if request.unpriceable else bound_input_tokens(model, request.input_bytes)
    expected = input_tokens if bound is None else min(input_tokens, bound)
    wanted = min(request.output_limit or model.default_max_output_tokens, model.max_output_tokens)
    least = min(wanted, model.min_output_tokens)
    limit = min(wanted, max(least, _room(model, expected, bound)))
    candidate = Candidate(
        model=model.name,
        elimination=None,
        detail="",
        output_limit=limit,
        input_tokens=expected,
        input_tokens_bound=bound,
        worst_case=None if model.price is None or bound is None else _worst(request, model.price, bound, limit),
    )
    verdict = (
        _not_requested(request, snapshot, model)
        or _missing_credential(model, missing_credentials)
        or _missing_capability(request, model)
        or _context_too_small(model, expected, least)
    )
    if verdict is not None:
        return replace(candidate, elimination=verdict[0], detail=verdict[1])
    if snapshot.per_request_nano_dollars is None:
        return candidate
    return _capped(request, model, candidate, snapshot.per_request_nano_dollars)


def _room(model: SnapshotModel, expected: int, bound: int | None) -> int:
    """Return what the context window leaves for the answer, with a quarter of the estimate as a margin for its error."""
    cautious = expected + -(-expected // 4)
    return model.context_window_tokens - (cautious if bound is None else min(cautious, bound))


def _worst(request: NeutralRequest, price: SnapshotPrice, bound: int, limit: int) -> int:
    return worst_case(price, bound, request.choices, limit)


def _not_requested(request: NeutralRequest, snapshot: Snapshot, model: SnapshotModel) -> _Verdict | None:
    if request.model in snapshot.aliases or request.model == model.name:
        return None
    return Elimination.NOT_REQUESTED, "the request asks for another model by name"


def _missing_credential(model: SnapshotModel, missing_credentials: frozenset[str]) -> _Verdict | None:
    if model.name not in missing_credentials:
        return None
    auth = next((upstream.auth for upstream in model.upstreams if upstream.auth is not None), None)
    where = f"key {auth.secret_key!r} of Secret {auth.secret_name!r}" if auth else "its Secret"
    return Elimination.CREDENTIAL_MISSING, f"its credential is missing: {where} does not exist"


def _missing_capability(request: NeutralRequest, model: SnapshotModel) -> _Verdict | None:
    missing = sorted(request.required - model.capabilities)
    if not missing:
        return None
    return Elimination.MISSING_CAPABILITY, f"the request needs {', '.join(missing)}, which its `capabilities` lack"


def _context_too_small(model: SnapshotModel, expected: int, least: int) -> _Verdict | None:
    if expected + least <= model.context_window_tokens:
        return None
    return (
        Elimination.CONTEXT_TOO_SMALL,
        f"about {expected} input tokens and an answer of {least} exceed its context window of {model.context_window_tokens} tokens",
    )


def _capped(request: NeutralRequest, model: SnapshotModel, candidate: Candidate, cap: int) -> Candidate:
    price, bound = model.price, candidate.input_tokens_bound
    if price is None or bound is None:
        return replace(candidate, elimination=Elimination.UNPRICEABLE, detail=_why_unpriceable(request, model))
    limit = clamp_output_limit(price, bound, request.choices, candidate.output_limit, cap)
    if limit == candidate.output_limit:
        return candidate
    if limit is None or limit < model.min_output_tokens:
        least = min(candidate.output_limit, model.min_output_tokens)
        needed = _worst(request, price, bound, least)
        if limit is None:
            reason, problem = Elimination.OVER_PER_REQUEST_CAP, f"its input alone, up to {bound} tokens, can cost more"
        else:
            reason = Elimination.CLAMP_TOO_SMALL
            problem = f"the cap leaves {limit} output tokens, fewer than {least}"
        detail = f"{problem} (cap {dollars(cap)} USD, {dollars(needed)} USD needed at worst)"
        return replace(candidate, elimination=reason, detail=detail, worst_case=needed)
    return replace(
        candidate,
        output_limit=limit,
        uncapped_output_limit=candidate.output_limit,
        worst_case=_worst(request, price, bound, limit),
    )


def _why_unpriceable(request: NeutralRequest, model: SnapshotModel) -> str:
    if model.price is None:
        return "it has no `price`, so no cost cap can hold"
    if request.unpriceable:
        return f"no bound on the cost of this request: {request.unpriceable}"
    return "its `tokenCount.overheadTokens` is not set, so no bound on the input can be given"

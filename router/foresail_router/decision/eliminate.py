"""Which models can answer a request at all, and with which output limit. Before anything is scored.

Owns the order of the reasons and the arithmetic of the limits. It must not know predictions or bodies.

Two counts of the input serve two purposes. The *estimate* decides whether a prompt fits a context window, because the bound, one
token per byte, would refuse prompts that are a quarter as long; an upstream that counts more answers with an error, which is not
billed. The *bound* alone decides about money.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from foresail_api.reasons import Elimination
from foresail_api.snapshot import Snapshot, SnapshotModel
from foresail_router.decision.conditions import Conditions, effective_cap
from foresail_router.decision.counts import InputBound
from foresail_router.decision.price import MOST_RESERVED_NANO, bound_input, clamp_output_limit, dollars, worst_case
from foresail_router.decision.types import Candidate, NeutralRequest

_Verdict = tuple[Elimination, str]


def eliminate(request: NeutralRequest, snapshot: Snapshot, conditions: Conditions) -> tuple[Candidate, ...]:
    """Return one candidate per model of the pool, in its order, each with its output limit or the reason why it is out."""
    cap = effective_cap(snapshot, conditions.limits)
    return tuple([_candidate(request, snapshot, model, conditions, cap) for model in snapshot.models])


def eligible_models(candidates: Iterable[Candidate]) -> tuple[str, ...]:
    """Return the names of those that are still in, in the pool's order: what is to be scored."""
    return tuple([candidate.model for candidate in candidates if candidate.elimination is None])


def least_useful_limit(request: NeutralRequest, model: SnapshotModel, wanted: int) -> int:
    """Return the smallest output limit under which an answer is worth its money; never more than is wanted anyway."""
    thinking = 0 if request.thinking_tokens is None else request.thinking_tokens + 1
    return min(wanted, max(model.min_output_tokens, thinking))


def capped(request: NeutralRequest, model: SnapshotModel, candidate: Candidate, cap: int) -> Candidate:
    """Return the candidate with its output limit lowered so that its worst case is at most `cap` nano-dollars, or out."""
    price, bound = model.price, candidate.input_bound
    if price is None or bound is None:
        return replace(candidate, elimination=Elimination.UNPRICEABLE, detail=_why_unpriceable(request, model))
    limit = clamp_output_limit(price, bound, request.choices, candidate.output_limit, cap)
    if limit == candidate.output_limit:
        return candidate
    least = least_useful_limit(request, model, candidate.output_limit)
    if limit is None or limit < least:
        needed = worst_case(price, bound, request.choices, least)
        if limit is None:
            reason, problem = (
                Elimination.OVER_PER_REQUEST_CAP,
                f"its input alone, up to {bound.total} tokens, can cost more",
            )
        else:
            reason = Elimination.CLAMP_TOO_SMALL
            problem = f"the cap leaves {limit} output tokens, fewer than {least}"
        detail = f"{problem} (cap {dollars(cap)} USD, {dollars(needed)} USD needed at worst)"
        return replace(candidate, elimination=reason, detail=detail, worst_case=needed)
    return replace(
        candidate,
        output_limit=limit,
        uncapped_output_limit=candidate.output_limit,
        worst_case=worst_case(price, bound, request.choices, limit),
    )


def _candidate(
    request: NeutralRequest, snapshot: Snapshot, model: SnapshotModel, conditions: Conditions, cap: int | None
) -> Candidate:
    price, bound = model.price, bound_input(model, request)
    expected = _expected_input(request, model, conditions.input_tokens[model.name], bound)
    wanted = min(request.output_limit or model.default_max_output_tokens, model.max_output_tokens)
    least = least_useful_limit(request, model, wanted)
    limit = min(wanted, max(least, _room(model, expected, bound)))
    worst = None if price is None or bound is None else worst_case(price, bound, request.choices, limit)
    verdict = (
        _forbidden(request, snapshot, model, conditions)
        or _incapable(request, model, expected, least, wanted)
        or _unavailable(model, conditions)
        or _unaffordable(request, model, worst, conditions, cap)
    )
    if verdict is None:
        candidate = Candidate(model.name, None, "", limit, expected, bound, worst)
        return candidate if cap is None else capped(request, model, candidate, cap)
    reason, detail = verdict
    # No cap would help.
    helped = None if reason == Elimination.CLAMP_TOO_SMALL else worst
    return Candidate(model.name, reason, detail, limit, expected, bound, helped)


def _expected_input(request: NeutralRequest, model: SnapshotModel, text_tokens: int, bound: InputBound | None) -> int:
    """Return the input tokens to expect: media at their declared maximum, for nothing is known of what they hold."""
    if bound is not None:
        return min(text_tokens, bound.text) + bound.image + bound.audio
    return (
        text_tokens
        + request.images * (model.max_tokens_per_image or 0)
        + request.audio_parts * (model.max_tokens_per_audio or 0)
    )


def _room(model: SnapshotModel, expected: int, bound: InputBound | None) -> int:
    """Return what the context window leaves for the answer, with a quarter of the estimate as a margin for its error."""
    cautious = expected + -(-expected // 4)
    return model.context_window_tokens - (cautious if bound is None else min(cautious, bound.total))


def _forbidden(
    request: NeutralRequest, snapshot: Snapshot, model: SnapshotModel, conditions: Conditions
) -> _Verdict | None:
    name, limits = model.name, conditions.limits
    if request.model != name and request.model not in snapshot.aliases:
        return Elimination.NOT_REQUESTED, "the request asks for another model by name"
    if conditions.allowed_models is not None and name not in conditions.allowed_models:
        return Elimination.NOT_ALLOWED, "the caller's tenant may not use it"
    if limits.models is not None and name not in limits.models:
        return Elimination.NOT_ALLOWED, "the request's own list of models leaves it out"
    return _missing_credential(model) if name in conditions.missing_credentials else None


def _incapable(
    request: NeutralRequest, model: SnapshotModel, expected: int, least: int, wanted: int
) -> _Verdict | None:
    if request.required and not request.required <= model.capabilities:
        missing = ", ".join(sorted(request.required - model.capabilities))
        return Elimination.MISSING_CAPABILITY, f"the request needs {missing}, which its `capabilities` lack"
    window = model.context_window_tokens
    if expected + least > window:
        return (
            Elimination.CONTEXT_TOO_SMALL,
            f"about {expected} input tokens and an answer of {least} exceed its context window of {window} tokens",
        )
    return (
        None if request.thinking_tokens is None else _nothing_beside_thinking(request, request.thinking_tokens, wanted)
    )


def _unavailable(model: SnapshotModel, conditions: Conditions) -> _Verdict | None:
    why = conditions.unavailable.get(model.name)
    return None if why is None else (why.reason, why.detail)


def _unaffordable(
    request: NeutralRequest, model: SnapshotModel, worst: int | None, conditions: Conditions, cap: int | None
) -> _Verdict | None:
    """Return why no cap or no budget could hold, where one applies."""
    budgeted = conditions.budgeted
    if model.name in conditions.distrusted and (budgeted or cap is not None):
        return (
            Elimination.BOUND_EXCEEDED,
            "its upstream reported more than its bound too often, so no cost limit can hold until its declaration is corrected",
        )
    if not budgeted:
        return None
    if worst is None:
        return Elimination.UNPRICEABLE, _why_unpriceable(request, model)
    if worst > MOST_RESERVED_NANO:
        most = dollars(MOST_RESERVED_NANO)
        return Elimination.UNPRICEABLE, f"at worst it costs more than {most} USD, which no budget can reserve"
    return None


def _missing_credential(model: SnapshotModel) -> _Verdict:
    auth = next((upstream.auth for upstream in model.upstreams if upstream.auth is not None), None)
    where = f"key {auth.secret_key!r} of Secret {auth.secret_name!r}" if auth else "its Secret"
    return Elimination.CREDENTIAL_MISSING, f"its credential is missing: {where} does not exist"


def _nothing_beside_thinking(request: NeutralRequest, thinking: int, wanted: int) -> _Verdict | None:
    """Return that the pool's own limit leaves no answer beside reasoning; a contradiction of the client's is the upstream's to tell."""
    named = request.output_limit
    if wanted > thinking or (named is not None and named <= wanted):
        return None
    field = "defaultMaxOutputTokens" if named is None else "maxOutputTokens"
    return (
        Elimination.CLAMP_TOO_SMALL,
        f"its `{field}` leaves {wanted} output tokens, fewer than {thinking + 1}, and the request gives {thinking} to reasoning",
    )


def _why_unpriceable(request: NeutralRequest, model: SnapshotModel) -> str:
    if model.price is None:
        return "it has no `price`, so no limit on costs can hold"
    if request.unpriceable:
        return f"no bound on the cost of this request: {request.unpriceable}"
    if model.overhead_tokens is None:
        return "its `tokenCount.overheadTokens` is not set, so no bound on the input can be given"
    media, name = (
        ("images", "maxTokensPerImage")
        if model.max_tokens_per_image is None and request.images
        else ("audio", "maxTokensPerAudio")
    )
    return f"the request holds {media}, and its `tokenCount.{name}` is not set, so no bound on the input can be given"

"""`compile`: turns one policy and its pool into a snapshot, or says why it cannot. Pure; the one path from YAML to the data plane.

Owns all checks that need both objects. It must not know files, clusters or time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from foresail_api.common import nano_dollars
from foresail_api.compile_attempts import compiled_detection, compiled_fallback, compiled_limits, compiled_timeouts
from foresail_api.compile_budgets import compiled_budgets, compiled_ledger, ledger_warnings
from foresail_api.compile_prices import compiled_price
from foresail_api.policy import Artifact, CostLimits, Objective, RoutingPolicy
from foresail_api.pool import Auth, ModelPool, PoolModel, Upstream
from foresail_api.pricing import Tokenizer
from foresail_api.reasons import ConditionType, Reason
from foresail_api.snapshot import (
    Snapshot,
    SnapshotArtifact,
    SnapshotAuth,
    SnapshotModel,
    SnapshotObjective,
    SnapshotRouter,
    SnapshotTenants,
    SnapshotTokenizer,
    SnapshotUpstream,
)
from foresail_api.tenants import Anonymous, Tenants


class Target(StrEnum):
    """Where the snapshot will be served; decides which references can be reached."""

    CLUSTER = "Cluster"
    LOCAL = "Local"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a policy cannot be served: the condition that is not met, a reason, and a message with the remedy."""

    condition: ConditionType
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Compilation:
    """Either a snapshot or at least one problem. Warnings do not keep a policy from serving."""

    snapshot: Snapshot | None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


def compile_policy(policy: RoutingPolicy, pool: ModelPool | None, target: Target) -> Compilation:
    """Return the snapshot of `policy` with `pool`, or all problems that keep it from serving.

    `pool` is None where the pool that the policy names does not exist.
    """
    if pool is None:
        wanted = policy.spec.pool_ref.name
        message = f"`spec.poolRef.name`: ModelPool {wanted!r} does not exist in namespace {policy.metadata.namespace!r}; create it"
        return Compilation(None, (Problem(ConditionType.RESOLVED_REFS, Reason.POOL_NOT_FOUND, message),))
    problems = [*_reference_problems(policy, pool, target), *_policy_problems(policy, pool, target)]
    if problems:
        return Compilation(None, tuple(problems))
    return Compilation(_snapshot(policy, pool), (), tuple(_warnings(policy, pool, target)))


def pool_models(pool: ModelPool) -> tuple[SnapshotModel, ...]:
    """Return the models of a pool as they stand in every snapshot of it."""
    return tuple(_model(model, pool.metadata.namespace) for model in pool.spec.models)


def _reference_problems(policy: RoutingPolicy, pool: ModelPool, target: Target) -> list[Problem]:
    problems = []
    names = [model.name for model in pool.spec.models]
    default_model = policy.spec.router.default_model
    if default_model is not None and default_model not in names:
        problems.append(
            Problem(
                ConditionType.RESOLVED_REFS,
                Reason.MODEL_NOT_FOUND,
                f"`spec.router.defaultModel`: ModelPool {pool.metadata.name!r} has no model {default_model!r}; it has {', '.join(names)}",
            )
        )
    problems += [
        Problem(
            ConditionType.RESOLVED_REFS,
            Reason.MODEL_NOT_FOUND,
            f"`spec.tenants.rules[{rule.name}].models`: ModelPool {pool.metadata.name!r} has no model {name!r}; it has {', '.join(names)}",
        )
        for rule in policy.spec.tenants.rules
        for name in rule.models
        if name not in names
    ]
    if target == Target.CLUSTER:
        problems += [
            Problem(
                ConditionType.RESOLVED_REFS,
                Reason.TOKENIZER_NOT_REACHABLE,
                f"`spec.models[{model.name}].tokenCount.tokenizer.uri`: `file://` is for `foresail serve` only; put the tokenizer on a volume and use `volumeClaim`",
            )
            for model in pool.spec.models
            if model.token_count.tokenizer is not None and model.token_count.tokenizer.uri is not None
        ]
    if target == Target.LOCAL:
        problems += [
            Problem(
                ConditionType.RESOLVED_REFS,
                Reason.BACKEND_NOT_REACHABLE,
                f"`spec.models[{model.name}].upstreams[{upstream.name}].backendRef`: a Service can be reached inside a cluster only; use `url` with `foresail serve`",
            )
            for model in pool.spec.models
            for upstream in model.upstreams
            if upstream.backend_ref is not None
        ]
    return problems


def _policy_problems(policy: RoutingPolicy, pool: ModelPool, target: Target) -> list[Problem]:
    problems = []
    names = {model.name for model in pool.spec.models}
    taken = [alias for alias in policy.spec.aliases if alias in names]
    if taken:
        problems.append(
            Problem(
                ConditionType.ACCEPTED,
                Reason.ALIAS_CONFLICT,
                f"`spec.aliases`: {', '.join(taken)} is the name of a model of ModelPool {pool.metadata.name!r}; choose another alias",
            )
        )
    artifact = policy.spec.router.artifact
    if target == Target.CLUSTER and artifact is not None and artifact.uri is not None:
        problems.append(
            Problem(
                ConditionType.ACCEPTED,
                Reason.ARTIFACT_NOT_REACHABLE,
                "`spec.router.artifact.uri`: `file://` is for `foresail serve` only; put the artifact on a volume and use `volumeClaim`",
            )
        )
    problems += _sharing_problems(policy, pool)
    limiting = _limiting(policy)
    if limiting is not None and not any(_priceable(model) for model in pool.spec.models):
        problems.append(
            Problem(
                ConditionType.ACCEPTED,
                Reason.NO_PRICEABLE_MODEL,
                f"{limiting} needs a model with `price` and `tokenCount.overheadTokens`; ModelPool {pool.metadata.name!r} has none; set both",
            )
        )
    return problems


def _sharing_problems(policy: RoutingPolicy, pool: ModelPool) -> list[Problem]:
    """Return why several pods cannot hold an upstream's limits together. The pool is another object, so no rule of the API server can say it."""
    limits = policy.spec.cost_limits
    if policy.spec.serving.replicas <= 1 or (limits is not None and limits.on_redis):
        return []
    limited = [
        f"`spec.models[{model.name}].upstreams[{upstream.name}].limits`"
        for model in pool.spec.models
        for upstream in model.upstreams
        if upstream.limits is not None
    ]
    if not limited:
        return []
    return [
        Problem(
            ConditionType.ACCEPTED,
            Reason.LEDGER_NOT_SHARED,
            f"`spec.serving.replicas` must be at most 1 where ModelPool {pool.metadata.name!r} sets {limited[0]}, because every pod would take "
            "as much; set `spec.costLimits.ledger.type` to `Redis`",
        )
    ]


def _warnings(policy: RoutingPolicy, pool: ModelPool, target: Target) -> list[str]:
    # `foresail serve` tells its user more about access than a policy alone can.
    tenants = policy.spec.tenants
    closed = target == Target.CLUSTER and tenants.anonymous == Anonymous.DENY and tenants.api_keys is None
    access = (
        ["every caller gets status 401 until `spec.tenants.apiKeys` is set or `spec.tenants.anonymous` is `Allow`"]
        if closed
        else []
    )
    ledger = ledger_warnings(policy.spec) if target == Target.CLUSTER else ()
    return [*access, *_price_warnings(policy, pool), *ledger]


def _price_warnings(policy: RoutingPolicy, pool: ModelPool) -> list[str]:
    limiting = _limiting(policy)
    if limiting is None:
        return []
    return [
        f"model {model.name!r} is never chosen under {limiting}: set its `{missing}`"
        for model in pool.spec.models
        if not _priceable(model)
        for missing in ["price" if model.price is None else "tokenCount.overheadTokens"]
    ]


def _limiting(policy: RoutingPolicy) -> str | None:
    """Return the field that only models with a known worst case can meet; None where there is none."""
    limits = policy.spec.cost_limits
    if limits is None or (limits.per_request is None and not limits.enforces_budget):
        return None
    return (
        "an enforced budget of `spec.costLimits.budgets`"
        if limits.per_request is None
        else "`spec.costLimits.perRequest`"
    )


def _priceable(model: PoolModel) -> bool:
    return model.price is not None and model.token_count.overhead_tokens is not None


def _snapshot(policy: RoutingPolicy, pool: ModelPool) -> Snapshot:
    spec = policy.spec
    limits = spec.cost_limits or CostLimits()
    return Snapshot(
        namespace=policy.metadata.namespace,
        policy=policy.metadata.name,
        policy_uid=policy.metadata.uid,
        pool=pool.metadata.name,
        aliases=tuple(spec.aliases),
        models=pool_models(pool),
        router=SnapshotRouter(
            strategy=spec.router.strategy,
            artifact=_artifact(spec.router.artifact),
            deadline_milliseconds=spec.router.deadline_milliseconds,
            default_model=spec.router.default_model,
            failure_mode=spec.router.failure_mode,
        ),
        objective=_objective(spec.objective),
        per_request_nano_dollars=None if limits.per_request is None else nano_dollars(limits.per_request),
        budgets=compiled_budgets(limits.budgets),
        ledger=compiled_ledger(limits.ledger),
        on_ledger_unavailable=limits.on_ledger_unavailable,
        anonymous_allowed=spec.tenants.anonymous == Anonymous.ALLOW,
        tenants=_tenants(spec.tenants),
        fallback=compiled_fallback(spec.fallback),
        outlier_detection=compiled_detection(pool.spec.outlier_detection),
    )


def _tenants(tenants: Tenants) -> SnapshotTenants:
    return SnapshotTenants(
        secret_name=None if tenants.api_keys is None else tenants.api_keys.secret_ref.name,
        models={rule.name: tuple(rule.models) for rule in tenants.rules},
    )


def _model(model: PoolModel, namespace: str) -> SnapshotModel:
    return SnapshotModel(
        name=model.name,
        upstreams=tuple(_upstream(upstream, model.name, namespace) for upstream in model.upstreams),
        price=compiled_price(model.price),
        max_tokens_per_byte=model.token_count.max_tokens_per_byte,
        overhead_tokens=model.token_count.overhead_tokens,
        context_window_tokens=model.context_window_tokens,
        max_output_tokens=model.max_output_tokens,
        default_max_output_tokens=model.default_max_output_tokens or model.max_output_tokens,
        min_output_tokens=model.min_output_tokens,
        capabilities=frozenset(model.capabilities),
        max_tokens_per_image=model.token_count.max_tokens_per_image,
        max_tokens_per_audio=model.token_count.max_tokens_per_audio,
        tokenizer=_tokenizer(model.token_count.tokenizer),
    )


def _upstream(upstream: Upstream, model: str, namespace: str) -> SnapshotUpstream:
    return SnapshotUpstream(
        name=upstream.name,
        protocol=upstream.protocol,
        url=_url(upstream, namespace),
        model=upstream.model or model,
        output_limit_field=upstream.output_limit_field,
        auth=_auth(upstream.auth),
        limits=compiled_limits(upstream.limits),
        timeouts=compiled_timeouts(upstream.timeouts),
        on_client_cancel=upstream.on_client_cancel,
        stream_usage=upstream.stream_usage,
    )


def _url(upstream: Upstream, namespace: str) -> str:
    if upstream.backend_ref is None:
        return upstream.url or ""
    backend = upstream.backend_ref
    return f"{backend.scheme}://{backend.name}.{namespace}.svc:{backend.port}{backend.path_prefix}"


def _auth(auth: Auth | None) -> SnapshotAuth | None:
    if auth is None or auth.secret_ref is None:
        return None
    return SnapshotAuth(
        scheme=auth.scheme,
        header_name=auth.header_name or "Authorization",
        secret_name=auth.secret_ref.name,
        secret_key=auth.secret_ref.key,
    )


def _tokenizer(tokenizer: Tokenizer | None) -> SnapshotTokenizer | None:
    if tokenizer is None:
        return None
    claim, uri = tokenizer.volume_claim, tokenizer.uri or ""
    return SnapshotTokenizer(
        claim=None if claim is None else claim.name,
        path=uri.removeprefix("file://") if claim is None else claim.path,
        digest=tokenizer.digest,
    )


def _artifact(artifact: Artifact | None) -> SnapshotArtifact | None:
    if artifact is None:
        return None
    if artifact.volume_claim is not None:
        return SnapshotArtifact(
            claim=artifact.volume_claim.name, path=artifact.volume_claim.path, digest=artifact.digest
        )
    return SnapshotArtifact(claim=None, path=(artifact.uri or "").removeprefix("file://"), digest=artifact.digest)


def _objective(objective: Objective) -> SnapshotObjective:
    if objective.tradeoff is not None:
        return SnapshotObjective(kind="Tradeoff", percent=objective.tradeoff.cost_weight_percent)
    assert objective.cheapest_within_percent_of_best is not None  # noqa: S101  one of both is set, as the model checked
    return SnapshotObjective(
        kind="CheapestWithinPercentOfBest", percent=objective.cheapest_within_percent_of_best.percent
    )

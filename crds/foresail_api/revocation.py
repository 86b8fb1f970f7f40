"""What may still be served while a change is broken: the configuration of before, without what has been taken away since.

Owns what counts as taken away. Everything else of a broken change waits until it is mended.
"""

from __future__ import annotations

from foresail_api.compile import pool_models
from foresail_api.policy import RoutingPolicy, Strategy
from foresail_api.pool import ModelPool
from foresail_api.snapshot import Snapshot, SnapshotModel, SnapshotTenants
from foresail_api.tenants import Anonymous, Tenants


def without_revoked(before: Snapshot, policy: RoutingPolicy, pool: ModelPool) -> Snapshot | None:
    """Return `before` without the models, addresses and credentials that `pool` no longer names; None if nothing can answer.

    Callers whom `policy` no longer admits are not admitted either, and tenants keep no right that it takes from them.
    """
    present = {model.name: model for model in pool_models(pool)}
    kept = [_kept(model, present[model.name]) for model in before.models if model.name in present]
    models = tuple(model for model in kept if model.upstreams)
    default_model = before.router.default_model
    if default_model not in [model.name for model in models]:
        default_model = None
    if not models or (before.router.strategy == Strategy.DEFAULT and default_model is None):
        return None
    return before.model_copy(
        update={
            "models": models,
            "router": before.router.model_copy(update={"default_model": default_model}),
            "anonymous_allowed": before.anonymous_allowed and policy.spec.tenants.anonymous == Anonymous.ALLOW,
            "tenants": _rights_left(before.tenants, policy.spec.tenants),
        }
    )


def _rights_left(before: SnapshotTenants, now: Tenants) -> SnapshotTenants:
    """Return what both grant: keys of the same Secret, and per tenant the models that both allow."""
    secret_name = now.api_keys.secret_ref.name if now.api_keys is not None else None
    allowed = dict(before.models)
    for rule in now.rules:
        allowed[rule.name] = tuple(name for name in rule.models if name in before.models.get(rule.name, rule.models))
    return SnapshotTenants(secret_name=secret_name if secret_name == before.secret_name else None, models=allowed)


def _kept(before: SnapshotModel, now: SnapshotModel) -> SnapshotModel:
    valid = {(upstream.name, upstream.url, upstream.auth) for upstream in now.upstreams}
    upstreams = [upstream for upstream in before.upstreams if (upstream.name, upstream.url, upstream.auth) in valid]
    return before.model_copy(update={"upstreams": tuple(upstreams)})

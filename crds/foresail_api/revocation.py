"""What may still be served while a change is broken: the configuration of before, without what has been taken away since.

Owns what counts as taken away. Everything else of a broken change waits until it is mended.
"""

from __future__ import annotations

from foresail_api.budgets import CalendarUnit
from foresail_api.common import nano_dollars
from foresail_api.compile import pool_models
from foresail_api.compile_budgets import compiled_budgets
from foresail_api.policy import CostLimits, RoutingPolicy, Strategy
from foresail_api.pool import ModelPool
from foresail_api.snapshot import Snapshot, SnapshotModel, SnapshotTenants
from foresail_api.snapshot_budgets import SnapshotBudget
from foresail_api.tenants import Anonymous, Tenants


def without_revoked(before: Snapshot, policy: RoutingPolicy, pool: ModelPool) -> Snapshot | None:
    """Return `before` without the models, addresses and credentials that `pool` no longer names; None if nothing can answer.

    Callers whom `policy` no longer admits are not admitted either, and tenants keep no right that it takes from them.
    Of every limit on cost that both have the lower one holds. The ledger stays: it is where what was spent is known.
    """
    present = {model.name: model for model in pool_models(pool)}
    kept = [_kept(model, present[model.name]) for model in before.models if model.name in present]
    models = tuple(model for model in kept if model.upstreams)
    default_model = before.router.default_model
    if default_model not in [model.name for model in models]:
        default_model = None
    limits = policy.spec.cost_limits or CostLimits()
    if not models or (before.router.strategy == Strategy.DEFAULT and default_model is None):
        return None
    return before.model_copy(
        update={
            "models": models,
            "router": before.router.model_copy(update={"default_model": default_model}),
            "anonymous_allowed": before.anonymous_allowed and policy.spec.tenants.anonymous == Anonymous.ALLOW,
            "tenants": _rights_left(before.tenants, policy.spec.tenants),
            "per_request_nano_dollars": _lower_cap(before.per_request_nano_dollars, limits),
            "budgets": _lower_budgets(before.budgets, compiled_budgets(limits.budgets)),
        }
    )


def _rights_left(before: SnapshotTenants, now: Tenants) -> SnapshotTenants:
    """Return what both grant: keys of the same Secret, and per tenant the models that both allow."""
    secret_name = now.api_keys.secret_ref.name if now.api_keys is not None else None
    allowed = dict(before.models)
    for rule in now.rules:
        allowed[rule.name] = tuple(name for name in rule.models if name in before.models.get(rule.name, rule.models))
    return SnapshotTenants(secret_name=secret_name if secret_name == before.secret_name else None, models=allowed)


def _lower_cap(before: int | None, now: CostLimits) -> int | None:
    # A cap where there was none would need prices that the models of before may lack.
    if before is None or now.per_request is None:
        return before
    return min(before, nano_dollars(now.per_request))


def _lower_budgets(before: tuple[SnapshotBudget, ...], now: tuple[SnapshotBudget, ...]) -> tuple[SnapshotBudget, ...]:
    """Return the budgets of before, each with the lower amounts of both where the window and the scope are still the same."""
    present = {(budget.name, budget.scope, _window(budget)): budget for budget in now}
    return tuple(
        _lower_budget(budget, present.get((budget.name, budget.scope, _window(budget)), budget)) for budget in before
    )


def _window(budget: SnapshotBudget) -> tuple[CalendarUnit | None, str, int | None]:
    return budget.calendar, budget.time_zone, budget.rolling_seconds


def _lower_budget(before: SnapshotBudget, now: SnapshotBudget) -> SnapshotBudget:
    tenants = {*before.overrides_nano_dollars, *now.overrides_nano_dollars}
    return before.model_copy(
        update={
            "amount_nano_dollars": min(before.amount_nano_dollars, now.amount_nano_dollars),
            "overrides_nano_dollars": {
                name: min(before.limit_of(name), now.limit_of(name)) for name in sorted(tenants)
            },
            "overdraft_nano_dollars": min(before.overdraft_nano_dollars, now.overdraft_nano_dollars),
        }
    )


def _kept(before: SnapshotModel, now: SnapshotModel) -> SnapshotModel:
    valid = {(upstream.name, upstream.url, upstream.auth) for upstream in now.upstreams}
    upstreams = [upstream for upstream in before.upstreams if (upstream.name, upstream.url, upstream.auth) in valid]
    return before.model_copy(update={"upstreams": tuple(upstreams)})

"""The part of `compile` about budgets and their ledger: from what users write to what a snapshot holds, and what deserves a warning. Pure.

Owns those conversions. It must not know the rest of either kind.
"""

from __future__ import annotations

from collections.abc import Sequence

from foresail_api.budgets import Budget
from foresail_api.common import nano_dollars
from foresail_api.ledgers import Ledger
from foresail_api.policy import RoutingPolicySpec
from foresail_api.snapshot_budgets import SnapshotBudget, SnapshotLedger
from foresail_api.tenants import ANONYMOUS_NAME

_NO_TENANT = ""


def compiled_budgets(budgets: Sequence[Budget]) -> tuple[SnapshotBudget, ...]:
    """Return the budgets of a policy, in the same order."""
    return tuple(map(_budget, budgets))


def compiled_ledger(ledger: Ledger | None) -> SnapshotLedger:
    """Return where spend is kept: in an embedded ledger where a policy does not say."""
    if ledger is None:
        return SnapshotLedger()
    redis, storage = ledger.redis, ledger.storage
    secret = None if redis is None else redis.secret_ref
    authorities = None if redis is None else redis.ca_secret_ref
    return SnapshotLedger(
        type=ledger.type,
        url=None if redis is None else redis.url,
        username=None if redis is None else redis.username,
        secret_name=None if secret is None else secret.name,
        secret_key=None if secret is None else secret.key,
        ca_secret_name=None if authorities is None else authorities.name,
        ca_secret_key=None if authorities is None else authorities.key,
        claim=None if storage is None else storage.volume_claim_name,
        timeout_milliseconds=ledger.timeout_milliseconds,
    )


def ledger_warnings(spec: RoutingPolicySpec) -> tuple[str, ...]:
    """Return what is to be known of a policy's ledger in a cluster."""
    limits = spec.cost_limits
    if limits is None or not limits.budgets or limits.on_redis:
        return ()
    if spec.serving.replicas > 1:
        return (
            "every pod counts its own requests only: set `spec.costLimits.ledger.type` to `Redis` to count them together",
        )
    if limits.ledger is not None and limits.ledger.storage is not None:
        return ()
    return (
        "LedgerNotDurable: what was spent of the budgets is forgotten when the pod is replaced; "
        "set `spec.costLimits.ledger.storage`, or `spec.costLimits.ledger.type` to `Redis`",
    )


def _budget(budget: Budget) -> SnapshotBudget:
    calendar, rolling = budget.window.calendar, budget.window.rolling
    return SnapshotBudget(
        name=budget.name,
        amount_nano_dollars=nano_dollars(budget.amount),
        overrides_nano_dollars={_tenant(each.tenant): nano_dollars(each.amount) for each in budget.overrides},
        calendar=None if calendar is None else calendar.unit,
        time_zone="UTC" if calendar is None else calendar.time_zone,
        rolling_seconds=None if rolling is None else rolling.seconds,
        scope=budget.scope,
        soft_threshold_percent=budget.soft_threshold_percent,
        hard_action=budget.hard_action,
        overdraft_nano_dollars=nano_dollars(budget.overdraft or "0"),
        mode=budget.mode,
    )


def _tenant(name: str) -> str:
    return _NO_TENANT if name == ANONYMOUS_NAME else name

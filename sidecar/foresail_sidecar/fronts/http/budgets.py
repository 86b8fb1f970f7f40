"""`GET /v1/budgets`: what the caller has spent of each budget, and what is left of it.

Owns the JSON of a budget. It must not know how a ledger keeps accounts.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from foresail_api.budgets import BudgetMode, BudgetScope
from foresail_router.decision.price import dollars
from foresail_sidecar.flow.budgets import PolicyBudget, ledger_refusal
from foresail_sidecar.fronts.http import limit_errors
from foresail_sidecar.fronts.http.callers import caller_of
from foresail_sidecar.fronts.http.context import CONTEXT
from foresail_sidecar.fronts.http.errors import Refused
from foresail_sidecar.ledger.interface import LedgerError, Usage


async def show_budgets(request: web.Request) -> web.Response:
    """Answer with the accounts of the caller alone; money as decimal strings of US dollars."""
    context = request.app[CONTEXT]
    served = context.served(context.serving.current)
    policy = served.policy
    tenant = caller_of(request.headers, policy.state).tenant
    data: list[dict[str, Any]] = []
    if policy.budgets:
        ledger = context.ledgers.of(policy.state)
        if ledger is None:
            raise _refused(None)
        try:
            usages = await ledger.usage(policy.budgets.claims(tenant, ledger.now_ms()))
        except LedgerError as error:
            raise _refused(error) from None
        data = [budget_document(*each, tenant) for each in zip(policy.budgets.each, usages, strict=True)]
    return web.json_response({"object": "list", "data": data})


def budget_document(budget: PolicyBudget, usage: Usage, tenant: str) -> dict[str, Any]:
    """Return one budget as the tenant sees it, as JSON values."""
    rule = budget.rule
    amount = rule.limit_of(tenant)
    return {
        "name": rule.name,
        "scope": BudgetScope.TENANT if rule.per_tenant else BudgetScope.POLICY,
        "mode": BudgetMode.ENFORCE if rule.enforced else BudgetMode.OBSERVE,
        "amount_usd": dollars(amount),
        "spent_usd": dollars(usage.spent),
        "reserved_usd": dollars(usage.reserved),
        "remaining_usd": dollars(max(0, amount - usage.spent - usage.reserved)),
        "overdraft_usd": dollars(rule.overdraft),
        "soft_threshold_percent": budget.soft_threshold_percent,
        "window_end": None if usage.ends_ms is None else limit_errors.rfc3339(usage.ends_ms),
    }


def _refused(error: LedgerError | None) -> Refused:
    return Refused(limit_errors.refusal(ledger_refusal(error)))

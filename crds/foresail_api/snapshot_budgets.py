"""The part of a snapshot about budgets and the ledger that keeps them: resolved, in whole nano-dollars.

Owns these fields. It must not know the kinds they were compiled from, nor what was spent.
"""

from __future__ import annotations

from collections.abc import Mapping

from foresail_api.budgets import BudgetMode, BudgetScope, CalendarUnit, HardAction
from foresail_api.frozen import Frozen
from foresail_api.ledgers import LedgerType


class SnapshotBudget(Frozen):
    """What may be spent in a window: either one of the calendar (`calendar`, `time_zone`) or the last `rolling_seconds`.

    `overrides_nano_dollars` holds, by tenant, another amount than the budget's own, where the scope is `Tenant`; callers
    without a key are the tenant of the empty name. Amounts can be 0. `soft_threshold_percent` is None where cost does not gain weight.
    """

    name: str
    amount_nano_dollars: int
    overrides_nano_dollars: Mapping[str, int] = {}
    calendar: CalendarUnit | None
    time_zone: str = "UTC"
    rolling_seconds: int | None
    scope: BudgetScope = BudgetScope.POLICY
    soft_threshold_percent: int | None = None
    hard_action: HardAction = HardAction.REJECT
    overdraft_nano_dollars: int = 0
    mode: BudgetMode = BudgetMode.ENFORCE

    @property
    def per_tenant(self) -> bool:
        """Whether each tenant has an account of its own."""
        return self.scope == BudgetScope.TENANT

    @property
    def enforced(self) -> bool:
        """Whether it ever refuses."""
        return self.mode == BudgetMode.ENFORCE

    def limit_of(self, tenant: str) -> int:
        """Return what this tenant may spend of it, in nano-dollars, the overdraft not included."""
        return self.overrides_nano_dollars.get(tenant, self.amount_nano_dollars)


class SnapshotLedger(Frozen):
    """Where spend is kept. `url` is None for an embedded ledger, `claim` for one without a volume of its own.

    The password of a Redis is in `secret_key` of `secret_name`; both are None where it needs none. The certificates of the authorities
    that may have signed its own are in `ca_secret_key` of `ca_secret_name`; both are None where those of the machine may.
    """

    type: LedgerType = LedgerType.EMBEDDED
    url: str | None = None
    username: str | None = None
    secret_name: str | None = None
    secret_key: str | None = None
    ca_secret_name: str | None = None
    ca_secret_key: str | None = None
    claim: str | None = None
    timeout_milliseconds: int = 500

"""What a policy's budgets mean for one request: what it claims of them, how much they press, what a denial says.

Owns the words of a refusal and how near a budget is to its end. It must not know how a ledger keeps accounts, HTTP, or
attempts. Pure; money is in whole nano-dollars.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from foresail_api.budgets import HardAction
from foresail_api.ledgers import OnLedgerUnavailable
from foresail_api.snapshot import Snapshot
from foresail_api.snapshot_budgets import SnapshotBudget
from foresail_sidecar.ledger.accounts import (
    BudgetRule,
    CalendarWindow,
    RollingWindow,
    budget_account,
    claims_of,
    zone_of,
)
from foresail_sidecar.ledger.interface import Claim, Denied, LedgerClosed, LedgerError, Shortage, Usage
from foresail_sidecar.ledger.windows import rolling_span

FULL_PERCENT: Final = 100
_MINUTE_MS: Final = 60_000
_MOST_KEPT: Final = 1024


@dataclass(frozen=True, slots=True)
class PolicyBudget:
    """One budget. `cheapest` says that the cheapest model goes on, into its overdraft, when the amount is used up."""

    rule: BudgetRule
    soft_threshold_percent: int | None = None
    cheapest: bool = False

    @classmethod
    def of(cls, budget: SnapshotBudget) -> PolicyBudget:
        """Return the budget that a snapshot holds."""
        window: CalendarWindow | RollingWindow
        if budget.calendar is not None:
            window = CalendarWindow(budget.calendar, budget.time_zone)
        else:
            window = RollingWindow(budget.rolling_seconds or 0)
        rule = BudgetRule(
            name=budget.name,
            amount=budget.amount_nano_dollars,
            window=window,
            per_tenant=budget.per_tenant,
            overrides=budget.overrides_nano_dollars,
            overdraft=budget.overdraft_nano_dollars,
            enforced=budget.enforced,
        )
        return cls(rule, budget.soft_threshold_percent, budget.hard_action == HardAction.CHEAPEST)

    def account(self, tenant: str) -> str:
        """Return the account that this tenant's requests are counted in."""
        return budget_account(self.rule.name, tenant if self.rule.per_tenant else None)

    def is_over(self, usage: Usage, now_ms: int) -> bool:
        """Return whether nothing of what was seen counts any more.

        Of a rolling window, `ends_ms` is when its oldest use leaves; the rest goes on to count.
        """
        window = self.rule.window
        if isinstance(window, RollingWindow):
            span = rolling_span(window.seconds)
            return usage.slot_ms + span.bucket_ms + span.span_ms <= now_ms
        return usage.ends_ms is not None and usage.ends_ms <= now_ms

    @property
    def presses(self) -> bool:
        """Whether it ever makes a choice cheaper."""
        return self.rule.enforced and (self.cheapest or self.soft_threshold_percent is not None)

    def pressure_percent(self, tenant: str, spent: int) -> int:
        """Return 0 below the soft threshold, from there linearly up to 100 where the amount is spent."""
        if not self.presses:
            return 0
        limit = self.rule.limit_of(tenant)
        if spent >= limit:
            return FULL_PERCENT
        soft = self.soft_threshold_percent
        if soft is None or spent * FULL_PERCENT <= limit * soft:
            return 0
        return (spent * FULL_PERCENT - limit * soft) * FULL_PERCENT // (limit * (FULL_PERCENT - soft))


@dataclass(frozen=True, slots=True)
class Budgets:
    """All budgets of a policy. `fail_open` says that requests go on while the ledger is away."""

    each: tuple[PolicyBudget, ...] = ()
    fail_open: bool = False
    _claims: dict[tuple[str, int], tuple[Claim, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """What tenants claim in one minute."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> Budgets:
        """Return the budgets of the policy in `snapshot`."""
        each = tuple(PolicyBudget.of(budget) for budget in snapshot.budgets)
        return cls(each, snapshot.on_ledger_unavailable == OnLedgerUnavailable.FAIL_OPEN)

    def __bool__(self) -> bool:
        return bool(self.each)

    @property
    def overdraw(self) -> bool:
        """Whether one of them lets the cheapest model go on when it is used up."""
        return any(budget.cheapest for budget in self.each)

    @property
    def enforced(self) -> bool:
        """Whether one of them can refuse anything."""
        return any(budget.rule.enforced for budget in self.each)

    def read_time_zones(self) -> None:
        """Read the files of the time zones, so that no claim has to. Blocks."""
        for budget in self.each:
            if isinstance(budget.rule.window, CalendarWindow):
                zone_of(budget.rule.window.time_zone)

    def claims(self, tenant: str, now_ms: int) -> tuple[Claim, ...]:
        """Return one claim for each budget, in their order."""
        # They hold for the minute: the window after the present one is part of them.
        minute = now_ms // _MINUTE_MS
        kept = self._claims.get((tenant, minute))
        if kept is None:
            if len(self._claims) >= _MOST_KEPT:
                self._claims.clear()
            kept = self._claims[tenant, minute] = claims_of([budget.rule for budget in self.each], tenant, now_ms)
        return kept

    def shared_claims(self, now_ms: int) -> tuple[Claim, ...]:
        """Return the claims of those budgets that all tenants share."""
        return claims_of([budget.rule for budget in self.each if not budget.rule.per_tenant], "", now_ms)

    def pressure_percent(self, tenant: str, seen: Callable[[str], Usage | None], now_ms: int) -> int:
        """Return the highest pressure of them; `seen` says what is known of an account. Only what was spent presses.

        Money that requests in flight hold is mostly given back, and must not make a choice worse.
        """
        highest = 0
        for budget in self.each:
            if not budget.presses:
                continue
            usage = seen(budget.account(tenant))
            spent = 0 if usage is None or budget.is_over(usage, now_ms) else usage.spent
            highest = max(highest, budget.pressure_percent(tenant, spent))
        return highest


class RefusalReason(StrEnum):
    """Why the budgets let a request not through."""

    EXHAUSTED = "BudgetExhausted"
    RESERVED = "BudgetReserved"
    UNAVAILABLE = "LedgerUnavailable"
    CLOSED = "LedgerRestoring"


@dataclass(frozen=True, slots=True)
class BudgetRefusal:
    """A request that the budgets do not let through, with one account's figures at the moment of it.

    `budget` is None where no budget but the ledger is the reason. `ends_ms` is the end of the budget's window; `limit`
    includes the overdraft where the request may overdraw; `needed` is the least that an answer can cost at worst.
    """

    reason: RefusalReason
    retry_after_seconds: float = 1.0
    budget: str | None = None
    ends_ms: int | None = None
    spent: int = 0
    reserved: int = 0
    limit: int = 0
    needed: int = 0


def budget_refusal(denied: Denied, budgets: Budgets, tenant: str) -> BudgetRefusal:
    """Return what a denial for want of money means. Money that is only reserved may come back; money that is spent does not before the window ends."""
    names = {budget.account(tenant): budget.rule.name for budget in budgets.each}
    by_option = shortages_by_option(denied).values()
    hopeful = [each for each in by_option if not any(map(is_exhausted, each))]
    if hopeful:
        return _refusal(RefusalReason.RESERVED, 1.0, max(hopeful[0], key=_missing), names)
    # The option that can be had first, and of its budgets the one that is waited for longest.
    last = [max(filter(is_exhausted, each), key=_end) for each in by_option]
    shortage = min(last, key=_end)
    end = denied.now_ms if shortage.ends_ms is None else shortage.ends_ms
    return _refusal(RefusalReason.EXHAUSTED, (end - denied.now_ms) / 1000, shortage, names)


def ledger_refusal(error: LedgerError | None) -> BudgetRefusal:
    """Return what it means that a ledger gave no answer, or (None) that there is no ledger."""
    if isinstance(error, LedgerClosed):
        return BudgetRefusal(RefusalReason.CLOSED, error.opens_in_seconds)
    return BudgetRefusal(RefusalReason.UNAVAILABLE)


def shortages_by_option(denied: Denied) -> Mapping[int, Sequence[Shortage]]:
    """Return what each option lacked."""
    found: dict[int, list[Shortage]] = defaultdict(list)
    for shortage in denied.shortages:
        found[shortage.option].append(shortage)
    return found


def is_exhausted(shortage: Shortage) -> bool:
    """Return whether a budget lacks money that is spent, so that nothing under way can help."""
    return shortage.spent + shortage.needed > shortage.limit


def _refusal(reason: RefusalReason, seconds: float, shortage: Shortage, names: dict[str, str]) -> BudgetRefusal:
    return BudgetRefusal(
        reason=reason,
        retry_after_seconds=seconds,
        budget=names.get(shortage.account),
        ends_ms=shortage.ends_ms,
        spent=shortage.spent,
        reserved=shortage.reserved,
        limit=shortage.limit,
        needed=shortage.needed,
    )


def _missing(shortage: Shortage) -> int:
    return shortage.spent + shortage.reserved + shortage.needed - shortage.limit


def _end(shortage: Shortage) -> float:
    return float("inf") if shortage.ends_ms is None else shortage.ends_ms

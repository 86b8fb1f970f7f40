"""Which accounts an attempt claims: those of a policy's budgets, for a tenant, and those of an upstream's limits.

Owns the names of accounts and what is claimed of them. It must not know how a ledger keeps them. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote
from zoneinfo import ZoneInfo

from foresail_api.budgets import CalendarUnit
from foresail_sidecar.ledger.interface import CalendarSpan, Claim, Held, Measure, RollingSpan, Span
from foresail_sidecar.ledger.windows import calendar_windows, rolling_span

_MINUTE_MS = 60_000
_HELD = Held()
_RATE = rolling_span(60)


@dataclass(frozen=True, slots=True)
class CalendarWindow:
    """A calendar unit in a time zone."""

    unit: CalendarUnit
    time_zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class RollingWindow:
    """The last so many seconds."""

    seconds: int


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """A budget of a policy. Amounts are in nano-dollars; `overrides` give tenants an amount of their own."""

    name: str
    amount: int
    window: CalendarWindow | RollingWindow
    per_tenant: bool = False
    overrides: Mapping[str, int] = field(default_factory=dict)
    overdraft: int = 0
    enforced: bool = True

    def limit_of(self, tenant: str) -> int:
        """Return what this tenant may use of it."""
        return self.overrides.get(tenant, self.amount) if self.per_tenant else self.amount


@dataclass(frozen=True, slots=True)
class UpstreamRule:
    """What an upstream takes at most; None: no limit."""

    concurrent_requests: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


def claims_of(budgets: Sequence[BudgetRule], tenant: str, now_ms: int) -> tuple[Claim, ...]:
    """Return one claim for each budget of a policy, in the same order."""
    return tuple(
        Claim(
            account=budget_account(budget.name, tenant if budget.per_tenant else None),
            span=_span(budget.window, now_ms),
            measure=Measure.MONEY,
            limit=budget.limit_of(tenant),
            overdraft=budget.overdraft,
            enforced=budget.enforced,
        )
        for budget in budgets
    )


def upstream_claims(rule: UpstreamRule, model: str, upstream: str, tokens: int) -> tuple[Claim, ...]:
    """Return one claim for each limit of an upstream, for one request of at most `tokens` tokens."""
    wanted: tuple[tuple[Measure, Span, int | None, int], ...] = (
        (Measure.SLOTS, _HELD, rule.concurrent_requests, 1),
        (Measure.REQUESTS, _RATE, rule.requests_per_minute, 1),
        (Measure.TOKENS, _RATE, rule.tokens_per_minute, tokens),
    )
    return tuple(
        Claim(upstream_account(model, upstream, measure), span, measure, limit, amount=amount)
        for measure, span, limit, amount in wanted
        if limit is not None
    )


@lru_cache(maxsize=4096)
def budget_account(budget: str, tenant: str | None) -> str:
    """Return the account of a budget, of one tenant or (None) of all together."""
    return f"b|{_quoted(budget)}|{_quoted(tenant or '')}"


@lru_cache(maxsize=4096)
def upstream_account(model: str, upstream: str, measure: Measure) -> str:
    """Return the account of one limit of an upstream."""
    return f"u|{_quoted(model)}|{_quoted(upstream)}|{measure}"


def _span(window: CalendarWindow | RollingWindow, now_ms: int) -> CalendarSpan | RollingSpan:
    if isinstance(window, RollingWindow):
        return rolling_span(window.seconds)
    return _windows(window.unit, window.time_zone, now_ms // _MINUTE_MS)


@lru_cache(maxsize=256)
def _windows(unit: CalendarUnit, time_zone: str, minute: int) -> CalendarSpan:
    # The window after the present one is part of it, so one computation serves the whole minute.
    return calendar_windows(unit, zone_of(time_zone), minute * _MINUTE_MS)


@lru_cache(maxsize=256)
def zone_of(name: str) -> ZoneInfo:
    """Return a time zone, which is kept: the first time, its file is read."""
    return ZoneInfo(name)


def _quoted(name: str) -> str:
    return quote(name, safe="")

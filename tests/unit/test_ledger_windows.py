"""Windows of time zones over every change of their clocks, rolling spans, and the claims of budgets and upstreams."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foresail_api.budgets import CalendarUnit
from foresail_sidecar.ledger.accounts import (
    BudgetRule,
    CalendarWindow,
    RollingWindow,
    UpstreamRule,
    claims_of,
    upstream_claims,
)
from foresail_sidecar.ledger.interface import CalendarSpan, Held, Measure, RollingSpan
from foresail_sidecar.ledger.windows import calendar_windows, rolling_span, slot_of

HOUR_MS = 3_600_000
BERLIN = "Europe/Berlin"
NEW_YORK = "America/New_York"
LORD_HOWE = "Australia/Lord_Howe"


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def utc(moment_ms: int) -> str:
    return datetime.fromtimestamp(moment_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M")


def around(unit: CalendarUnit, zone: str, now: str) -> tuple[str, str]:
    _, (start, end), _ = calendar_windows(unit, ZoneInfo(zone), ms(now)).windows
    return utc(start), utc(end)


@pytest.mark.parametrize(
    ("unit", "zone", "now", "start", "end"),
    [
        # Summer time begins: a day of 23 hours; and ends: one of 25.
        (CalendarUnit.DAY, BERLIN, "2026-03-29T12:00+00:00", "2026-03-28T23:00", "2026-03-29T22:00"),
        (CalendarUnit.DAY, BERLIN, "2026-10-25T12:00+00:00", "2026-10-24T22:00", "2026-10-25T23:00"),
        (CalendarUnit.DAY, NEW_YORK, "2026-03-08T12:00+00:00", "2026-03-08T05:00", "2026-03-09T04:00"),
        (CalendarUnit.DAY, NEW_YORK, "2026-11-01T12:00+00:00", "2026-11-01T04:00", "2026-11-02T05:00"),
        # The month's end is local, and its length too.
        (CalendarUnit.MONTH, BERLIN, "2026-03-31T21:59+00:00", "2026-02-28T23:00", "2026-03-31T22:00"),
        (CalendarUnit.MONTH, BERLIN, "2026-03-31T22:00+00:00", "2026-03-31T22:00", "2026-04-30T22:00"),
        (CalendarUnit.MONTH, NEW_YORK, "2026-11-01T03:59+00:00", "2026-10-01T04:00", "2026-11-01T04:00"),
        (CalendarUnit.MONTH, NEW_YORK, "2026-11-01T04:00+00:00", "2026-11-01T04:00", "2026-12-01T05:00"),
        (CalendarUnit.MONTH, NEW_YORK, "2024-02-29T12:00+00:00", "2024-02-01T05:00", "2024-03-01T05:00"),
        (CalendarUnit.MONTH, "UTC", "2026-12-31T23:59+00:00", "2026-12-01T00:00", "2027-01-01T00:00"),
        # Weeks begin on Monday.
        (CalendarUnit.WEEK, BERLIN, "2026-03-29T12:00+00:00", "2026-03-22T23:00", "2026-03-29T22:00"),
        (CalendarUnit.WEEK, NEW_YORK, "2026-11-02T04:59+00:00", "2026-10-26T04:00", "2026-11-02T05:00"),
        # The hour that the clock repeats is two windows.
        (CalendarUnit.HOUR, BERLIN, "2026-10-25T00:30+00:00", "2026-10-25T00:00", "2026-10-25T01:00"),
        (CalendarUnit.HOUR, BERLIN, "2026-10-25T01:30+00:00", "2026-10-25T01:00", "2026-10-25T02:00"),
        (CalendarUnit.HOUR, "Asia/Kolkata", "2026-01-01T00:10+00:00", "2025-12-31T23:30", "2026-01-01T00:30"),
        # A change by half an hour: the half hours beside it are windows of their own.
        (CalendarUnit.HOUR, LORD_HOWE, "2026-04-04T14:59+00:00", "2026-04-04T14:00", "2026-04-04T15:00"),
        (CalendarUnit.HOUR, LORD_HOWE, "2026-04-04T15:10+00:00", "2026-04-04T15:00", "2026-04-04T15:30"),
        (CalendarUnit.HOUR, LORD_HOWE, "2026-10-03T15:40+00:00", "2026-10-03T15:30", "2026-10-03T16:00"),
        # Midnights that the clock skips or repeats, and a date that a zone never had.
        (CalendarUnit.DAY, "Africa/Cairo", "2025-04-25T12:00+00:00", "2025-04-24T22:00", "2025-04-25T21:00"),
        (CalendarUnit.DAY, "America/Havana", "2026-11-01T05:30+00:00", "2026-11-01T04:00", "2026-11-02T05:00"),
        (CalendarUnit.DAY, "America/St_Johns", "2010-11-07T02:45+00:00", "2010-11-07T02:30", "2010-11-08T03:30"),
        (CalendarUnit.DAY, "Pacific/Apia", "2011-12-30T10:30+00:00", "2011-12-30T10:00", "2011-12-31T10:00"),
    ],
)
def test_a_window_begins_and_ends_by_the_local_clock(
    unit: CalendarUnit, zone: str, now: str, start: str, end: str
) -> None:
    assert around(unit, zone, now) == (start, end)


@settings(max_examples=300, deadline=None)
@given(
    unit=st.sampled_from(list(CalendarUnit)),
    zone=st.sampled_from([BERLIN, NEW_YORK, LORD_HOWE, "UTC", "Asia/Kathmandu", "America/St_Johns", "Africa/Cairo"]),
    now=st.integers(ms("2001-01-01T00:00+00:00"), ms("2037-12-31T00:00+00:00")),
)
def test_windows_follow_each_other_and_each_moment_of_one_gives_the_same(
    unit: CalendarUnit, zone: str, now: int
) -> None:
    known = ZoneInfo(zone)
    windows = calendar_windows(unit, known, now).windows
    (_, (start, end), after) = windows
    assert all(left[1] == right[0] for left, right in pairwise(windows))
    assert start <= now < end
    assert calendar_windows(unit, known, start).windows == windows
    assert calendar_windows(unit, known, end - 1).windows == windows
    assert calendar_windows(unit, known, end).windows[1] == after


def test_a_rolling_span_has_sixty_buckets_and_none_shorter_than_a_second() -> None:
    assert rolling_span(86_400) == RollingSpan(86_400_000, 1_440_000)
    assert rolling_span(60) == RollingSpan(60_000, 1000)


def test_a_slot_is_the_window_or_bucket_that_holds_the_moment() -> None:
    span = CalendarSpan(((100, 200), (200, 300)))
    assert slot_of(span, 199) == (100, 200)
    assert slot_of(span, 200) == (200, 300)
    assert slot_of(span, 300) is None
    assert slot_of(RollingSpan(60_000, 1000), 5_999) == (5_000, 66_000)
    assert slot_of(Held(), 7) == (0, None)


def test_a_budget_claims_the_account_of_all_or_of_the_tenant_with_its_amount() -> None:
    rules = [
        BudgetRule("all", 500, CalendarWindow(CalendarUnit.DAY, BERLIN)),
        BudgetRule("each", 100, RollingWindow(3600), per_tenant=True, overrides={"big": 900}, overdraft=7),
        BudgetRule("watched", 1, CalendarWindow(CalendarUnit.HOUR), enforced=False),
    ]
    now = ms("2026-03-29T12:00+00:00")
    every, each, watched = claims_of(rules, "big", now)
    assert (every.account, every.limit, every.measure) == ("b|all|", 500, Measure.MONEY)
    assert every.span == calendar_windows(CalendarUnit.DAY, ZoneInfo(BERLIN), now)
    assert (each.account, each.limit, each.overdraft, each.span) == ("b|each|big", 900, 7, rolling_span(3600))
    assert claims_of(rules, "small", now)[1].limit == 100
    assert not watched.enforced


def test_names_cannot_reach_into_anothers_account() -> None:
    rule = BudgetRule("a|b", 1, RollingWindow(60), per_tenant=True)
    assert claims_of([rule], "c", 0)[0].account == "b|a%7Cb|c"


def test_an_upstream_claims_only_the_limits_that_it_declares() -> None:
    held, requests, tokens = upstream_claims(UpstreamRule(4, 60, 1000), "org/m", "eu", 250)
    assert (held.account, held.span, held.limit, held.amount) == ("u|org%2Fm|eu|slots", Held(), 4, 1)
    assert (requests.measure, requests.limit, requests.amount) == (Measure.REQUESTS, 60, 1)
    assert (tokens.measure, tokens.limit, tokens.amount) == (Measure.TOKENS, 1000, 250)
    assert tokens.span == RollingSpan(60_000, 1000)
    assert upstream_claims(UpstreamRule(), "m", "eu", 250) == ()

"""Which windows a moment lies in: calendar hours, days, weeks and months of a time zone, and rolling spans.

Owns the arithmetic of local time. It must not know budgets or ledgers' storage. Pure; moments are integers,
milliseconds of the Unix epoch.

The windows of one unit and zone follow each other without gap or overlap, through every change of the zone's offset:
a day of summer time's beginning has 23 hours, an hour that the clock repeats is two windows.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from foresail_api.budgets import CalendarUnit
from foresail_sidecar.ledger.interface import CalendarSpan, RollingSpan, Span

_HOUR = 3600
_BUCKETS = 60
_LEAST_BUCKET_MS = 1000


def calendar_windows(unit: CalendarUnit, zone: ZoneInfo, now_ms: int) -> CalendarSpan:
    """Return the windows before, around and after now."""
    now = now_ms // 1000
    seconds = _hours(zone, now) if unit == CalendarUnit.HOUR else _dated(unit, zone, now)
    return CalendarSpan(tuple((start * 1000, end * 1000) for start, end in seconds))


def rolling_span(seconds: int) -> RollingSpan:
    """Return the span of the last `seconds`, in sixty buckets, none shorter than a second."""
    return RollingSpan(seconds * 1000, max(_LEAST_BUCKET_MS, seconds * 1000 // _BUCKETS))


def slot_of(span: Span, now_ms: int) -> tuple[int, int | None] | None:
    """Return the start of the window or bucket that holds now and the moment when what it holds counts no longer
    (None: never); None if no window holds now.
    """
    if isinstance(span, CalendarSpan):
        for window in span.windows:
            if window[0] <= now_ms < window[1]:
                return window
        return None
    if isinstance(span, RollingSpan):
        start = now_ms - now_ms % span.bucket_ms
        return start, start + span.bucket_ms + span.span_ms
    return 0, None


def _dated(unit: CalendarUnit, zone: ZoneInfo, now: int) -> tuple[tuple[int, int], ...]:
    first = _first_date(unit, datetime.fromtimestamp(now, zone).date())
    # Two on either side, because a zone's clock may go back over midnight, and some zones have skipped a whole day.
    dates = [first]
    for _ in range(2):
        dates.insert(0, _first_date(unit, dates[0] - timedelta(days=1)))
    for _ in range(3):
        dates.append(_next_date(unit, dates[-1]))
    windows = list(pairwise(sorted({_midnight(zone, each) for each in dates})))
    around = next(index for index, (start, end) in enumerate(windows) if start <= now < end)
    return tuple(windows[around - 1 : around + 2])


def _first_date(unit: CalendarUnit, day: date) -> date:
    match unit:
        case CalendarUnit.WEEK:
            return day - timedelta(days=day.weekday())
        case CalendarUnit.MONTH:
            return day.replace(day=1)
        case _:
            return day


def _next_date(unit: CalendarUnit, first: date) -> date:
    match unit:
        case CalendarUnit.WEEK:
            return first + timedelta(days=7)
        case CalendarUnit.MONTH:
            return _first_date(unit, first + timedelta(days=31))
        case _:
            return first + timedelta(days=1)


def _midnight(zone: ZoneInfo, day: date) -> int:
    # With fold 0 a midnight that the clock skips is the moment of the skip, and one that it repeats is the first.
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def _hours(zone: ZoneInfo, now: int) -> tuple[tuple[int, int], ...]:
    around = _hour(zone, now)
    return _hour(zone, around[0] - 1), around, _hour(zone, around[1])


def _hour(zone: ZoneInfo, now: int) -> tuple[int, int]:
    offset = _offset(zone, now)
    start = (now + offset) // _HOUR * _HOUR - offset
    end = start + _HOUR
    # An offset that changes by less than an hour cuts the hour around it short.
    if _offset(zone, start) != offset:
        start = _change(zone, start, now)
    if _offset(zone, end - 1) != offset:
        end = _change(zone, now, end - 1)
    return start, end


def _change(zone: ZoneInfo, before: int, after: int) -> int:
    """Return the first second of the offset that holds at `after`."""
    offset = _offset(zone, after)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(zone, middle) == offset:
            after = middle
        else:
            before = middle
    return after


def _offset(zone: ZoneInfo, moment: int) -> int:
    offset = datetime.fromtimestamp(moment, UTC).astimezone(zone).utcoffset() or timedelta()
    return int(offset.total_seconds())

"""When periods begin and end: anchors, boundaries, charging windows.

Boundary n is a pure function of (anchor, interval, n, zone), never "the previous one and a month": a
clamped month (31 Jan, 28 Feb) does not move the months after it. Civil times are those of the
subscription's IANA zone, instants are UTC. A civil time that does not exist (the clock jumps over it)
is the first instant after the gap; one that exists twice is the first of the two.
Boundaries never go back. Two of them meet only where a zone left out a whole day (Samoa in 2011).
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache
from typing import assert_never
from zoneinfo import ZoneInfo, available_timezones

_NOT_A_PLACE = frozenset({"Factory", "localtime", "posixrules"})


class IntervalUnit(StrEnum):
    """What a billing interval is counted in."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


MAX_INTERVAL_COUNT = {
    IntervalUnit.DAY: 3660,
    IntervalUnit.WEEK: 520,
    IntervalUnit.MONTH: 120,
    IntervalUnit.YEAR: 10,
}
"""Ten years: longer periods are slips of a keyboard, and would run out of datetime's calendar."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The length of a period. Raises `ValueError` for a count outside 1 to about ten years."""

    unit: IntervalUnit
    count: int

    def __post_init__(self) -> None:
        most = MAX_INTERVAL_COUNT[self.unit]
        if not 1 <= self.count <= most:
            raise ValueError(f"interval.count is {self.count}, expected 1 to {most} {self.unit}s")


@dataclass(frozen=True, slots=True)
class Anchor:
    """What never changes while periods follow each other.

    `at` is the civil time (no zone on it) of the first anchored boundary; `day` the day of the month
    that is wanted, 1 to 31, of meaning for months and years only; `zone` an IANA name. With
    `odd_start_at` (UTC) period 0 runs from there to the first anchored boundary.
    """

    at: datetime
    day: int
    zone: str
    odd_start_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Period:
    """Period `index` of a subscription, from `start_at` up to but without `end_at`, in UTC."""

    index: int
    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, slots=True)
class DuePeriods:
    """Bill `first` to `newest`, oldest first, and record `skipped`. Nothing is due if `newest < first`."""

    first: int
    skipped: range
    newest: int

    @property
    def billed(self) -> range:
        return range(self.first, self.newest + 1)


@dataclass(frozen=True, slots=True)
class ChargingWindow:
    """Local times of day at which a charge may be made: `start` included, `end` not.

    Raises `ValueError` for a window that is empty or passes midnight.
    """

    start: time
    end: time

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError(
                f"charging_window is {self.start:%H:%M} to {self.end:%H:%M}, expected from before to"
            )

    def __contains__(self, at: time) -> bool:
        return self.start <= at < self.end


@cache
def _zone(name: str) -> ZoneInfo:
    # ZoneInfo itself keeps eight zones only and reads the others from disk again and again.
    return ZoneInfo(name)


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones() - _NOT_A_PLACE)


def is_zone(name: str) -> bool:
    """Whether `name` is an IANA zone, spelled exactly so."""
    return name in _zone_names()


def local_time(at: datetime, zone: str) -> datetime:
    """The civil date and time in `zone` at an instant, without a zone on it."""
    return at.astimezone(_zone(zone)).replace(tzinfo=None, fold=0)


def local_date(at: datetime, zone: str) -> date:
    """The civil date in `zone` at an instant: "billed today" is decided on it."""
    return at.astimezone(_zone(zone)).date()


def instant(local: datetime, zone: str) -> datetime:
    """The UTC instant of a civil time: after the gap if it does not exist, the first if it is twice."""
    place = _zone(zone)
    at = local.replace(tzinfo=place, fold=0).astimezone(UTC)
    if at.astimezone(place).replace(tzinfo=None) == local:
        return at
    return _end_of_gap(local, place)


def _end_of_gap(local: datetime, place: ZoneInfo) -> datetime:
    """The instant at which the clock jumps over `local`, to the second, by bisection.

    Read with the offset after the jump, `local` lies before it; with the one before the jump, after.
    """
    late = local.replace(tzinfo=place, fold=0, microsecond=0).astimezone(UTC)
    early = local.replace(tzinfo=place, fold=1, microsecond=0).astimezone(UTC)
    offset_after = late.astimezone(place).utcoffset()
    low, high = 0, int((late - early).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        if (early + timedelta(seconds=middle)).astimezone(place).utcoffset() == offset_after:
            high = middle
        else:
            low = middle
    return early + timedelta(seconds=high)


def _civil_boundary(anchor: Anchor, interval: Interval, n: int) -> datetime:
    step = n * interval.count
    match interval.unit:
        case IntervalUnit.DAY:
            return anchor.at + timedelta(days=step)
        case IntervalUnit.WEEK:
            return anchor.at + timedelta(weeks=step)
        case IntervalUnit.MONTH:
            return _month_later(anchor.at, step, anchor.day)
        case IntervalUnit.YEAR:
            return _month_later(anchor.at, 12 * step, anchor.day)
        case _:
            assert_never(interval.unit)


def _month_later(local: datetime, months: int, day: int) -> datetime:
    year, month0 = divmod(12 * local.year + local.month - 1 + months, 12)
    last = monthrange(year, month0 + 1)[1]
    return local.replace(year=year, month=month0 + 1, day=min(day, last))


def boundary(anchor: Anchor, interval: Interval, n: int) -> datetime:
    """The UTC instant at which period `n` (from 0) begins and period `n - 1` ends."""
    if anchor.odd_start_at is not None:
        if n == 0:
            return anchor.odd_start_at
        n -= 1
    return instant(_civil_boundary(anchor, interval, n), anchor.zone)


def period(anchor: Anchor, interval: Interval, n: int) -> Period:
    """Period `n` (from 0); it ends where period `n + 1` begins."""
    return Period(n, boundary(anchor, interval, n), boundary(anchor, interval, n + 1))


def whole_period(anchor: Anchor, interval: Interval, n: int) -> Period | None:
    """The period that an odd first one is a part of: what its proration divides by; None if not odd."""
    if n != 0 or anchor.odd_start_at is None:
        return None
    start_at = instant(_civil_boundary(anchor, interval, -1), anchor.zone)
    return Period(0, start_at, boundary(anchor, interval, 1))


def make_anchor(
    *, start_at: datetime, zone: str, interval: Interval, anchor_day: int | None
) -> Anchor:
    """The anchor of a subscription whose first period begins at the instant `start_at`.

    `boundary(…, 0) == start_at` always holds. An `anchor_day` that is not the local day of `start_at`
    makes the first period odd, up to the first such day after it. Short months count: 28 Feb is the
    31st of February. Raises `ValueError` for an anchor day with an interval of days or weeks.
    """
    by_month = interval.unit in (IntervalUnit.MONTH, IntervalUnit.YEAR)
    if anchor_day is not None and not by_month:
        raise ValueError(
            f"anchor_day is {anchor_day}, expected none with a {interval.unit} interval"
        )
    local = local_time(start_at, zone)
    day = local.day if anchor_day is None else anchor_day
    plain = Anchor(at=local, day=day, zone=zone)
    if by_month and _month_later(local, 0, day).day != local.day:
        this_month = _month_later(local, 0, day)
        first = this_month if this_month > local else _month_later(local, 1, day)
    elif boundary(plain, interval, 0) != start_at:
        # The second of two equal civil times: the first would begin the period an hour too early.
        first = _civil_boundary(plain, interval, 1)
    else:
        return plain
    return Anchor(at=first, day=day, zone=zone, odd_start_at=start_at.astimezone(UTC))


def newest_index(anchor: Anchor, interval: Interval, now: datetime) -> int:
    """The newest period that has begun by `now`, -1 if none has. Arithmetic: no walk over periods."""
    elapsed = _elapsed_units(anchor.at, local_time(now, anchor.zone), interval.unit)
    # Off by one at most on either side: clamped days, the odd first period, and shifted clocks.
    n = max(0, elapsed // interval.count + (anchor.odd_start_at is not None))
    while n >= 0 and boundary(anchor, interval, n) > now:
        n -= 1
    while boundary(anchor, interval, n + 1) <= now:
        n += 1
    return n


def _elapsed_units(start: datetime, end: datetime, unit: IntervalUnit) -> int:
    match unit:
        case IntervalUnit.DAY:
            return (end - start).days
        case IntervalUnit.WEEK:
            return (end - start).days // 7
        case IntervalUnit.MONTH:
            return 12 * (end.year - start.year) + end.month - start.month
        case IntervalUnit.YEAR:
            return end.year - start.year
        case _:
            assert_never(unit)


def due_periods(
    anchor: Anchor, interval: Interval, *, next_index: int, now: datetime, catch_up: int
) -> DuePeriods:
    """What to bill at `now` if `next_index` was to be billed next: the newest `catch_up` periods.

    The period that runs now counts as one of them; the older ones are skipped.
    """
    newest = newest_index(anchor, interval, now)
    first = max(next_index, newest + 1 - catch_up)
    return DuePeriods(first, range(next_index, first), newest)


def into_window(at: datetime, *, zone: str, window: ChargingWindow) -> datetime:
    """The first instant not before `at` whose local time in `zone` lies inside `window`.

    An opening that the clock jumps over, or that is already past in its second hour, is left to the
    next day, so the answer is always inside.
    """
    local = local_time(at, zone)
    if local.time() in window:
        return at
    # Four days: today may be over, tomorrow's opening in a gap, and a zone may leave out a day.
    days = (local.date() + timedelta(days=n) for n in range(4))
    openings = (instant(datetime.combine(day, window.start), zone) for day in days)
    return next(
        opening
        for opening in openings
        if opening >= at and local_time(opening, zone).time() in window
    )

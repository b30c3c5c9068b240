from datetime import UTC, datetime, timedelta

import pytest

from billing.calendar import (
    Anchor,
    DuePeriods,
    Interval,
    IntervalUnit,
    Period,
    boundary,
    due_periods,
    instant,
    make_anchor,
    newest_index,
    period,
    whole_period,
)

DAILY = Interval(IntervalUnit.DAY, 1)
WEEKLY = Interval(IntervalUnit.WEEK, 1)
MONTHLY = Interval(IntervalUnit.MONTH, 1)
QUARTERLY = Interval(IntervalUnit.MONTH, 3)
YEARLY = Interval(IntervalUnit.YEAR, 1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def civil(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("start", "interval", "expected"),
    [
        # The 31st is never lost to a short month.
        ("2026-01-31", MONTHLY, ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30"]),
        # 29 February comes back in the next leap year.
        (
            "2028-02-29",
            YEARLY,
            ["2028-02-29", "2029-02-28", "2030-02-28", "2031-02-28", "2032-02-29"],
        ),
        # A clamped quarter.
        ("2025-11-30", QUARTERLY, ["2025-11-30", "2026-02-28", "2026-05-30"]),
        # Over the end of a year.
        ("2026-12-15", MONTHLY, ["2026-12-15", "2027-01-15"]),
        # Weeks and days count days.
        ("2026-02-23", WEEKLY, ["2026-02-23", "2026-03-02", "2026-03-09"]),
        ("2026-02-27", DAILY, ["2026-02-27", "2026-02-28", "2026-03-01"]),
        ("2026-02-27", Interval(IntervalUnit.DAY, 30), ["2026-02-27", "2026-03-29"]),
    ],
)
def test_boundaries_keep_the_anchor(start: str, interval: Interval, expected: list[str]) -> None:
    """Boundary n is counted from the anchor, so a short month moves nothing after it."""
    anchor = make_anchor(start_at=utc(start), zone="UTC", interval=interval, anchor_day=None)
    actual = [boundary(anchor, interval, n) for n in range(len(expected))]
    assert actual == [utc(day) for day in expected]


@pytest.mark.parametrize(
    ("local", "zone", "expected"),
    [
        # Berlin jumps from 02:00 to 03:00: the first instant after the gap.
        ("2026-03-29T02:30", "Europe/Berlin", "2026-03-29T01:00"),
        ("2026-03-29T02:00", "Europe/Berlin", "2026-03-29T01:00"),
        ("2026-03-29T03:00", "Europe/Berlin", "2026-03-29T01:00"),
        ("2026-03-29T01:59:59", "Europe/Berlin", "2026-03-29T00:59:59"),
        # 02:30 exists twice in October: the first.
        ("2026-10-25T02:30", "Europe/Berlin", "2026-10-25T00:30"),
        ("2026-10-25T03:00", "Europe/Berlin", "2026-10-25T02:00"),
        # Midnight that does not exist (Cairo's gap begins at 00:00).
        ("2026-04-24T00:00", "Africa/Cairo", "2026-04-23T22:00"),
        # Half an hour of daylight saving.
        ("2026-10-04T02:15", "Australia/Lord_Howe", "2026-10-03T15:30"),
        # A gap of a whole day: Samoa had no 30 December 2011.
        ("2011-12-30T10:00", "Pacific/Apia", "2011-12-30T10:00"),
        # Fractions of a second do not shift the end of the gap.
        ("2026-03-29T02:00:00.5", "Europe/Berlin", "2026-03-29T01:00"),
        # A quarter of an hour and no daylight saving.
        ("2026-03-29T02:30", "Asia/Kathmandu", "2026-03-28T20:45"),
    ],
)
def test_civil_times_become_instants(local: str, zone: str, expected: str) -> None:
    """A civil time in a gap is the first instant after it, one that exists twice is the first."""
    assert instant(civil(local), zone) == utc(expected)


def test_daylight_saving_keeps_the_time_of_day() -> None:
    """09:00 in New York stays 09:00 there, an hour apart in UTC."""
    anchor = make_anchor(
        start_at=utc("2026-02-10T14:00"), zone="America/New_York", interval=MONTHLY, anchor_day=None
    )
    assert [boundary(anchor, MONTHLY, n) for n in range(3)] == [
        utc("2026-02-10T14:00"),
        utc("2026-03-10T13:00"),
        utc("2026-04-10T13:00"),
    ]


@pytest.mark.parametrize(
    ("start", "day", "interval", "expected"),
    [
        # Later this month.
        (
            "2026-01-10T08:00",
            15,
            MONTHLY,
            ["2026-01-10T08:00", "2026-01-15T08:00", "2026-02-15T08:00"],
        ),
        # Already past: next month.
        (
            "2026-01-20T08:00",
            15,
            MONTHLY,
            ["2026-01-20T08:00", "2026-02-15T08:00", "2026-03-15T08:00"],
        ),
        # The same day: no odd period.
        ("2026-01-15T08:00", 15, MONTHLY, ["2026-01-15T08:00", "2026-02-15T08:00"]),
        # 28 February is the 31st of that month: no odd period.
        (
            "2026-02-28T08:00",
            31,
            MONTHLY,
            ["2026-02-28T08:00", "2026-03-31T08:00", "2026-04-30T08:00"],
        ),
        # The first anchor day is itself clamped.
        (
            "2026-02-10T08:00",
            31,
            MONTHLY,
            ["2026-02-10T08:00", "2026-02-28T08:00", "2026-03-31T08:00"],
        ),
        # 31 January is past the 30th: the 28th of February stands in for it.
        (
            "2026-01-31T08:00",
            30,
            MONTHLY,
            ["2026-01-31T08:00", "2026-02-28T08:00", "2026-03-30T08:00"],
        ),
        # December into January.
        (
            "2026-12-20T08:00",
            5,
            MONTHLY,
            ["2026-12-20T08:00", "2027-01-05T08:00", "2027-02-05T08:00"],
        ),
        # Longer intervals: up to the first anchor day, then whole intervals.
        (
            "2026-01-20T08:00",
            5,
            QUARTERLY,
            ["2026-01-20T08:00", "2026-02-05T08:00", "2026-05-05T08:00"],
        ),
        (
            "2026-01-20T08:00",
            5,
            YEARLY,
            ["2026-01-20T08:00", "2026-02-05T08:00", "2027-02-05T08:00"],
        ),
    ],
)
def test_an_anchor_day_makes_an_odd_first_period(
    start: str, day: int, interval: Interval, expected: list[str]
) -> None:
    """Another anchor day than the local one: period 0 runs up to the first such day."""
    anchor = make_anchor(start_at=utc(start), zone="UTC", interval=interval, anchor_day=day)
    actual = [boundary(anchor, interval, n) for n in range(len(expected))]
    assert actual == [utc(at) for at in expected]


def test_the_local_day_decides_whether_the_anchor_day_differs() -> None:
    """23:30 UTC on the 14th is the 15th in Tokyo, so anchor day 15 is not odd there."""
    anchor = make_anchor(
        start_at=utc("2026-01-14T23:30"), zone="Asia/Tokyo", interval=MONTHLY, anchor_day=15
    )
    assert anchor == Anchor(civil("2026-01-15T08:30"), 15, "Asia/Tokyo")


def test_a_start_in_the_second_of_two_equal_hours_is_kept() -> None:
    """The first period begins at its instant, not an hour earlier, and ends where it would anyway."""
    start_at = utc("2026-10-25T01:30")
    anchor = make_anchor(start_at=start_at, zone="Europe/Berlin", interval=MONTHLY, anchor_day=None)
    assert period(anchor, MONTHLY, 0) == Period(0, start_at, utc("2026-11-25T01:30"))
    assert boundary(anchor, MONTHLY, 2) == utc("2026-12-25T01:30")


@pytest.mark.parametrize("interval", [DAILY, WEEKLY])
def test_an_anchor_day_needs_months(interval: Interval) -> None:
    """A day of the month means nothing to a weekly plan."""
    with pytest.raises(ValueError, match="anchor_day is 5, expected none"):
        make_anchor(start_at=utc("2026-01-01"), zone="UTC", interval=interval, anchor_day=5)


@pytest.mark.parametrize(
    ("unit", "count"), [("day", 0), ("month", -1), ("year", 11), ("day", 9999)]
)
def test_absurd_intervals_are_refused(unit: str, count: int) -> None:
    """An interval is at least one unit and at most about ten years."""
    with pytest.raises(ValueError, match=f"interval.count is {count}, expected 1 to"):
        Interval(IntervalUnit(unit), count)


def test_the_whole_of_an_odd_period() -> None:
    """An odd first period is measured against the whole one that would have ended with it."""
    anchor = make_anchor(start_at=utc("2026-02-10"), zone="UTC", interval=MONTHLY, anchor_day=31)
    assert whole_period(anchor, MONTHLY, 0) == Period(0, utc("2026-01-31"), utc("2026-02-28"))
    assert whole_period(anchor, MONTHLY, 1) is None
    plain = make_anchor(start_at=utc("2026-02-10"), zone="UTC", interval=MONTHLY, anchor_day=None)
    assert whole_period(plain, MONTHLY, 0) is None


@pytest.mark.parametrize(
    ("next_index", "now", "catch_up", "expected"),
    [
        (1, "2026-02-09T23:59:59", 1, DuePeriods(1, range(1, 1), 0)),  # a second too early
        (1, "2026-02-10T00:00", 1, DuePeriods(1, range(1, 1), 1)),  # on the instant
        (1, "2026-05-11T00:00", 1, DuePeriods(4, range(1, 4), 4)),  # only the one that runs now
        (1, "2026-05-11T00:00", 2, DuePeriods(3, range(1, 3), 4)),
        (1, "2026-05-11T00:00", 9, DuePeriods(1, range(1, 1), 4)),  # all of them
        (0, "2025-12-31T00:00", 1, DuePeriods(0, range(0), -1)),  # not begun
        (0, "2126-01-10T00:00", 1, DuePeriods(1200, range(1200), 1200)),  # a century late
    ],
)
def test_due_periods(next_index: int, now: str, catch_up: int, expected: DuePeriods) -> None:
    """The newest periods are billed, as many as catch_up allows; the older ones are skipped."""
    anchor = make_anchor(start_at=utc("2026-01-10"), zone="UTC", interval=MONTHLY, anchor_day=None)
    actual = due_periods(anchor, MONTHLY, next_index=next_index, now=utc(now), catch_up=catch_up)
    assert actual == expected


def test_a_period_begins_in_the_first_of_two_equal_hours() -> None:
    """At 02:10 for the second time the period that began at 02:30 for the first time is running."""
    anchor = Anchor(civil("2026-10-01T02:30"), 1, "Europe/Berlin")
    assert newest_index(anchor, DAILY, utc("2026-10-25T01:10")) == 24
    assert newest_index(anchor, DAILY, utc("2026-10-25T00:29")) == 23


def test_billed_periods_are_oldest_first() -> None:
    """What is billed follows what was skipped, up to the newest."""
    assert list(DuePeriods(3, range(1, 3), 4).billed) == [3, 4]
    assert list(DuePeriods(1, range(1, 1), 0).billed) == []


@pytest.mark.parametrize("unit", list(IntervalUnit))
def test_finding_the_newest_period_takes_no_walk(
    unit: IntervalUnit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a century of downtime a handful of boundaries are computed, not thousands."""
    calls: list[int] = []

    def counted(anchor: Anchor, interval: Interval, n: int) -> datetime:
        calls.append(n)
        return boundary(anchor, interval, n)

    monkeypatch.setattr("billing.calendar.boundary", counted)
    anchor = Anchor(civil("2026-01-31T23:00"), 31, "America/Sao_Paulo", utc("2026-01-20T02:00"))
    newest_index(anchor, Interval(unit, 1), utc("2126-02-01T00:00"))
    assert len(calls) <= 6


def test_a_day_without_a_boundary_of_its_own() -> None:
    """Where a zone leaves out a day, two daily boundaries meet and none goes back."""
    anchor = Anchor(civil("2011-12-29T00:00"), 29, "Pacific/Apia")
    bounds = [boundary(anchor, DAILY, n) for n in range(4)]
    assert bounds == sorted(bounds)
    assert bounds[1] == bounds[2]
    assert bounds[3] - bounds[2] == timedelta(days=1)

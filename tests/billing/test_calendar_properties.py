"""The calendar over every zone, anchor and interval: what must hold whatever the dates."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import available_timezones

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from billing.calendar import (
    Anchor,
    ChargingWindow,
    Interval,
    IntervalUnit,
    boundary,
    due_periods,
    instant,
    into_window,
    is_zone,
    local_time,
    make_anchor,
    newest_index,
    period,
    whole_period,
)

thorough = settings(max_examples=300)

zones = st.sampled_from(sorted(filter(is_zone, available_timezones())))
# From 2012: in 2011 Samoa left out a day, and two daily boundaries met there.
instants = st.datetimes(
    datetime.fromisoformat("2012-01-01"),
    datetime.fromisoformat("2100-01-01"),
    timezones=st.just(UTC),
)
civil_times = st.datetimes(
    datetime.fromisoformat("1970-01-02"), datetime.fromisoformat("2100-01-01")
)
intervals = st.one_of(
    st.builds(Interval, st.just(IntervalUnit.DAY), st.integers(1, 400)),
    st.builds(Interval, st.just(IntervalUnit.WEEK), st.integers(1, 60)),
    st.builds(Interval, st.just(IntervalUnit.MONTH), st.integers(1, 24)),
    st.builds(Interval, st.just(IntervalUnit.YEAR), st.integers(1, 3)),
)
monthly_units = (IntervalUnit.MONTH, IntervalUnit.YEAR)


@st.composite
def anchors(draw: st.DrawFn) -> tuple[Anchor, Interval, datetime]:
    interval = draw(intervals)
    start_at = draw(instants)
    by_month = interval.unit in monthly_units
    day = draw(st.none() | st.integers(1, 31)) if by_month else None
    zone = draw(zones)
    anchor = make_anchor(start_at=start_at, zone=zone, interval=interval, anchor_day=day)
    return anchor, interval, start_at


@thorough
@given(zones, civil_times)
def test_a_civil_time_is_its_first_instant_or_the_end_of_its_gap(
    zone: str, local: datetime
) -> None:
    """No earlier instant shows the civil time; if none does, the answer is where the clock jumped."""
    at = instant(local, zone)
    shown = local_time(at, zone)
    if shown == local:
        # Clocks are set back by three hours at most, so an earlier twin would be among these.
        steps = (timedelta(minutes=m) for m in range(15, 181, 15))
        assert all(local_time(at - step, zone) != local for step in steps)
    else:
        assert local_time(at - timedelta(seconds=1), zone) < local < shown


@thorough
@given(anchors(), st.integers(0, 120))
def test_periods_neither_gap_nor_overlap(case: tuple[Anchor, Interval, datetime], n: int) -> None:
    """Each period ends where the next begins, and is longer than nothing."""
    anchor, interval, start_at = case
    this, following = period(anchor, interval, n), period(anchor, interval, n + 1)
    assert boundary(anchor, interval, 0) == start_at
    assert this.end_at == following.start_at
    assert this.start_at < this.end_at


@thorough
@given(anchors(), st.integers(1, 120))
def test_the_anchor_never_drifts(case: tuple[Anchor, Interval, datetime], n: int) -> None:
    """The local day of a boundary is the anchor day or the last of a shorter month, at its own time."""
    anchor, interval, _ = case
    assume(interval.unit in monthly_units)
    local = local_time(boundary(anchor, interval, n), anchor.zone)
    assume(local.time() == anchor.at.time())  # else the clock jumped over that time
    tomorrow = local + timedelta(days=1)
    assert local.day == anchor.day or (local.day < anchor.day and tomorrow.day == 1)


@thorough
@given(anchors())
def test_an_odd_period_is_part_of_its_whole(case: tuple[Anchor, Interval, datetime]) -> None:
    """The whole period begins on or before the odd one's date and ends with it."""
    anchor, interval, start_at = case
    whole = whole_period(anchor, interval, 0)
    assume(whole is not None)
    assert whole is not None
    assert whole.start_at <= start_at
    assert whole.end_at == boundary(anchor, interval, 1)


@thorough
@given(anchors(), instants, st.integers(0, 30), st.integers(1, 5))
def test_due_periods_are_the_newest_that_have_begun(
    case: tuple[Anchor, Interval, datetime], now: datetime, next_index: int, catch_up: int
) -> None:
    """Skipped and billed periods follow each other, begin by now, and at most catch_up are billed."""
    anchor, interval, _ = case
    newest = newest_index(anchor, interval, now)
    assert newest < 0 or boundary(anchor, interval, newest) <= now
    assert now < boundary(anchor, interval, newest + 1)
    due = due_periods(anchor, interval, next_index=next_index, now=now, catch_up=catch_up)
    assert [*due.skipped, *due.billed] == list(range(next_index, newest + 1))
    assert len(due.billed) <= catch_up
    assert bool(due.skipped) <= (len(due.billed) == catch_up)


@thorough
@given(zones, instants, st.tuples(st.times(), st.times()).filter(lambda t: t[0] < t[1]))
def test_window_openings_are_inside_and_never_earlier(
    zone: str, at: datetime, times: tuple[time, time]
) -> None:
    """Moving into the window never goes back, ends inside, and is idempotent."""
    window = ChargingWindow(*times)
    moved = into_window(at, zone=zone, window=window)
    assert at <= moved <= at + timedelta(days=3)
    assert local_time(moved, zone).time() in window
    assert into_window(moved, zone=zone, window=window) == moved

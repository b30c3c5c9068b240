"""Zones, local dates, and the hours at which a charge may be made."""

from datetime import UTC, date, datetime, time

import pytest

from billing.calendar import ChargingWindow, into_window, is_zone, local_date


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_local_date() -> None:
    """Billed today is decided on the local date."""
    assert local_date(utc("2026-01-01T02:00"), "America/New_York") == date(2025, 12, 31)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Europe/Berlin", True),
        ("UTC", True),
        ("America/Argentina/Buenos_Aires", True),
        ("europe/berlin", False),  # on every file system
        ("Europe", False),  # a directory
        ("localtime", False),  # not a place
        ("../UTC", False),
        ("", False),
        ("Mars/Olympus", False),
        ("a" * 5000, False),
        ("UTC\0", False),
    ],
)
def test_is_zone(name: str, expected: bool) -> None:  # noqa: FBT001 (a column of the table)
    """Only exact IANA names are zones."""
    assert is_zone(name) == expected


MORNING = ChargingWindow(time(9), time(11))


@pytest.mark.parametrize(
    ("at", "zone", "window", "expected"),
    [
        ("2026-06-01T09:00", "UTC", MORNING, "2026-06-01T09:00"),  # the first instant
        ("2026-06-01T10:59:59", "UTC", MORNING, "2026-06-01T10:59:59"),  # the last second
        ("2026-06-01T11:00", "UTC", MORNING, "2026-06-02T09:00"),  # the end is outside
        ("2026-06-01T03:00", "UTC", MORNING, "2026-06-01T09:00"),  # nobody is charged at night
        ("2026-06-01T03:00", "America/New_York", MORNING, "2026-06-01T13:00"),  # there
        # An opening in the gap: the clock goes on at 03:00, still inside.
        ("2026-03-28T22:00", "Europe/Berlin", ChargingWindow(time(2), time(4)), "2026-03-29T01:00"),
        # The whole window in the gap: the next day.
        ("2026-03-28T22:00", "Europe/Berlin", ChargingWindow(time(2), time(3)), "2026-03-30T00:00"),
        # 02:10 for the second time: the opening of 02:30 is over, the next day.
        (
            "2026-10-25T01:10",
            "Europe/Berlin",
            ChargingWindow(time(2, 30), time(2, 45)),
            "2026-10-26T01:30",
        ),
        # A day that does not exist is passed over (Samoa's 30 December 2011).
        ("2011-12-29T22:00", "Pacific/Apia", MORNING, "2011-12-30T19:00"),
    ],
)
def test_into_window(at: str, zone: str, window: ChargingWindow, expected: str) -> None:
    """An attempt waits for the next opening of the window in local time."""
    assert into_window(utc(at), zone=zone, window=window) == utc(expected)


@pytest.mark.parametrize(("start", "end"), [(time(9), time(9)), (time(22), time(2))])
def test_windows_that_wrap_are_refused(start: time, end: time) -> None:
    """A charging window opens before it closes, on one day."""
    with pytest.raises(ValueError, match="expected from before to"):
        ChargingWindow(start, end)

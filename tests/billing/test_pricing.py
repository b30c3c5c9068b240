from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.calendar import (
    Interval,
    IntervalUnit,
    Period,
    make_anchor,
    period,
    whole_period,
)
from billing.pricing import (
    Line,
    Price,
    PriceModel,
    PricingError,
    check_amount,
    price_period,
    price_tax,
)

MONTHLY = Interval(IntervalUnit.MONTH, 1)
JANUARY = Period(0, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))


def odd(start_at: datetime, anchor_day: int, zone: str = "UTC") -> tuple[Period, Period | None]:
    """The odd first period of a monthly plan, and the whole one that it is a part of."""
    anchor = make_anchor(start_at=start_at, zone=zone, interval=MONTHLY, anchor_day=anchor_day)
    return period(anchor, MONTHLY, 0), whole_period(anchor, MONTHLY, 0)


@pytest.mark.parametrize(
    ("model", "quantity", "expected"),
    [
        (PriceModel.FLAT, 1, Line("Pottery, 2026-01-01 to 2026-02-01", 1, 999, 999)),
        # A flat price is the same for any quantity.
        (PriceModel.FLAT, 7, Line("Pottery, 2026-01-01 to 2026-02-01", 1, 999, 999)),
        (PriceModel.PER_UNIT, 7, Line("Pottery, 2026-01-01 to 2026-02-01", 7, 999, 6993)),
    ],
)
def test_a_whole_period(model: PriceModel, quantity: int, expected: Line) -> None:
    """A whole period costs its price, times the quantity if it is priced per unit."""
    lines = price_period(
        Price(model, "EUR", 999),
        quantity=quantity,
        period=JANUARY,
        whole=None,
        plan_name="Pottery",
        zone="UTC",
    )
    assert lines == [expected]


@pytest.mark.parametrize(
    ("start_at", "anchor_day", "zone", "unit_amount", "expected"),
    [
        # 22 of 31 days (15 December to 15 January).
        (datetime(2025, 12, 24, tzinfo=UTC), 15, "UTC", 3100, 2200),
        # 18 of 28 days (31 January to 28 February).
        (datetime(2026, 2, 10, tzinfo=UTC), 31, "UTC", 2800, 1800),
        # Half of 28 days, the middle rounded to the even unit: 112.5 and 113.5.
        (datetime(2026, 2, 14, tzinfo=UTC), 31, "UTC", 225, 112),
        (datetime(2026, 2, 14, tzinfo=UTC), 31, "UTC", 227, 114),
        # In Tokyo it is already the 11th: 17 days of 28.
        (datetime(2026, 2, 10, 20, tzinfo=UTC), 31, "Asia/Tokyo", 2800, 1700),
        # The night without an hour is a day like any other: 1 of 30 (28 February to 30 March).
        (datetime(2026, 3, 28, 23, tzinfo=UTC), 30, "Europe/Berlin", 3000, 100),
    ],
)
def test_an_odd_period_is_prorated_by_local_days(
    start_at: datetime, anchor_day: int, zone: str, unit_amount: int, expected: int
) -> None:
    """The first period up to the anchor day costs its share of the days of a whole one."""
    part, whole = odd(start_at, anchor_day, zone)
    (line,) = price_period(
        Price(PriceModel.FLAT, "EUR", unit_amount),
        quantity=1,
        period=part,
        whole=whole,
        plan_name="Pottery",
        zone=zone,
    )
    assert line.amount_minor == expected


def test_an_odd_line_says_its_days() -> None:
    """The payer can see why the first amount is smaller."""
    part, whole = odd(datetime(2026, 2, 10, tzinfo=UTC), 31)
    lines = price_period(
        Price(PriceModel.PER_UNIT, "EUR", 1000),
        quantity=3,
        period=part,
        whole=whole,
        plan_name="Pottery",
        zone="UTC",
    )
    assert lines == [Line("Pottery, 2026-02-10 to 2026-02-28 (18 of 28 days)", 3, 1000, 1929)]


@pytest.mark.parametrize("model", [PriceModel.GRADUATED, PriceModel.VOLUME, PriceModel.USAGE])
def test_models_not_built_yet_say_so(model: PriceModel) -> None:
    """A price model without code is refused by name, never priced at zero."""
    with pytest.raises(PricingError, match=f"price.model {model} is not built yet"):
        price_period(
            Price(model, "EUR", 1),
            quantity=1,
            period=JANUARY,
            whole=None,
            plan_name="Pottery",
            zone="UTC",
        )


@pytest.mark.parametrize(
    ("price", "quantity", "expected"),
    [
        (Price(PriceModel.FLAT, "EUR", 1190), 1, None),  # not told
        (Price(PriceModel.FLAT, "EUR", 1190, 190), 5, 190),
        (Price(PriceModel.PER_UNIT, "EUR", 1190, 190), 5, 950),
        (Price(PriceModel.FLAT, "EUR", 1190, 0), 1, 0),
    ],
)
def test_tax_is_carried_with_the_amount(price: Price, quantity: int, expected: int | None) -> None:
    """The tax inside the price scales like the price."""
    tax = price_tax(price, quantity=quantity, period=JANUARY, whole=None, zone="UTC")
    assert tax == expected


def test_tax_is_prorated() -> None:
    """18 of 28 days of the tax."""
    part, whole = odd(datetime(2026, 2, 10, tzinfo=UTC), 31)
    price = Price(PriceModel.FLAT, "EUR", 2800, 280)
    assert price_tax(price, quantity=1, period=part, whole=whole, zone="UTC") == 180


@given(
    st.datetimes(
        datetime.fromisoformat("2020-01-01"),
        datetime.fromisoformat("2040-01-01"),
        timezones=st.just(UTC),
    ),
    st.integers(1, 31),
    st.integers(0, 10**12),
    st.integers(1, 10**6),
)
def test_an_odd_period_never_costs_more_than_a_whole_one(
    start_at: datetime, anchor_day: int, unit_amount: int, quantity: int
) -> None:
    """A share of the days is a share of the price: not negative, not above it."""
    part, whole = odd(start_at, anchor_day)
    (line,) = price_period(
        Price(PriceModel.PER_UNIT, "EUR", unit_amount),
        quantity=quantity,
        period=part,
        whole=whole,
        plan_name="Pottery",
        zone="UTC",
    )
    assert 0 <= line.amount_minor <= unit_amount * quantity


@pytest.mark.parametrize(
    ("amount", "ceiling"),
    [
        (0, None),  # paid without a charge
        (0, 0),
        (100, 100),  # the ceiling itself is allowed
        (10**12, None),
    ],
)
def test_amounts_that_may_be_sent(amount: int, ceiling: int | None) -> None:
    """Zero and everything up to the ceiling pass."""
    check_amount(amount, ceiling_minor=ceiling)


@pytest.mark.parametrize(
    ("amount", "ceiling", "error"),
    [
        (-1, None, "amount_minor is -1, expected 0 or more"),
        (101, 100, "amount_minor is 101, above the ceiling of 100"),
    ],
)
def test_amounts_that_are_never_sent(amount: int, ceiling: int | None, error: str) -> None:
    """A negative amount, and one above the ceiling, is parked with its reason."""
    with pytest.raises(PricingError, match=error):
        check_amount(amount, ceiling_minor=ceiling)

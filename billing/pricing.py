"""From a price and a period to invoice lines.

A division is rounded half-even, once a line. Amounts are gross, as the platform told them.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import assert_never

from billing.calendar import Period, local_date
from billing.money import divide_half_even


class PriceModel(StrEnum):
    """How a price is made of a quantity. `FLAT` costs the same whatever the quantity."""

    FLAT = "flat"
    PER_UNIT = "per_unit"
    GRADUATED = "graduated"
    VOLUME = "volume"
    USAGE = "usage"


class PricingError(ValueError):
    """A price that cannot become an amount that may be charged; the text is for operators."""


@dataclass(frozen=True, slots=True)
class Price:
    """One version of a plan's price; `tax_minor` is the tax inside `unit_amount_minor`, if told."""

    model: PriceModel
    currency: str
    unit_amount_minor: int
    tax_minor: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an invoice; the lines add up to the invoice's amount."""

    description: str
    quantity: int
    unit_amount_minor: int
    amount_minor: int


def price_period(
    price: Price,
    *,
    quantity: int,
    period: Period,
    whole: Period | None,
    plan_name: str,
    zone: str,
    by_second: bool = False,
) -> list[Line]:
    """What `period` costs. With `whole` it is an odd part of that period and prorated: by local days
    (rule 28), or `by_second`.

    Raises `PricingError` for a price model that is not built yet.
    """
    units = _charged_units(price.model, quantity)
    first, last = local_date(period.start_at, zone), local_date(period.end_at, zone)
    part, of_whole = _share(period, whole, zone, by_second=by_second)
    unit = "seconds" if by_second else "days"
    return [
        Line(
            description=f"{plan_name}, {first} to {last}"
            + (f" ({part} of {of_whole} {unit})" if part != of_whole else ""),
            quantity=units,
            unit_amount_minor=price.unit_amount_minor,
            amount_minor=divide_half_even(units * price.unit_amount_minor * part, of_whole),
        )
    ]


def price_tax(
    price: Price,
    *,
    quantity: int,
    period: Period,
    whole: Period | None,
    zone: str,
    by_second: bool = False,
) -> int | None:
    """The tax inside what `price_period` answers, scaled like it; None if the platform told none."""
    if price.tax_minor is None:
        return None
    part, of_whole = _share(period, whole, zone, by_second=by_second)
    units = _charged_units(price.model, quantity)
    return divide_half_even(units * price.tax_minor * part, of_whole)


def _charged_units(model: PriceModel, quantity: int) -> int:
    match model:
        case PriceModel.FLAT:
            return 1
        case PriceModel.PER_UNIT:
            return quantity
        case PriceModel.GRADUATED | PriceModel.VOLUME | PriceModel.USAGE:
            raise PricingError(f"price.model {model} is not built yet, expected flat or per_unit")
        case _:
            assert_never(model)


def _share(period: Period, whole: Period | None, zone: str, *, by_second: bool) -> tuple[int, int]:
    """Local days of `period` and of `whole`; the day a period begins counts, the day it ends not."""
    if whole is None:
        return 1, 1
    if by_second:
        return _seconds(period), _seconds(whole)
    return _local_days(period, zone), _local_days(whole, zone)


def _seconds(span: Period) -> int:
    return (span.end_at - span.start_at) // timedelta(seconds=1)


def _local_days(span: Period, zone: str) -> int:
    return (local_date(span.end_at, zone) - local_date(span.start_at, zone)).days


def check_amount(amount_minor: int, *, ceiling_minor: int | None) -> None:
    """Raise `PricingError` for an amount that must never be sent: negative, or above the ceiling.

    Zero passes: such an invoice is paid without a charge.
    """
    if amount_minor < 0:
        raise PricingError(f"amount_minor is {amount_minor}, expected 0 or more")
    if ceiling_minor is not None and amount_minor > ceiling_minor:
        raise PricingError(f"amount_minor is {amount_minor}, above the ceiling of {ceiling_minor}")

"""Opening the next period: which one, for how much, and when not at all."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing import renewal
from billing.keys import invoice_id
from billing.pricing import PricingError
from tests.billing.rows import INV, NEXT, NOW, SUB, assert_storable, case, moved, subscription, told

MARCH = datetime(2026, 3, 31, 10, tzinfo=UTC)
DAY = timedelta(days=1)


def due(**changes: Any) -> Any:
    """An active subscription whose first period begins now."""
    return subscription(**{"next_period": 0, "next_renewal_at": NOW, **changes})


@pytest.mark.parametrize(
    ("status", "while_past_due", "has_open", "cycles_done", "expected"),
    [
        # With `hold` an open invoice holds the next period, with `bill` it does not.
        (SUB.ACTIVE, "hold", False, False, False),
        (SUB.ACTIVE, "hold", True, False, True),
        (SUB.ACTIVE, "bill", True, False, False),
        (SUB.TRIALING, "hold", False, False, False),
        (SUB.PENDING, "hold", True, False, True),
        (SUB.PAST_DUE, "hold", True, False, True),
        (SUB.PAST_DUE, "hold", False, False, True),
        (SUB.PAST_DUE, "bill", True, False, False),
        # Whoever is not served is not invoiced on.
        (SUB.UNPAID, "bill", True, False, True),
        (SUB.PAUSED, "bill", False, False, True),
        (SUB.CANCELED, "bill", False, False, True),
        # A finite plan that is done expires, but not before it is paid.
        (SUB.ACTIVE, "hold", False, True, False),
        (SUB.ACTIVE, "bill", True, True, True),
        (SUB.PAST_DUE, "bill", True, True, True),
    ],
)
def test_who_is_held(
    status: SUB, while_past_due: str, *, has_open: bool, cycles_done: bool, expected: bool
) -> None:
    """One row a case."""
    row = due(status=status, while_past_due=while_past_due, cycles=3 if cycles_done else None)
    row.next_period = 3 if cycles_done else 1
    assert renewal.is_held(row, has_open_invoice=has_open, now=NOW) is expected


def test_due_is_asked_of_the_row_and_the_clock() -> None:
    """At its instant, not before, and never without a date."""
    assert renewal.is_due(due(), NOW)
    assert not renewal.is_due(due(), NOW - timedelta(microseconds=1))
    assert not renewal.is_due(due(next_renewal_at=None), NOW)


@pytest.mark.parametrize(
    ("cancel_at", "expected"), [(None, False), (NOW, True), (NOW - DAY, True), (NOW + DAY, False)]
)
def test_a_cancel_at_the_renewal_comes_first(cancel_at: datetime | None, *, expected: bool) -> None:
    """Who cancels to the period's end is not charged at that instant."""
    assert renewal.is_canceled_before(due(cancel_at=cancel_at)) is expected


def test_an_invoice_is_opened_for_the_period_that_begins() -> None:
    """Its id is derived, its period and price are the plan's, and the next date moves on."""
    row = due()
    opened = renewal.open_invoice(row, now=NOW)
    bill = opened.case.invoice
    assert bill.invoice_id == invoice_id("sub_1", "renewal", 0)
    assert (bill.period_start, bill.period_end) == (NOW, NEXT)
    assert (bill.amount_minor, bill.currency, bill.status) == (4900, "USD", INV.OPEN)
    assert sum(line.amount_minor for line in opened.lines) == 4900
    assert (row.next_period, row.next_renewal_at) == (1, NEXT)
    assert opened.skipped == []
    assert_storable(opened.case)


def test_missed_periods_are_passed_over_but_for_the_newest() -> None:
    """Two months too late: the running period is billed, the one before is skipped."""
    row = due()
    opened = renewal.open_invoice(row, now=MARCH - DAY)
    assert opened.case.invoice.period_index == 1
    assert [(skip.index, skip.start_at, skip.end_at) for skip in opened.skipped] == [(0, NOW, NEXT)]
    assert (row.next_period, row.next_renewal_at) == (2, MARCH)


def test_catching_up_bills_the_oldest_of_those_first() -> None:
    """With `catch_up_periods: 2` nothing is skipped, and the next one is due at once."""
    row = due(catch_up_periods=2)
    opened = renewal.open_invoice(row, now=MARCH - DAY)
    assert (opened.case.invoice.period_index, opened.skipped) == (0, [])
    assert renewal.is_due(row, MARCH - DAY)
    assert renewal.open_invoice(row, now=MARCH - DAY).case.invoice.period_index == 1
    assert not renewal.is_due(row, MARCH - DAY)


def test_an_amount_over_the_ceiling_changes_nothing() -> None:
    """Rule 20: it is never sent, and the row is as it was."""
    row = due(ceiling_minor=4899)
    with pytest.raises(PricingError):
        renewal.open_invoice(row, now=NOW)
    assert (row.next_period, row.next_renewal_at) == (0, NOW)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"method_removed_at": NOW}, False),
        ({"method_hard_declined_at": NOW}, False),
    ],
)
def test_what_may_be_charged(changes: dict[str, Any], *, expected: bool) -> None:
    """Neither a removed method nor one whose bank said never again."""
    assert renewal.has_method(due(**changes)) is expected


def test_without_a_method_dunning_starts_without_an_attempt() -> None:
    """The invoice waits for the customer until the window ends; told as a failure of no attempt."""
    made = case(subscription(method_removed_at=NOW))
    renewal.fail_without_method(made)
    assert made.invoice.attempt_due_at == NOW + timedelta(days=28)
    assert made.messages[0].fields["attempt"] is None
    assert made.messages[0].fields["decline_code"] == "no_payment_method"
    assert told(made) == ["payment.failed", "subscription.past_due"]
    assert_storable(made)


NIGHT = {"charging_window": {"from": "12:00", "to": "14:00"}}


@pytest.mark.parametrize(
    ("policy", "changes", "until"),
    [
        ({}, {}, None),
        (NIGHT, {}, NOW + timedelta(hours=2)),
        ({"charging_window": {"from": "09:00", "to": "11:00"}}, {}, None),
        # There is nothing to charge: no window makes that better.
        (NIGHT, {"method_removed_at": NOW}, None),
        (NIGHT, {"method_hard_declined_at": NOW}, None),
    ],
)
def test_the_first_attempt_waits_for_its_window(
    policy: dict[str, Any], changes: dict[str, Any], until: datetime | None
) -> None:
    """The period stays where it is; the invoice says until when its attempt waits, and why."""
    made = case(subscription(retry_policy=policy, **changes))
    assert renewal.waits_for_window(made) is (until is not None)
    assert made.invoice.attempt_due_at == until
    assert (made.invoice.hold_reason is not None) is (until is not None)
    assert (made.invoice.period_start, made.messages) == (NOW, [])
    assert_storable(made)


def test_a_finite_plan_that_is_done_expires() -> None:
    """Told with its reason; nothing renews and nothing is announced any more."""
    row = due(cycles=3, next_period=3, cancel_at=NEXT, cancel_origin="customer")
    assert renewal.is_complete(row, NOW)
    made = renewal.complete(row, now=NOW)
    assert moved(made) == ["subscription: active -> expired"]
    assert told(made) == ["subscription.expired"]
    assert (row.next_renewal_at, row.cancel_at, row.ended_at) == (None, None, NOW)
    assert made.drop_notices is not None
    assert_storable(made)

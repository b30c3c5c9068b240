"""Subscriptions, invoices and attempts as the rules see them: the plainest legal ones, and changes."""

from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from billing.facts import Attempt, Case, Invoice, Subscription
from billing.lifecycle import (
    ENDED_SUBSCRIPTIONS,
    AttemptState,
    InvoiceStatus,
    SubscriptionStatus,
)

SUB: TypeAlias = SubscriptionStatus
INV: TypeAlias = InvoiceStatus
ATT: TypeAlias = AttemptState

Row = TypeVar("Row")

NOW = datetime(2026, 1, 31, 10, tzinfo=UTC)
NEXT = datetime(2026, 2, 28, 10, tzinfo=UTC)
BEFORE = datetime(2025, 12, 31, 10, tzinfo=UTC)
RESOLVED = frozenset({ATT.SUCCEEDED, ATT.DECLINED, ATT.VOID})


PLAN: dict[str, Any] = {
    "plan_id": "plan_1",
    "plan_name": "Monthly",
    "interval_unit": "month",
    "interval_count": 1,
    "cycles": None,
    "retry_policy": {},
    "reminders": [],
    "catch_up_periods": 1,
    "while_past_due": "hold",
    "ceiling_minor": None,
    "proration": "day",
    "price_model": "flat",
    "currency": "USD",
    "unit_amount_minor": 4900,
    "tax_minor": None,
}
PARTIES: dict[str, Any] = {
    "subscription_id": "sub_1",
    "seller_id": "sel_1",
    "customer_id": "cus_1",
    "payment_method_id": "pm_1",
    "gateway": "sandbox",
    "token": "tok_ok_1",
    "method_gateway": "sandbox",
    "statement_descriptor": None,
    "segments": [],
}
NOT_YET: dict[str, Any] = dict.fromkeys(
    [
        "odd_start_at",
        "access_ends_at",
        "cancel_at",
        "cancel_origin",
        "cancel_reason",
        "method_removed_at",
        "method_hard_declined_at",
        "method_changed_at",
    ]
)


def subscription(status: SubscriptionStatus = SUB.ACTIVE, **changes: Any) -> Subscription:
    """A monthly subscription of 49.00, anchored at NOW, whose first period was just invoiced."""
    paid = status is not SUB.PENDING
    renews = status in (SUB.ACTIVE, SUB.PENDING, SUB.TRIALING)
    row = Subscription(
        **PARTIES,
        **PLAN,
        **NOT_YET,
        status=status,
        quantity=1,
        zone="UTC",
        anchor_local=NOW.replace(tzinfo=None),
        anchor_day=31,
        next_period=1,
        current_period_start=BEFORE if paid else None,
        current_period_end=NOW if paid else None,
        next_renewal_at=NEXT if renews else None,
        ended_at=NOW if status in ENDED_SUBSCRIPTIONS else None,
        sequence=0,
        claims=0,
    )
    return changed(row, changes)


def invoice(status: InvoiceStatus = INV.OPEN, **changes: Any) -> Invoice:
    """The invoice of the period from NOW."""
    row = Invoice(
        invoice_id=UUID(int=1),
        subscription_id="sub_1",
        period_index=0,
        period_start=NOW,
        period_end=NEXT,
        amount_minor=4900,
        currency="USD",
        tax_minor=None,
        status=status,
        gateway="sandbox",
        due_at=NOW,
        created_at=NOW,
        retry_policy=None,
        first_declined_at=None,
        dunning_ends_at=None,
        attempt_due_at=None,
        attempt_source=None,
        requested_source=None,
        hold_reason=None,
        paid_at=NOW if status is INV.PAID else None,
        closed_at=None if status is INV.OPEN else NOW,
        recovered_by=None,
        claims=0,
    )
    return changed(row, changes)


def in_dunning(days_ago: int = 1, **changes: Any) -> Invoice:
    """An open invoice that was declined first so many days before NOW."""
    first = NOW - timedelta(days=days_ago)
    policy = changes.pop("retry_policy", {})
    ends_at = first + timedelta(days=policy.get("window_days", 28))
    return invoice(retry_policy=policy, first_declined_at=first, dunning_ends_at=ends_at, **changes)


def attempt(state: AttemptState = ATT.SENT, **changes: Any) -> Attempt:
    """The first attempt of the invoice, sent at NOW."""
    row = Attempt(
        invoice_id=UUID(int=1),
        ordinal=1,
        subscription_id="sub_1",
        source="renewal",
        state=state,
        gateway="sandbox",
        payment_method_id="pm_1",
        amount_minor=4900,
        currency="USD",
        idempotency_key="key",
        request=b"{}",
        claimed_at=NOW,
        sent_at=NOW,
        check_due_at=None if state in RESOLVED else NOW,
        checks=0,
        answered=False,
        replayed=False,
        not_found_at=None,
        gateway_ref="ch_1" if state in (ATT.SUCCEEDED, ATT.PENDING, ATT.ACTION_REQUIRED) else None,
        decline_code="do_not_honor" if state is ATT.DECLINED else None,
        decline_class="soft" if state is ATT.DECLINED else None,
        network_code=None,
        advice_code=None,
        action=None,
        raw_outcome=None,
        needs_human=None,
        resolved_at=NOW if state in RESOLVED else None,
    )
    return changed(row, changes)


def changed(row: Row, changes: dict[str, Any]) -> Row:
    """The row with these fields set."""
    for name, value in changes.items():
        assert hasattr(row, name), name
        setattr(row, name, value)
    return row


def case(
    owner: Subscription | None = None,
    bill: Invoice | None = None,
    at_hand: Attempt | None = None,
    **changes: Any,
) -> Case:
    """A case at NOW; the plainest rows where none are given."""
    made = Case(owner or subscription(), bill or invoice(), at_hand, NOW)
    return changed(made, changes)


def told(made: Case) -> list[str]:
    """The messages of a case, without their prefix."""
    return [message.type.removeprefix("billing.") for message in made.messages]


def moved(made: Case) -> list[str]:
    """The moves of a case, in order."""
    return [f"{move.machine}: {move.before} -> {move.after}" for move in made.moves]


def assert_storable(made: Case) -> None:
    """What schema.sql checks, so that a rule never leads to a row that cannot be written."""
    s, i, a = made.subscription, made.bill, made.attempt
    assert (s.status in ENDED_SUBSCRIPTIONS) == (s.ended_at is not None)
    if s.status in (*ENDED_SUBSCRIPTIONS, SUB.PAUSED, SUB.UNPAID):
        assert s.next_renewal_at is None
    assert s.access_ends_at is None or s.status is SUB.PAST_DUE
    assert s.cancel_at is None or s.cancel_origin is not None
    if s.status in (SUB.ACTIVE, SUB.TRIALING, SUB.PAST_DUE, SUB.UNPAID):
        assert s.current_period_end is not None
    if i is not None:
        assert (i.status is INV.PAID) == (i.paid_at is not None)
        assert i.status not in (INV.UNCOLLECTIBLE, INV.VOID) or i.closed_at is not None
        assert i.attempt_due_at is None or (i.status is INV.OPEN and i.attempt_source is not None)
        in_dunning = i.first_declined_at is not None
        assert in_dunning == (i.dunning_ends_at is not None) == (i.retry_policy is not None)
    if a is not None:
        assert (a.state in RESOLVED) == (a.resolved_at is not None)
        assert (a.state is ATT.DECLINED) == (a.decline_class is not None)
        assert a.state not in (ATT.SUCCEEDED, ATT.PENDING, ATT.ACTION_REQUIRED) or a.gateway_ref
        assert a.state not in RESOLVED or a.check_due_at is None

"""The end of a subscription by somebody's wish: at once, or with the period that is paid.

Source: rules 8 and 43 of the life cycle. The caller holds the subscription's lock.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from billing import consequences
from billing.facts import Case, Invoice, Subscription
from billing.lifecycle import (
    ENDED_SUBSCRIPTIONS,
    CancelOrigin,
    InvoiceStatus,
    SubscriptionStatus,
)
from billing.messages import MessageType

UNSAID = "requested"
"""The reason of who gave none."""


def cancel(
    subscription: Subscription,
    open_invoices: Sequence[Invoice],
    *,
    under_way: Collection[UUID],
    origin: CancelOrigin,
    reason: str | None,
    now: datetime,
) -> list[Case]:
    """End the subscription now, and return what has to be written; nothing if it has ended already.

    Invoices with an attempt `under_way` stay open without a next one: that attempt is resolved by
    reading only, and its settling closes them. The others are void.
    """
    if subscription.status in ENDED_SUBSCRIPTIONS:
        return []
    told = reason or UNSAID
    cases = [Case(subscription, invoice, None, now) for invoice in open_invoices]
    for case in cases:
        if case.invoice.invoice_id in under_way:
            _stop_retries(case.invoice)
        else:
            case.move_invoice(InvoiceStatus.VOID, f"canceled: {told}")
            case.tell_money(MessageType.INVOICE_VOIDED)
    end = Case(subscription, None, None, now)
    consequences.end(end, SubscriptionStatus.CANCELED, reason=told, origin=origin)
    return [*cases, end]


def cancel_at_period_end(
    subscription: Subscription,
    open_invoices: Sequence[Invoice],
    *,
    under_way: Collection[UUID],
    origin: CancelOrigin,
    reason: str | None,
    now: datetime,
) -> list[Case]:
    """Renew no more; may be undone until the paid period ends. If none is running, that is now."""
    if subscription.status in ENDED_SUBSCRIPTIONS:
        return []
    ends_at = subscription.current_period_end
    if ends_at is None or ends_at <= now:
        return cancel(
            subscription,
            open_invoices,
            under_way=under_way,
            origin=origin,
            reason=reason,
            now=now,
        )
    subscription.cancel_at = ends_at
    subscription.cancel_origin, subscription.cancel_reason = origin, reason or UNSAID
    case = Case(subscription, None, None, now)
    case.tell(
        MessageType.CANCEL_SCHEDULED, cancel_at=ends_at, origin=origin, reason=reason or UNSAID
    )
    return [case]


def undo_cancel(subscription: Subscription, *, now: datetime) -> list[Case]:
    """Forget a cancel that has not happened yet; nothing if there is none."""
    if subscription.status in ENDED_SUBSCRIPTIONS or subscription.cancel_at is None:
        return []
    subscription.cancel_at = subscription.cancel_origin = subscription.cancel_reason = None
    return [Case(subscription, None, None, now)]


def _stop_retries(invoice: Invoice) -> None:
    invoice.attempt_due_at = invoice.attempt_source = invoice.requested_source = None

"""Attempts that somebody asked for: a new card, new details of a card, a request to collect."""

from uuid import UUID

from billing.dunning_terms import AttemptSource
from billing.events import PlatformEvent, shown
from billing.events.payloads import CollectionRequested
from billing.facts import Case, Invoice, Subscription
from billing.lifecycle import ENDED_SUBSCRIPTIONS, InvoiceStatus
from worker.platform.desk import Desk
from worker.platform.verdicts import Applied, Kind, Missing, Ref, Refused, Verdict
from worker.store.methods import Method

PARKED = "parked"
"""The hold of an invoice that was taken out of its sweep: only a release by hand ends it."""


def collect(desk: Desk, event: PlatformEvent, told: CollectionRequested) -> Verdict:
    """One attempt at once. A method that is named becomes the subscription's."""
    del event
    found = _subject(desk, told)
    if isinstance(found, Missing | Refused):
        return found
    subscription, invoices, field = found
    if subscription.status in ENDED_SUBSCRIPTIONS:
        return Refused(field, f"{field} names a subscription that is {subscription.status}")
    wanted = [invoice for invoice in invoices if invoice.status is InvoiceStatus.OPEN]
    if not wanted:
        return Refused(field, f"{field} names nothing to collect: should name an open invoice")
    if told.payment_method_id is not None:
        method = usable_method(desk, subscription.customer_id, told.payment_method_id)
        if not isinstance(method, Method):
            return method
        point(desk, subscription, method)
    for invoice in wanted:
        attempt_now(desk, subscription, invoice, AttemptSource.MANUAL)
    return Applied()


def _subject(
    desk: Desk, told: CollectionRequested
) -> tuple[Subscription, list[Invoice], str] | Missing | Refused:
    """The subscription, those of its invoices that are meant, and the field that said so."""
    if told.invoice_id is None:
        assert told.subscription_id is not None, "the payload names one of them"
        subscription = desk.subscriptions.get(told.subscription_id)
        if subscription is None:
            return Missing(Ref(Kind.SUBSCRIPTION, told.subscription_id), "data.subscription_id")
        return subscription, desk.invoices_of(told.subscription_id), "data.subscription_id"
    invoice_id = as_uuid(told.invoice_id)
    invoice = None if invoice_id is None else desk.owners.get(invoice_id)
    if invoice is None:
        return Missing(Ref(Kind.INVOICE, told.invoice_id), "data.invoice_id")
    if told.subscription_id not in (None, invoice.subscription_id):
        error = f"data.invoice_id is {shown(told.invoice_id)}: is of another subscription"
        return Refused("data.invoice_id", error)
    return desk.subscriptions[invoice.subscription_id], [invoice], "data.invoice_id"


def as_uuid(text: str) -> UUID | None:
    """The invoice id in `text`, if it can be one of ours."""
    try:
        return UUID(text)
    except ValueError:
        return None


def usable_method(
    desk: Desk, customer_id: str, payment_method_id: str, *, may_be_removed: bool = False
) -> Method | Missing | Refused:
    """The method that a message wants to charge this customer with."""
    field = "data.payment_method_id"
    method = desk.methods.get(payment_method_id)
    if method is None:
        return Missing(Ref(Kind.METHOD, payment_method_id), field)
    if method.customer_id != customer_id:
        return Refused(field, f"{field} is {shown(payment_method_id)}: is of another customer")
    if method.removed_at is not None and not may_be_removed:
        return Refused(field, f"{field} is {shown(payment_method_id)}: was removed")
    return method


def point(desk: Desk, subscription: Subscription, method: Method) -> None:
    """Charge the subscription with this method from now on, open invoices included."""
    subscription.payment_method_id = method.payment_method_id
    subscription.gateway = method.gateway
    show(subscription, method)
    desk.pointed[subscription.subscription_id] = subscription
    for invoice in desk.invoices_of(subscription.subscription_id):
        invoice.gateway = method.gateway
        desk.cases.append(Case(subscription, invoice, None, desk.now))


def show(subscription: Subscription, method: Method) -> None:
    """Make the subscription say what its method says."""
    subscription.token, subscription.method_gateway = method.token, method.gateway
    subscription.method_removed_at = method.removed_at
    subscription.method_hard_declined_at = method.hard_declined_at
    subscription.method_changed_at = method.changed_at


def retry_with_new_card(desk: Desk, subscription: Subscription) -> None:
    """Attempt the open invoices at once, if the policy wants that of a new card (LIFECYCLE 17)."""
    for invoice in desk.invoices_of(subscription.subscription_id):
        if invoice.status is not InvoiceStatus.OPEN or _waits_for_window(invoice, desk):
            continue
        if invoice.policy(subscription).new_card_retries_now:
            attempt_now(desk, subscription, invoice, AttemptSource.NEW_CARD)
        elif _waits_for_customer(invoice, desk):
            # The schedule may go on with the new card: asked again, it says when.
            invoice.attempt_due_at, invoice.attempt_source = desk.now, AttemptSource.RETRY
            desk.cases.append(Case(subscription, invoice, None, desk.now))


def _waits_for_window(invoice: Invoice, desk: Desk) -> bool:
    """A first attempt that waits for its charging window: there is no debt yet to retry."""
    waits = invoice.attempt_due_at is not None and invoice.attempt_due_at > desk.now
    return invoice.first_declined_at is None and waits


def _waits_for_customer(invoice: Invoice, desk: Desk) -> bool:
    final = invoice.attempt_source == AttemptSource.FINAL and invoice.hold_reason != PARKED
    return final and invoice.invoice_id not in desk.under_way


def attempt_now(
    desk: Desk, subscription: Subscription, invoice: Invoice, source: AttemptSource
) -> None:
    """Attempt an open invoice once, now; or as soon as the attempt that is under way is settled."""
    invoice.requested_source = source
    invoice.gateway = subscription.gateway
    desk.cases.append(Case(subscription, invoice, None, desk.now))
    trace = desk.under_way.get(invoice.invoice_id)
    if trace is not None:
        invoice.attempt_due_at = invoice.attempt_source = None
        desk.look_again(trace)
    elif invoice.hold_reason != PARKED:
        invoice.attempt_due_at, invoice.attempt_source = desk.now, source
        invoice.hold_reason = None

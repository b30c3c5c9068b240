"""A platform that lost track: the stored messages of a subscription again, then how it stands."""

from billing.events import PlatformEvent
from billing.events.payloads import SyncRequested
from billing.facts import Subscription
from billing.lifecycle import InvoiceStatus
from billing.messages import MessageType
from worker.platform.desk import Desk
from worker.platform.verdicts import Applied, Kind, Missing, Ref, Verdict


def sync(desk: Desk, event: PlatformEvent, told: SyncRequested) -> Verdict:
    """Send again from a sequence on; the snapshot is a new message with the next sequence."""
    del event
    subscription = desk.subscriptions.get(told.subscription_id)
    if subscription is None:
        return Missing(Ref(Kind.SUBSCRIPTION, told.subscription_id), "data.subscription_id")
    desk.resends.append((told.subscription_id, told.from_sequence or 1))
    desk.touch(subscription).tell(MessageType.SNAPSHOT, **snapshot(desk, subscription))
    return Applied()


def snapshot(desk: Desk, subscription: Subscription) -> dict[str, object]:
    """State, period, plan, oldest open invoice, next retry; no invoice fields without one."""
    invoices = desk.invoices_of(subscription.subscription_id)
    owed = next((i for i in invoices if i.status is InvoiceStatus.OPEN), None)
    stands: dict[str, object] = {
        "state": subscription.status,
        "plan_id": subscription.plan_id,
        "quantity": subscription.quantity,
        "period_start": subscription.current_period_start,
        "period_end": subscription.current_period_end,
        "next_renewal_at": subscription.next_renewal_at,
        "cancel_at": subscription.cancel_at,
        "next_retry_at": None if owed is None else owed.attempt_due_at,
    }
    if owed is not None:
        stands |= {
            "invoice_id": owed.invoice_id,
            "amount_minor": owed.amount_minor,
            "currency": owed.currency,
        }
    return stands

"""Cancel, and its undoing before it happens. At equal times a cancel beats its undo (LIFECYCLE 45)."""

from billing.cancellation import cancel, cancel_at_period_end, undo_cancel
from billing.events import PlatformEvent
from billing.events.payloads import CancelRequested, CancelUndone
from billing.lifecycle import ENDED_SUBSCRIPTIONS, CancelOrigin
from worker.platform.desk import Desk
from worker.platform.verdicts import Applied, Kind, Missing, Ref, Refused, Superseded, Verdict
from worker.store.inbox import Topic

UNDO_RANK, CANCEL_RANK = 0, 1


def request_cancel(desk: Desk, event: PlatformEvent, told: CancelRequested) -> Verdict:
    """End the subscription; one that has ended already stays as it is."""
    subscription = desk.subscriptions.get(told.subscription_id)
    if subscription is None:
        return Missing(Ref(Kind.SUBSCRIPTION, told.subscription_id), "data.subscription_id")
    topic = _topic(told.subscription_id)
    if desk.is_superseded(topic, event, rank=CANCEL_RANK):
        return Superseded()
    desk.note(topic, event, rank=CANCEL_RANK)
    rule = cancel if told.at == "now" else cancel_at_period_end
    desk.cases += rule(
        subscription,
        desk.invoices_of(told.subscription_id),
        under_way=desk.under_way.keys(),
        origin=CancelOrigin(told.origin),
        reason=told.reason,
        now=desk.now,
    )
    return Applied()


def undo(desk: Desk, event: PlatformEvent, told: CancelUndone) -> Verdict:
    """Forget a cancel that has not happened; without one, remember that an older one is void."""
    subscription = desk.subscriptions.get(told.subscription_id)
    if subscription is None:
        return Missing(Ref(Kind.SUBSCRIPTION, told.subscription_id), "data.subscription_id")
    topic = _topic(told.subscription_id)
    if desk.is_superseded(topic, event, rank=UNDO_RANK):
        return Superseded()
    if subscription.status in ENDED_SUBSCRIPTIONS:
        field = "data.subscription_id"
        error = f"{field} names a subscription that is {subscription.status}: too late to undo"
        return Refused(field, error)
    desk.note(topic, event, rank=UNDO_RANK)
    desk.cases += undo_cancel(subscription, now=desk.now)
    return Applied()


def _topic(subscription_id: str) -> Topic:
    return Topic(Kind.SUBSCRIPTION, subscription_id, "cancellation")

"""Every type of the contract: those that this version builds with their payloads, and the others."""

from collections.abc import Mapping
from enum import StrEnum

from billing.events.payloads import (
    CancelRequested,
    CancelUndone,
    CollectionRequested,
    CustomerUpserted,
    PaymentMethodAttached,
    PaymentMethodChanged,
    PaymentMethodRemoved,
    PaymentMethodUpdated,
    PaymentReported,
    PlanUpserted,
    SellerUpserted,
    SubscriptionCreated,
    SyncRequested,
    Told,
)


class EventType(StrEnum):
    """Types of platform messages, spelled as they are sent."""

    SELLER_UPSERTED = "platform.seller.upserted"
    PLAN_UPSERTED = "platform.plan.upserted"
    CUSTOMER_UPSERTED = "platform.customer.upserted"
    ERASURE_REQUESTED = "platform.customer.erasure_requested"
    METHOD_ATTACHED = "platform.payment_method.attached"
    METHOD_UPDATED = "platform.payment_method.updated"
    METHOD_REMOVED = "platform.payment_method.removed"
    MANDATE_REVOKED = "platform.mandate.revoked"
    CREATED = "platform.subscription.created"
    CANCEL_REQUESTED = "platform.subscription.cancel_requested"
    CANCEL_UNDONE = "platform.subscription.cancel_undone"
    PAUSED = "platform.subscription.paused"
    RESUMED = "platform.subscription.resumed"
    PLAN_CHANGE_REQUESTED = "platform.subscription.plan_change_requested"
    BILLING_DAY_CHANGE_REQUESTED = "platform.subscription.billing_day_change_requested"
    METHOD_CHANGED = "platform.subscription.payment_method_changed"
    COUPON_APPLIED = "platform.subscription.coupon_applied"
    COUPON_REMOVED = "platform.subscription.coupon_removed"
    SYNC_REQUESTED = "platform.subscription.sync_requested"
    COLLECTION_REQUESTED = "platform.invoice.collection_requested"
    USAGE_RECORDED = "platform.usage.recorded"
    PURCHASE_RECORDED = "platform.purchase.recorded"
    COUPON_UPSERTED = "platform.coupon.upserted"
    REFUND_REQUESTED = "platform.refund.requested"
    PAYMENT_SETTLED = "platform.payment.settled"
    PAYMENT_FAILED = "platform.payment.failed"
    DISPUTE_OPENED = "platform.dispute.opened"
    DISPUTE_CLOSED = "platform.dispute.closed"
    LEARNER_PROGRESSED = "platform.learner.progressed"


BUILT: Mapping[EventType, type[Told]] = {
    EventType.SELLER_UPSERTED: SellerUpserted,
    EventType.PLAN_UPSERTED: PlanUpserted,
    EventType.CUSTOMER_UPSERTED: CustomerUpserted,
    EventType.METHOD_ATTACHED: PaymentMethodAttached,
    EventType.METHOD_UPDATED: PaymentMethodUpdated,
    EventType.METHOD_REMOVED: PaymentMethodRemoved,
    EventType.CREATED: SubscriptionCreated,
    EventType.CANCEL_REQUESTED: CancelRequested,
    EventType.CANCEL_UNDONE: CancelUndone,
    EventType.METHOD_CHANGED: PaymentMethodChanged,
    EventType.SYNC_REQUESTED: SyncRequested,
    EventType.COLLECTION_REQUESTED: CollectionRequested,
    EventType.PAYMENT_SETTLED: PaymentReported,
    EventType.PAYMENT_FAILED: PaymentReported,
}
"""What this version takes; every other type is rejected with an error that says so."""

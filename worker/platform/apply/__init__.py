"""What each platform message does: one small handler per type, all of them on a desk, none with I/O."""

from typing import assert_never

from billing.events import PlatformEvent
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
)
from worker.platform.apply import (
    cancellation,
    collection,
    methods,
    parties,
    payments,
    plans,
    signup,
    sync,
)
from worker.platform.desk import Desk
from worker.platform.verdicts import Verdict

__all__ = ["apply"]


def apply(desk: Desk, event: PlatformEvent) -> Verdict:  # noqa: C901, PLR0911, PLR0912 - a table
    """Apply one message to the desk; what is not applied has changed nothing."""
    match event.payload:
        case SellerUpserted() as told:
            return parties.upsert_seller(desk, event, told)
        case PlanUpserted() as told:
            return plans.upsert_plan(desk, event, told)
        case CustomerUpserted() as told:
            return parties.upsert_customer(desk, event, told)
        case PaymentMethodAttached() as told:
            return methods.attach(desk, event, told)
        case PaymentMethodUpdated() as told:
            return methods.update(desk, event, told)
        case PaymentMethodRemoved() as told:
            return methods.remove(desk, event, told)
        case PaymentMethodChanged() as told:
            return methods.change(desk, event, told)
        case SubscriptionCreated() as told:
            return signup.create(desk, event, told)
        case CancelRequested() as told:
            return cancellation.request_cancel(desk, event, told)
        case CancelUndone() as told:
            return cancellation.undo(desk, event, told)
        case CollectionRequested() as told:
            return collection.collect(desk, event, told)
        case PaymentReported() as told:
            return payments.report(desk, event, told)
        case SyncRequested() as told:
            return sync.sync(desk, event, told)
        case _:
            assert_never(event.payload)

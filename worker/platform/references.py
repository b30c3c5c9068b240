"""What messages name, so that a batch reads and locks all of it once."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

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
from worker.platform.apply.collection import as_uuid
from worker.platform.verdicts import Kind, Ref
from worker.store.inbox import Topic


@dataclass(slots=True)
class Names:
    """Ids that a batch names, by kind; `new_…` and `changed_…` are those that it may write."""

    sellers: set[str] = field(default_factory=set)
    new_sellers: set[str] = field(default_factory=set)
    plans: set[str] = field(default_factory=set)
    customers: set[str] = field(default_factory=set)
    new_customers: set[str] = field(default_factory=set)
    new_defaults: set[str] = field(default_factory=set)
    methods: set[str] = field(default_factory=set)
    changed_methods: set[str] = field(default_factory=set)
    subscriptions: set[str] = field(default_factory=set)
    invoices: set[UUID] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    gateway_refs: set[str] = field(default_factory=set)
    topics: set[Topic] = field(default_factory=set)


def names_in(events: Iterable[PlatformEvent]) -> Names:
    """Everything that these messages name."""
    names = Names()
    for event in events:
        _add(names, event)
    return names


def brought_by(event: PlatformEvent) -> Ref | None:
    """What other messages may have waited for, if this one is applied."""
    match event.payload:
        case SellerUpserted(seller_id=id_):
            return Ref(Kind.SELLER, id_)
        case PlanUpserted(plan_id=id_):
            return Ref(Kind.PLAN, id_)
        case CustomerUpserted(customer_id=id_):
            return Ref(Kind.CUSTOMER, id_)
        case PaymentMethodAttached(payment_method_id=id_):
            return Ref(Kind.METHOD, id_)
        case SubscriptionCreated(subscription_id=id_):
            return Ref(Kind.SUBSCRIPTION, id_)
        case _:
            return None


def _add(names: Names, event: PlatformEvent) -> None:
    match event.payload:
        case SellerUpserted() as told:
            names.new_sellers.add(told.seller_id)
            names.topics.add(Topic(Kind.SELLER, told.seller_id, "profile"))
        case PlanUpserted() as told:
            names.plans.add(told.plan_id)
            names.sellers.add(told.seller_id)
            names.topics.add(Topic(Kind.PLAN, told.plan_id, "profile"))
        case CustomerUpserted() as told:
            names.new_customers.add(told.customer_id)
            names.topics.add(Topic(Kind.CUSTOMER, told.customer_id, "profile"))
        case PaymentMethodAttached() as told:
            _add_attached(names, told)
        case PaymentMethodUpdated() | PaymentMethodRemoved() as told:
            names.changed_methods.add(told.payment_method_id)
            names.topics.add(Topic(Kind.METHOD, told.payment_method_id, "profile"))
        case SubscriptionCreated() as told:
            names.subscriptions.add(told.subscription_id)
            names.customers.add(told.customer_id)
            names.plans.add(told.plan_id)
            names.methods.add(told.payment_method_id)
        case _:
            _add_request(names, event)


def _add_attached(names: Names, told: PaymentMethodAttached) -> None:
    names.changed_methods.add(told.payment_method_id)
    names.topics.add(Topic(Kind.METHOD, told.payment_method_id, "profile"))
    names.customers.add(told.customer_id)
    if told.default:
        names.new_defaults.add(told.customer_id)
        names.topics.add(Topic(Kind.CUSTOMER, told.customer_id, "default"))


def _add_request(names: Names, event: PlatformEvent) -> None:
    """The messages about a subscription, an invoice or a payment that is there already."""
    match event.payload:
        case CancelRequested() | CancelUndone() as told:
            names.subscriptions.add(told.subscription_id)
            names.topics.add(Topic(Kind.SUBSCRIPTION, told.subscription_id, "cancellation"))
        case PaymentMethodChanged() as told:
            names.subscriptions.add(told.subscription_id)
            names.methods.add(told.payment_method_id)
            names.topics.add(Topic(Kind.SUBSCRIPTION, told.subscription_id, "method"))
        case SyncRequested() as told:
            names.subscriptions.add(told.subscription_id)
        case CollectionRequested() as told:
            _add_collection(names, told)
        case PaymentReported() as told:
            if told.idempotency_key is not None:
                names.keys.add(told.idempotency_key)
            if told.gateway_ref is not None:
                names.gateway_refs.add(told.gateway_ref)
        case _:
            raise AssertionError(f"{event.type} names nothing")


def _add_collection(names: Names, told: CollectionRequested) -> None:
    if told.subscription_id is not None:
        names.subscriptions.add(told.subscription_id)
    invoice_id = None if told.invoice_id is None else as_uuid(told.invoice_id)
    if invoice_id is not None:
        names.invoices.add(invoice_id)
    if told.payment_method_id is not None:
        names.methods.add(told.payment_method_id)

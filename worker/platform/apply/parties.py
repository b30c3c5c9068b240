"""Sellers and customers: the newest profile counts, whole."""

from billing.events import PlatformEvent
from billing.events.payloads import CustomerUpserted, SellerUpserted
from worker.platform.desk import Desk
from worker.platform.verdicts import Applied, Kind, Ref, Superseded, Verdict
from worker.store.inbox import Topic
from worker.store.parties import Customer, Seller


def upsert_seller(desk: Desk, event: PlatformEvent, told: SellerUpserted) -> Verdict:
    """A seller as told now. Its `pass_offer` may name a plan that comes later (LIFECYCLE 36)."""
    ref = Ref(Kind.SELLER, told.seller_id)
    topic = Topic(*ref, "profile")
    if desk.is_superseded(topic, event):
        return Superseded()
    desk.note(topic, event)
    seller = Seller(
        seller_id=told.seller_id,
        name=told.name,
        timezone=told.timezone,
        locale=told.locale,
        report_email=told.report_email,
        statement_descriptor=told.statement_descriptor,
        pass_offer=None if told.pass_offer is None else told.pass_offer.model_dump(),
        late_money=told.late_money or "refund",
        extra=told.extra,
    )
    return Applied(ref if desk.sellers.put(told.seller_id, seller) else None)


def upsert_customer(desk: Desk, event: PlatformEvent, told: CustomerUpserted) -> Verdict:
    """A customer as told now; the default method is told with the methods."""
    ref = Ref(Kind.CUSTOMER, told.customer_id)
    topic = Topic(*ref, "profile")
    if desk.is_superseded(topic, event):
        return Superseded()
    desk.note(topic, event)
    known = desk.customers.get(told.customer_id)
    customer = Customer(
        customer_id=told.customer_id,
        email=told.email,
        name=told.name,
        locale=told.locale,
        timezone=told.timezone,
        country=told.country,
        segments=told.segments or [],
        default_payment_method_id=None if known is None else known.default_payment_method_id,
        extra=told.extra,
    )
    return Applied(ref if desk.customers.put(told.customer_id, customer) else None)

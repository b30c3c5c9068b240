"""Payment methods: attached, updated, removed, and which one a subscription is charged with."""

from dataclasses import replace

from billing.events import PlatformEvent, shown
from billing.events.payloads import (
    PaymentMethodAttached,
    PaymentMethodChanged,
    PaymentMethodRemoved,
    PaymentMethodUpdated,
)
from billing.lifecycle import ENDED_SUBSCRIPTIONS
from billing.renewal import has_method
from worker.platform.apply.collection import point, retry_with_new_card, show, usable_method
from worker.platform.desk import Desk
from worker.platform.verdicts import Applied, Kind, Missing, Ref, Refused, Superseded, Verdict
from worker.store.inbox import Topic
from worker.store.methods import Method


def attach(desk: Desk, event: PlatformEvent, told: PaymentMethodAttached) -> Verdict:
    """A method as told now; attached again, it is the same method with the details of now."""
    if desk.customers.get(told.customer_id) is None:
        return Missing(Ref(Kind.CUSTOMER, told.customer_id), "data.customer_id")
    known = desk.methods.get(told.payment_method_id)
    if known is not None and known.customer_id != told.customer_id:
        field = "data.payment_method_id"
        return Refused(field, f"{field} is {shown(told.payment_method_id)}: is of another customer")
    topic = _topic(told.payment_method_id)
    if desk.is_superseded(topic, event):
        return Superseded()
    desk.note(topic, event)
    method = _method(event, told)
    if known is None:
        desk.methods.put(told.payment_method_id, method)
    else:
        _change(desk, known, method)
    if told.default:
        _make_default(desk, event, method)
    return Applied(Ref(Kind.METHOD, told.payment_method_id) if known is None else None)


def update(desk: Desk, event: PlatformEvent, told: PaymentMethodUpdated) -> Verdict:
    """New details of a card, from its owner or from an account updater; what is not told stays."""
    known = desk.methods.get(told.payment_method_id)
    if known is None:
        return Missing(Ref(Kind.METHOD, told.payment_method_id), "data.payment_method_id")
    topic = _topic(told.payment_method_id)
    if desk.is_superseded(topic, event):
        return Superseded()
    desk.note(topic, event)
    method = replace(
        known,
        exp_month=known.exp_month if told.exp_month is None else told.exp_month,
        exp_year=known.exp_year if told.exp_year is None else told.exp_year,
        token=known.token if told.token is None else told.token,
        fingerprint=known.fingerprint if told.fingerprint is None else told.fingerprint,
    )
    _change(desk, known, method)
    return Applied()


def remove(desk: Desk, event: PlatformEvent, told: PaymentMethodRemoved) -> Verdict:
    """The method is gone; its subscriptions go on with the customer's default, if that is usable."""
    known = desk.methods.get(told.payment_method_id)
    if known is None:
        return Missing(Ref(Kind.METHOD, told.payment_method_id), "data.payment_method_id")
    topic = _topic(told.payment_method_id)
    if desk.is_superseded(topic, event):
        return Superseded()
    desk.note(topic, event)
    method = replace(known, removed_at=known.removed_at or event.occurred_at)
    desk.methods.put(method.payment_method_id, method)
    fallback = _fallback(desk, method)
    for subscription in desk.subscriptions_on(method):
        show(subscription, method)
        if fallback is not None and subscription.status not in ENDED_SUBSCRIPTIONS:
            point(desk, subscription, fallback)
    return Applied()


def change(desk: Desk, event: PlatformEvent, told: PaymentMethodChanged) -> Verdict:
    """The customer wants the subscription charged with another method, and a debt with it now."""
    subscription = desk.subscriptions.get(told.subscription_id)
    if subscription is None:
        return Missing(Ref(Kind.SUBSCRIPTION, told.subscription_id), "data.subscription_id")
    method = desk.methods.get(told.payment_method_id)
    if method is None:
        return Missing(Ref(Kind.METHOD, told.payment_method_id), "data.payment_method_id")
    topic = Topic(Kind.SUBSCRIPTION, told.subscription_id, "method")
    if desk.is_superseded(topic, event):
        return Superseded()
    if subscription.status in ENDED_SUBSCRIPTIONS:
        field = "data.subscription_id"
        return Refused(field, f"{field} names a subscription that is {subscription.status}")
    checked = usable_method(desk, subscription.customer_id, told.payment_method_id)
    if not isinstance(checked, Method):
        return checked
    desk.note(topic, event)
    if subscription.payment_method_id != method.payment_method_id:
        point(desk, subscription, method)
        retry_with_new_card(desk, subscription)
    return Applied()


def _topic(payment_method_id: str) -> Topic:
    return Topic(Kind.METHOD, payment_method_id, "profile")


def _change(desk: Desk, known: Method, method: Method) -> None:
    """Other details are a new card: the bank's "never again" is over, and a debt is tried at once."""
    is_new_card = method.details != known.details
    method = replace(
        method,
        changed_at=desk.now if is_new_card else known.changed_at,
        hard_declined_at=None if is_new_card else known.hard_declined_at,
        hard_decline_code=None if is_new_card else known.hard_decline_code,
    )
    desk.methods.put(method.payment_method_id, method)
    for subscription in desk.subscriptions_on(method):
        if subscription.status in ENDED_SUBSCRIPTIONS:
            continue
        show(subscription, method)
        if subscription.gateway != method.gateway:
            point(desk, subscription, method)
        if is_new_card and method.is_usable:
            retry_with_new_card(desk, subscription)


def _make_default(desk: Desk, event: PlatformEvent, method: Method) -> None:
    """The customer's default from now on, and the method of subscriptions that have no usable one."""
    customer = desk.customers.get(method.customer_id)
    assert customer is not None, "asked before"
    topic = Topic(Kind.CUSTOMER, customer.customer_id, "default")
    if desk.is_superseded(topic, event):
        return
    desk.note(topic, event)
    default = replace(customer, default_payment_method_id=method.payment_method_id)
    desk.customers.put(customer.customer_id, default)
    for subscription in desk.of_customer.get(customer.customer_id, []):
        has_ended = subscription.status in ENDED_SUBSCRIPTIONS
        if method.is_usable and not has_ended and not has_method(subscription):
            point(desk, subscription, method)
            retry_with_new_card(desk, subscription)


def _fallback(desk: Desk, removed: Method) -> Method | None:
    """The customer's default, if it may be charged; the removed one is no default any more."""
    customer = desk.customers.get(removed.customer_id)
    if customer is None or customer.default_payment_method_id is None:
        return None
    if customer.default_payment_method_id == removed.payment_method_id:
        orphan = replace(customer, default_payment_method_id=None)
        desk.customers.put(customer.customer_id, orphan)
        return None
    default = desk.methods.get(customer.default_payment_method_id)
    return default if default is not None and default.is_usable else None


def _method(event: PlatformEvent, told: PaymentMethodAttached) -> Method:
    return Method(
        payment_method_id=told.payment_method_id,
        customer_id=told.customer_id,
        gateway=told.gateway,
        token=told.token,
        kind=told.kind,
        brand=told.brand,
        funding=told.funding,
        country=told.country,
        exp_month=told.exp_month,
        exp_year=told.exp_year,
        fingerprint=told.fingerprint,
        backup_consent=bool(told.backup_consent),
        attached_at=event.occurred_at,
        extra=told.extra,
    )

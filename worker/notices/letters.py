"""What a mail says, before it is put into words: one value for all kinds, languages and channels."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from billing.calendar import period, whole_period
from billing.dunning import AttemptSource
from billing.facts import Subscription
from billing.lifecycle import SubscriptionStatus
from billing.money import Money
from billing.notices import NoticeKind
from billing.pricing import Price, PriceModel, PricingError, price_period
from worker.store.notices import DueNotice

AUTOMATIC = frozenset({AttemptSource.RETRY, AttemptSource.TECHNICAL})
"""Attempts worth announcing: the others wait for the customer or were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """The content of one mail; a template reads these names. Instants are UTC, shown in `zone`.

    `amount` is None where it is not known before the day, `context` is what the notice was written
    with.
    """

    notice_id: UUID
    kind: NoticeKind
    to: str
    locale: str | None
    zone: str
    customer_name: str | None
    seller_name: str
    plan_name: str
    amount: Money | None
    method_kind: str
    method_brand: str | None
    trialing: bool
    renewal_at: datetime | None
    next_attempt_at: datetime | None
    access_ends_at: datetime | None
    context: Mapping[str, Any]


def letter_of(due: DueNotice, subscription: Subscription) -> Letter:
    """The letter of a due notice about this subscription."""
    return Letter(
        notice_id=due.notice_id,
        kind=NoticeKind(due.kind),
        to=due.email,
        locale=due.locale,
        zone=due.zone,
        customer_name=due.customer_name,
        seller_name=due.seller_name,
        plan_name=subscription.plan_name,
        amount=Money(due.amount_minor, due.currency)
        if due.amount_minor is not None and due.currency is not None
        else _next_amount(subscription),
        method_kind=due.method_kind,
        method_brand=due.method_brand,
        trialing=subscription.status is SubscriptionStatus.TRIALING,
        renewal_at=subscription.next_renewal_at,
        next_attempt_at=due.attempt_due_at if due.attempt_source in AUTOMATIC else None,
        access_ends_at=subscription.access_ends_at,
        context=due.context,
    )


def _next_amount(subscription: Subscription) -> Money | None:
    """What the next period will cost, as the renewal itself will compute it."""
    anchor, interval, n = subscription.anchor, subscription.interval, subscription.next_period
    price = Price(
        PriceModel(subscription.price_model), subscription.currency, subscription.unit_amount_minor
    )
    try:
        lines = price_period(
            price,
            quantity=subscription.quantity,
            period=period(anchor, interval, n),
            whole=whole_period(anchor, interval, n),
            plan_name=subscription.plan_name,
            zone=subscription.zone,
        )
    except PricingError:
        return None
    return Money(sum(line.amount_minor for line in lines), subscription.currency)

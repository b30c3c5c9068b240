"""A new subscription: its zone, its anchor and its first period.

Three ways to begin (contract, "First period"; LIFECYCLE 21, 31, 38): paid already until `paid_through`;
in a trial, whose end is the first renewal; or with a first charge at `starts_at`, pending until paid.
"""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from billing.calendar import (
    Interval,
    IntervalUnit,
    boundary,
    instant,
    local_time,
    make_anchor,
)
from billing.consequences import announce_renewal
from billing.events import PlatformEvent, shown
from billing.events.payloads import SubscriptionCreated
from billing.facts import Subscription
from billing.lifecycle import RejectedState, SubscriptionStatus
from billing.messages import MessageType
from worker.platform.apply.collection import usable_method
from worker.platform.desk import Desk
from worker.platform.verdicts import Applied, Kind, Missing, Ref, Refused, Verdict
from worker.store.methods import Method
from worker.store.parties import Customer, Seller
from worker.store.plans import Plan
from worker.store.signups import Signup


class Parties(NamedTuple):
    """Everything that a subscription stands between."""

    customer: Customer
    plan: Plan
    seller: Seller
    method: Method


class Beginning(NamedTuple):
    """How a subscription begins; the period is the one that is paid for, or the trial."""

    status: SubscriptionStatus
    renews_at: datetime
    period_start: datetime | None
    period_end: datetime | None


def create(desk: Desk, event: PlatformEvent, told: SubscriptionCreated) -> Verdict:
    """A subscription that nobody knew; a second one of its id is rejected."""
    if told.subscription_id in desk.subscriptions:
        field = "data.subscription_id"
        error = f"{field} is {shown(told.subscription_id)}: was created before"
        return Refused(field, error, RejectedState.REJECTED)
    parties = _parties(desk, told)
    if not isinstance(parties, Parties):
        return parties
    zone = _zone(told, parties)
    fault = _fault(event, told, parties.plan, zone)
    if fault is not None:
        return fault
    subscription = _subscription(event, told, parties, zone)
    desk.add(subscription)
    desk.signups[told.subscription_id] = Signup(
        subscription, parties.plan.price_version, event.occurred_at, told.extra
    )
    if subscription.status is not SubscriptionStatus.PENDING:
        _activate(desk, subscription)
    return Applied(Ref(Kind.SUBSCRIPTION, told.subscription_id))


def _parties(desk: Desk, told: SubscriptionCreated) -> Parties | Missing | Refused:
    customer = desk.customers.get(told.customer_id)
    if customer is None:
        return Missing(Ref(Kind.CUSTOMER, told.customer_id), "data.customer_id")
    plan = desk.plans.get(told.plan_id)
    if plan is None:
        return Missing(Ref(Kind.PLAN, told.plan_id), "data.plan_id")
    seller = desk.sellers.get(plan.seller_id)
    assert seller is not None, "a known plan has a known seller"
    # A card that was removed meanwhile is no reason to lose the subscription.
    method = usable_method(desk, told.customer_id, told.payment_method_id, may_be_removed=True)
    if not isinstance(method, Method):
        return method
    return Parties(customer, plan, seller, method)


def _zone(told: SubscriptionCreated, parties: Parties) -> str:
    return told.timezone or parties.customer.timezone or parties.seller.timezone or "UTC"


def _interval(plan: Plan) -> Interval:
    return Interval(IntervalUnit(plan.interval_unit), plan.interval_count)


def _fault(
    event: PlatformEvent, told: SubscriptionCreated, plan: Plan, zone: str
) -> Refused | None:
    """What the contract forbids and only the plan can tell."""
    interval = _interval(plan)
    if told.anchor_day is not None and interval.unit in (IntervalUnit.DAY, IntervalUnit.WEEK):
        field = "data.anchor_day"
        error = (
            f"{field} is {told.anchor_day}: should be absent with an interval of {interval.unit}s"
        )
        return Refused(field, error, RejectedState.REJECTED)
    if told.starts_at is None or told.paid_through is not None:
        return None
    anchor = make_anchor(start_at=told.starts_at, zone=zone, interval=interval, anchor_day=None)
    if boundary(anchor, interval, 1) < event.occurred_at:
        field = "data.starts_at"
        error = (
            f"{field} is {shown(told.starts_at.isoformat())}: should be at most one period before "
            "time, or come with paid_through"
        )
        return Refused(field, error, RejectedState.REJECTED)
    return None


def _begin(event: PlatformEvent, told: SubscriptionCreated, plan: Plan, zone: str) -> Beginning:
    starts_at = told.starts_at or event.occurred_at
    if told.paid_through is not None:
        paid_from = starts_at if starts_at < told.paid_through else None
        return Beginning(SubscriptionStatus.ACTIVE, told.paid_through, paid_from, told.paid_through)
    trial_days = plan.trial_days if told.trial_days is None else told.trial_days
    if trial_days:
        ends_at = instant(local_time(starts_at, zone) + timedelta(days=trial_days), zone)
        return Beginning(SubscriptionStatus.TRIALING, ends_at, starts_at, ends_at)
    return Beginning(SubscriptionStatus.PENDING, starts_at, None, None)


def _subscription(
    event: PlatformEvent, told: SubscriptionCreated, parties: Parties, zone: str
) -> Subscription:
    customer, plan, seller, method = parties
    begins = _begin(event, told, plan, zone)
    anchor = make_anchor(
        start_at=begins.renews_at,
        zone=zone,
        interval=_interval(plan),
        anchor_day=told.anchor_day,
    )
    return Subscription(
        subscription_id=told.subscription_id,
        seller_id=plan.seller_id,
        customer_id=told.customer_id,
        plan_id=told.plan_id,
        payment_method_id=told.payment_method_id,
        gateway=method.gateway,
        quantity=told.quantity or 1,
        status=begins.status,
        zone=zone,
        anchor_local=anchor.at,
        anchor_day=anchor.day,
        odd_start_at=anchor.odd_start_at,
        next_period=0,
        current_period_start=begins.period_start,
        current_period_end=begins.period_end,
        next_renewal_at=begins.renews_at,
        access_ends_at=None,
        cancel_at=None,
        cancel_origin=None,
        cancel_reason=None,
        ended_at=None,
        sequence=0,
        claims=0,
        **_terms(plan),
        **_card(method),
        statement_descriptor=seller.statement_descriptor,
        segments=customer.segments,
    )


def _terms(plan: Plan) -> dict[str, Any]:
    """What a subscription reads from its plan and its price."""
    return {
        "plan_name": plan.name,
        "interval_unit": plan.interval_unit,
        "interval_count": plan.interval_count,
        "cycles": plan.cycles,
        "retry_policy": plan.retry_policy,
        "reminders": plan.reminders,
        "catch_up_periods": plan.catch_up_periods,
        "while_past_due": plan.while_past_due,
        "ceiling_minor": plan.ceiling_minor,
        "proration": plan.proration,
        "price_model": plan.price_model,
        "currency": plan.currency,
        "unit_amount_minor": plan.unit_amount_minor,
        "tax_minor": plan.tax_minor,
    }


def _card(method: Method) -> dict[str, Any]:
    """What a subscription reads from its method."""
    return {
        "token": method.token,
        "method_gateway": method.gateway,
        "method_removed_at": method.removed_at,
        "method_hard_declined_at": method.hard_declined_at,
        "method_changed_at": method.changed_at,
    }


def _activate(desk: Desk, subscription: Subscription) -> None:
    """It is paid for, or its trial began: access may open, and its renewal is announced in time."""
    case = desk.touch(subscription)
    case.tell(
        MessageType.ACTIVATED,
        period_start=subscription.current_period_start,
        period_end=subscription.current_period_end,
    )
    announce_renewal(case)

"""Opening the next period's invoice: which period, what it costs, and what comes after it.

Source: rules 1-3, 6, 25 and 32 of the life cycle. Period n is a pure function of the anchor; periods
that were missed beyond `catch_up_periods` are skipped, each with its reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from billing import consequences
from billing.calendar import Period, due_periods, period, whole_period
from billing.dunning import AttemptSource, Refused, may_attempt
from billing.facts import Case, Invoice, Subscription
from billing.keys import invoice_id
from billing.lifecycle import RENEWING_SUBSCRIPTIONS, InvoiceStatus, SubscriptionStatus
from billing.outcomes import DeclineClass
from billing.pricing import Line, Price, PriceModel, check_amount, price_period, price_tax

NO_METHOD = "no_payment_method"
"""The decline code of a renewal that has no method to charge; the customer has to give one."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A new open invoice with its lines, and the periods that were passed over to reach it."""

    case: Case
    lines: Sequence[Line]
    skipped: Sequence[Period]


def is_due(subscription: Subscription, now: datetime) -> bool:
    """Whether its next period is to be invoiced; asked again under the lock, whatever a sweep saw."""
    return subscription.next_renewal_at is not None and subscription.next_renewal_at <= now


def is_held(subscription: Subscription, *, has_open_invoice: bool, now: datetime) -> bool:
    """Whether a due renewal has to wait, until a payment or a person sets its next date again.

    A finite plan whose last period is not paid yet waits as well: it expires once it is.
    """
    if has_open_invoice and is_complete(subscription, now):
        return True
    if subscription.status in RENEWING_SUBSCRIPTIONS:
        return has_open_invoice and subscription.while_past_due == "hold"
    bills_on = subscription.while_past_due == "bill"
    return not (bills_on and subscription.status is SubscriptionStatus.PAST_DUE)


def is_complete(subscription: Subscription, now: datetime) -> bool:
    """Whether a finite plan has no period left to bill: all are done, or the last ones were missed."""
    cycles = subscription.cycles
    if cycles is None:
        return False
    return subscription.next_period >= cycles or _due(subscription, now)[0].index >= cycles


def missed_at_the_end(subscription: Subscription, now: datetime) -> list[Period]:
    """The periods of a finite plan that nobody will bill any more (rule 6)."""
    first, cycles = subscription.next_period, subscription.cycles or 0
    skipped = _due(subscription, now)[1] if first < cycles else []
    return [passed for passed in skipped if passed.index < cycles]


def is_canceled_before(subscription: Subscription) -> bool:
    """Whether a scheduled cancel takes effect before the renewal that is due."""
    due_at, cancel_at = subscription.next_renewal_at, subscription.cancel_at
    return cancel_at is not None and due_at is not None and cancel_at <= due_at


def complete(subscription: Subscription, *, now: datetime) -> Case:
    """A finite plan is over: the subscription expires."""
    case = Case(subscription, None, None, now)
    reason = "all periods are done"
    consequences.end(case, SubscriptionStatus.EXPIRED, reason=reason, origin=None)
    return case


def open_invoice(subscription: Subscription, *, now: datetime) -> Opened:
    """Price the oldest period to be billed and move the subscription past it.

    Raises `PricingError` for an amount that must not be charged (rule 20); nothing is changed then.
    """
    billed, skipped = _due(subscription, now)
    lines, tax_minor = _price(subscription, billed)
    amount_minor = sum(line.amount_minor for line in lines)
    check_amount(amount_minor, ceiling_minor=subscription.ceiling_minor)
    subscription.next_period = billed.index + 1
    subscription.next_renewal_at = billed.end_at
    invoice = _invoice(subscription, billed, amount_minor, tax_minor, now)
    return Opened(Case(subscription, invoice, None, now), lines, skipped)


def _due(subscription: Subscription, now: datetime) -> tuple[Period, list[Period]]:
    """The period to bill, and those passed over to reach it: none unless a whole one was missed."""
    anchor, interval = subscription.anchor, subscription.interval
    following = period(anchor, interval, subscription.next_period)
    if following.end_at > now:
        return following, []
    due = due_periods(
        anchor,
        interval,
        next_index=subscription.next_period,
        now=now,
        catch_up=subscription.catch_up_periods,
    )
    skipped = [period(anchor, interval, n) for n in due.skipped]
    return period(anchor, interval, due.first), skipped


def fail_without_method(case: Case) -> None:
    """There is nothing to charge: dunning starts, and the invoice waits for a new method."""
    consequences.fail(case, decline_class=DeclineClass.FIX_DATA, code=NO_METHOD, ordinal=None)


def waits_for_window(case: Case) -> bool:
    """Whether the first attempt has to wait for the charging window; the invoice then says until when.

    The period does not move (rule 2), only the attempt does.
    """
    if not case.subscription.retry_policy.get("charging_window"):
        return False
    policy = case.invoice.policy(case.subscription)
    source = AttemptSource.RENEWAL
    allowed = may_attempt(policy, consequences.history_of(case), now=case.now, source=source)
    if (
        not isinstance(allowed, Refused)
        or allowed.until is None
        or not has_method(case.subscription)
    ):
        return False
    case.invoice.attempt_due_at, case.invoice.attempt_source = allowed.until, source
    case.invoice.hold_reason = allowed.reason
    return True


def has_method(subscription: Subscription) -> bool:
    """Whether its payment method may be charged at all."""
    return subscription.method_removed_at is None and subscription.method_hard_declined_at is None


def _price(subscription: Subscription, billed: Period) -> tuple[list[Line], int | None]:
    price = Price(
        PriceModel(subscription.price_model),
        subscription.currency,
        subscription.unit_amount_minor,
        subscription.tax_minor,
    )
    prorated = subscription.proration != "none"
    by_second = subscription.proration == "second"
    anchor, interval = subscription.anchor, subscription.interval
    whole = whole_period(anchor, interval, billed.index) if prorated else None
    zone, quantity = subscription.zone, subscription.quantity
    lines = price_period(
        price,
        quantity=quantity,
        period=billed,
        whole=whole,
        plan_name=subscription.plan_name,
        zone=zone,
        by_second=by_second,
    )
    tax_minor = price_tax(
        price, quantity=quantity, period=billed, whole=whole, zone=zone, by_second=by_second
    )
    return lines, tax_minor


def _invoice(
    subscription: Subscription,
    billed: Period,
    amount_minor: int,
    tax_minor: int | None,
    now: datetime,
) -> Invoice:
    return Invoice(
        invoice_id=invoice_id(subscription.subscription_id, "renewal", billed.index),
        subscription_id=subscription.subscription_id,
        period_index=billed.index,
        period_start=billed.start_at,
        period_end=billed.end_at,
        amount_minor=amount_minor,
        currency=subscription.currency,
        tax_minor=tax_minor,
        status=InvoiceStatus.OPEN,
        gateway=subscription.gateway,
        due_at=billed.start_at,
        created_at=now,
        retry_policy=None,
        first_declined_at=None,
        dunning_ends_at=None,
        attempt_due_at=None,
        attempt_source=None,
        requested_source=None,
        hold_reason=None,
        paid_at=None,
        closed_at=None,
        recovered_by=None,
        claims=0,
    )

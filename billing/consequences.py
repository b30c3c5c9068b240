"""What follows for an invoice and its subscription: paid, past due, retried, given up.

Called by everything that learns something about an invoice: the settling of an outcome, a renewal with
nothing to pay, the end of a dunning window. The caller holds the subscription's lock.
"""

from datetime import datetime
from typing import assert_never

from billing import notices
from billing.calendar import boundary
from billing.dunning import (
    AttemptSource,
    Decision,
    ExhaustedAction,
    GiveUp,
    InvoiceHistory,
    PastAttempt,
    RetryAt,
    WaitForCustomer,
    decide,
    dunning_window_ends_at,
    grace_ends_at,
)
from billing.facts import Attempt, Case, Subscription
from billing.lifecycle import (
    ENDED_SUBSCRIPTIONS,
    CancelOrigin,
    InvoiceStatus,
    SubscriptionStatus,
)
from billing.messages import MessageType
from billing.outcomes import DeclineClass


def pay(case: Case, reason: str) -> None:
    """The invoice is paid: the period is the customer's, and the next renewal is known.

    A subscription that has ended stays ended; a paused one stays paused with the period it paid for.
    """
    invoice, subscription = case.invoice, case.subscription
    case.move_invoice(InvoiceStatus.PAID, reason)
    case.tell_money(MessageType.INVOICE_PAID)
    if subscription.status in ENDED_SUBSCRIPTIONS:
        return
    paid_until = subscription.current_period_end
    if paid_until is None or paid_until < invoice.period_end:
        subscription.current_period_start = invoice.period_start
        subscription.current_period_end = invoice.period_end
    if subscription.status is SubscriptionStatus.PAUSED:
        return
    first = subscription.status is SubscriptionStatus.PENDING
    subscription.access_ends_at = None
    case.move_subscription(SubscriptionStatus.ACTIVE, reason)
    # Nobody has held it: the date that opening the invoice wrote down still stands.
    if subscription.next_renewal_at is None:
        subscription.next_renewal_at = next_renewal(subscription)
    if invoice.first_declined_at is not None and not first:
        recovered_by = invoice.recovered_by or "retry"
        tries = len(case.history) + 1
        case.tell_money(MessageType.RECOVERED, attempts=tries, recovered_by=recovered_by)
    case.tell_money(
        MessageType.ACTIVATED if first else MessageType.RENEWED,
        period_start=invoice.period_start,
        period_end=invoice.period_end,
    )
    announce_renewal(case)


def next_renewal(subscription: Subscription) -> datetime:
    """When its next period starts; in the past after a long recovery, and then due at once."""
    return boundary(subscription.anchor, subscription.interval, subscription.next_period)


def announce_renewal(case: Case) -> None:
    """Write down the reminders of the next renewal that the plan asks for."""
    subscription = case.subscription
    if subscription.cycles is not None and subscription.next_period >= subscription.cycles:
        return
    if subscription.reminders and subscription.next_renewal_at is not None:
        case.notices += notices.upcoming(
            subscription_id=subscription.subscription_id,
            reminders=notices.reminders_of(subscription.reminders),
            segments=subscription.segments,
            renewal_at=subscription.next_renewal_at,
            zone=subscription.zone,
            now=case.now,
        )


def fail(case: Case, *, decline_class: DeclineClass, code: str, ordinal: int | None) -> None:
    """A payment of the open invoice failed for good: start or continue its dunning, tell everybody.

    Every final decline counts, technical ones too. `ordinal` is None where no method could be charged
    at all. A first period that was never paid stays pending; every other subscription is past due.
    """
    first = case.invoice.first_declined_at is None
    _begin_dunning(case)
    decision = _next_step(case)
    next_retry_at = decision.at if isinstance(decision, RetryAt) else None
    case.tell_money(
        MessageType.PAYMENT_FAILED,
        decline_class=decline_class,
        decline_code=code,
        attempt=ordinal,
        next_retry_at=next_retry_at,
    )
    if first:
        _announce_failure(case, decline_class, code)
    _past_due(case, code, next_retry_at)
    follow(case, decision)


def close_after_end(case: Case) -> None:
    """The subscription ended while its last attempt was under way, and that one took no money."""
    case.move_invoice(InvoiceStatus.VOID, "the subscription had ended")
    case.tell_money(MessageType.INVOICE_VOIDED)


def history_of(case: Case) -> InvoiceHistory:
    """What the dunning rules are told about the invoice at hand."""
    subscription = case.subscription
    unusable = subscription.method_hard_declined_at is not None or (
        case.hard_decline_code is not None and _is_present_card(case)
    )
    return InvoiceHistory(
        first_declined_at=case.invoice.first_declined_at,
        attempts=case.history,
        zone=subscription.zone,
        payment_method_id=None
        if subscription.method_removed_at is not None
        else subscription.payment_method_id,
        method_hard_declined=unusable,
        method_changed_at=subscription.method_changed_at,
    )


def _is_present_card(case: Case) -> bool:
    """Whether the attempt at hand was made with what would be charged next, with its present details."""
    attempt, subscription = case.attempt, case.subscription
    if attempt is None or attempt.payment_method_id != subscription.payment_method_id:
        return False
    changed_at = subscription.method_changed_at
    return changed_at is None or changed_at <= attempt.claimed_at


def past_attempt(attempt: Attempt) -> PastAttempt:
    """An attempt as the dunning rules see it."""
    declined = attempt.decline_class
    return PastAttempt(
        ordinal=attempt.ordinal,
        source=AttemptSource(attempt.source),
        state=attempt.state,
        decline_class=None if declined is None else DeclineClass(declined),
        payment_method_id=attempt.payment_method_id,
        claimed_at=attempt.claimed_at,
        resolved_at=attempt.resolved_at,
        gateway_ref=attempt.gateway_ref,
    )


def follow(case: Case, decision: Decision) -> None:
    """Do what the dunning rules decided."""
    invoice = case.invoice
    match decision:
        case RetryAt(at, source, _):
            invoice.attempt_due_at, invoice.attempt_source = at, source
            invoice.hold_reason = None
        case WaitForCustomer(until, reason):
            invoice.attempt_due_at, invoice.attempt_source = until, AttemptSource.FINAL
            invoice.hold_reason = reason
        case GiveUp(action, reason):
            _give_up(case, action, reason)
        case _:
            assert_never(decision)


def _begin_dunning(case: Case) -> None:
    invoice = case.invoice
    if invoice.first_declined_at is None:
        policy = invoice.policy(case.subscription)
        invoice.retry_policy = case.subscription.retry_policy
        invoice.first_declined_at = case.now
        invoice.dunning_ends_at = dunning_window_ends_at(policy, case.now)


def _next_step(case: Case) -> Decision:
    requested = case.invoice.requested_source
    if requested is not None:
        return RetryAt(case.now, AttemptSource(requested), "asked for while another was under way")
    return decide(case.invoice.policy(case.subscription), history_of(case), now=case.now)


def _announce_failure(case: Case, decline_class: DeclineClass, code: str) -> None:
    case.notices += notices.payment_failed(
        subscription_id=case.subscription.subscription_id,
        invoice_id=case.invoice.invoice_id,
        decline_class=decline_class,
        decline_code=code,
        zone=case.subscription.zone,
        now=case.now,
    )


def _past_due(case: Case, code: str, next_retry_at: datetime | None) -> None:
    """Past due from the first decline on, and again if another invoice was paid meanwhile."""
    subscription, invoice = case.subscription, case.invoice
    if subscription.while_past_due == "hold" or subscription.status is SubscriptionStatus.PENDING:
        subscription.next_renewal_at = None
    if subscription.status in (SubscriptionStatus.TRIALING, SubscriptionStatus.ACTIVE):
        case.move_subscription(SubscriptionStatus.PAST_DUE, code)
        first_at = invoice.first_declined_at or case.now
        subscription.access_ends_at = grace_ends_at(invoice.policy(subscription), first_at)
        case.tell_money(MessageType.PAST_DUE, next_retry_at=next_retry_at)


def _give_up(case: Case, action: ExhaustedAction, reason: str) -> None:
    subscription, invoice = case.subscription, case.invoice
    subscription.access_ends_at = None
    if subscription.status is SubscriptionStatus.PENDING:
        _write_off(case, reason)
        end(case, SubscriptionStatus.EXPIRED, reason="never_paid", origin=None)
        return
    invoice.attempt_due_at = invoice.attempt_source = None
    invoice.hold_reason = reason
    match action:
        case ExhaustedAction.CANCEL:
            _write_off(case, reason)
            end(case, SubscriptionStatus.CANCELED, reason=reason, origin=CancelOrigin.INVOLUNTARY)
        case ExhaustedAction.PAUSE:
            _write_off(case, reason)
            _pause(case, reason)
        case ExhaustedAction.UNPAID:
            lapse(case, reason)
        case ExhaustedAction.PAST_DUE:
            subscription.next_renewal_at = None
            _fall_due(case, reason)
        case _:
            assert_never(action)


def _pause(case: Case, reason: str) -> None:
    subscription = case.subscription
    subscription.next_renewal_at = None
    case.drop_notices = reason
    if subscription.status is not SubscriptionStatus.PAUSED:
        case.move_subscription(SubscriptionStatus.PAUSED, reason)
        case.tell(MessageType.PAUSED, reason=reason)


def _fall_due(case: Case, reason: str) -> None:
    """With `while_past_due: bill` it may be active, paid for another period than the one given up."""
    if case.subscription.status is SubscriptionStatus.ACTIVE:
        case.move_subscription(SubscriptionStatus.PAST_DUE, reason)


def lapse(case: Case, reason: str) -> None:
    """Access ends while the invoice stays collectable; a payment makes the subscription active again."""
    subscription = case.subscription
    subscription.access_ends_at = subscription.next_renewal_at = None
    _fall_due(case, reason)
    if subscription.status is SubscriptionStatus.PAST_DUE:
        case.move_subscription(SubscriptionStatus.UNPAID, reason)
        case.tell(MessageType.UNPAID, reason=reason)


def end(
    case: Case, status: SubscriptionStatus, *, reason: str, origin: CancelOrigin | None
) -> None:
    """The subscription is over: nothing renews, nothing is announced any more."""
    subscription = case.subscription
    subscription.next_renewal_at = subscription.access_ends_at = subscription.cancel_at = None
    subscription.ended_at = case.now
    case.drop_notices = reason
    case.move_subscription(status, reason)
    if status is SubscriptionStatus.EXPIRED:
        case.tell(MessageType.EXPIRED, reason=reason)
        return
    subscription.cancel_origin, subscription.cancel_reason = origin, reason
    case.tell(MessageType.CANCELED, origin=origin, reason=reason)


def _write_off(case: Case, reason: str) -> None:
    case.move_invoice(InvoiceStatus.UNCOLLECTIBLE, reason)
    case.tell_money(MessageType.INVOICE_UNCOLLECTIBLE, reason=reason)

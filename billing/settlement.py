"""What a gateway's word changes: the attempt first, then what follows from it.

An outcome has three values. *Approved* pays the invoice, *declined* hands it to the dunning rules, and
*unknown* changes nothing but when to look again: until a gateway's own word resolves it, nothing else is
sent for that invoice. Money that comes late is always recorded, and never revives what has ended.
"""

from datetime import datetime, timedelta
from typing import assert_never

from billing import consequences
from billing.dunning_terms import AttemptSource
from billing.facts import Attempt, Case
from billing.lifecycle import ENDED_SUBSCRIPTIONS, AttemptState, InvoiceStatus, SubscriptionStatus
from billing.messages import MessageType
from billing.outcomes import (
    Absent,
    ActionRequired,
    Approved,
    Canceled,
    DeclineClass,
    Declined,
    NotFoundYet,
    NotSent,
    Outcome,
    Pending,
    Refused,
    Unknown,
)
from billing.unsettled import needs_person

RECHECK_PENDING = timedelta(hours=1)
"""Asynchronous payments take hours to days; the platform's own word makes us look at once."""

RECHECK_SECONDS = (5, 10, 20, 40, 80, 160, 300)
"""Machine time between two looks at an unknown outcome: settled well within 15 minutes."""


OVERDUE = "no outcome for 20 hours"
"""Calls a person while reading goes on; a final word takes it back."""


def settle(case: Case, attempt: Attempt, outcome: Outcome) -> None:
    """Apply a gateway's word on `attempt`; the caller holds the subscription's lock.

    Repeating it is safe: an attempt that is resolved stays as it is, but for money that arrives on a
    void one.
    """
    late = isinstance(outcome, Approved) and attempt.state is AttemptState.VOID
    if attempt.resolved_at is not None and not late:
        return
    if attempt.needs_human == OVERDUE:
        attempt.needs_human = None
    match outcome:
        case Approved():
            _approved(case, attempt, outcome)
        case Declined():
            _declined(case, attempt, outcome)
        case Canceled(gateway_ref):
            attempt.gateway_ref = gateway_ref
            _canceled(case, attempt)
        case Absent(sent_at):
            _never_happened(case, attempt, sent_at)
        case _:
            _no_final_word(case, attempt, outcome)


def _no_final_word(
    case: Case,
    attempt: Attempt,
    outcome: Pending | ActionRequired | NotFoundYet | NotSent | Unknown | Refused,
) -> None:
    match outcome:
        case Pending():
            _under_way(case, attempt, AttemptState.PENDING, outcome)
        case ActionRequired():
            _under_way(case, attempt, AttemptState.ACTION_REQUIRED, outcome)
        case NotFoundYet(again_at):
            attempt.not_found_at = attempt.not_found_at or case.now
            attempt.check_due_at = again_at
        case NotSent(reason):
            look_again(case, attempt, reason)
        case Unknown():
            _unknown(case, attempt, outcome)
        case Refused(reason):
            freeze(case, attempt, reason)
        case _:
            assert_never(outcome)
    if needs_person(attempt, case.now):
        attempt.needs_human = OVERDUE


def freeze(case: Case, attempt: Attempt, reason: str) -> None:
    """A person has to look: nothing is sent for this invoice until the attempt is released."""
    attempt.raw_outcome = reason
    if attempt.state is AttemptState.SENT:
        case.move_attempt(attempt, AttemptState.UNKNOWN, reason)
    attempt.needs_human, attempt.check_due_at = reason, None


def look_again(
    case: Case, attempt: Attempt, reason: str, *, after_seconds: int | None = None
) -> None:
    """Keep the attempt as it is and look again later (machine time), slower each time."""
    attempt.raw_outcome = reason
    attempt.check_due_at = case.now
    slowest = len(RECHECK_SECONDS) - 1
    backoff = RECHECK_SECONDS[min(attempt.checks, slowest)]
    case.wait_seconds = max(backoff, after_seconds or 0)
    attempt.checks += 1


def _approved(case: Case, attempt: Attempt, outcome: Approved) -> None:
    invoice = case.invoice
    if (outcome.amount_minor, outcome.currency) != (attempt.amount_minor, attempt.currency):
        _wrong_amount(case, attempt, outcome)
        return
    attempt.gateway_ref = outcome.gateway_ref
    if invoice.status is InvoiceStatus.PAID:
        # Only one attempt of an invoice may have succeeded, so this one stays what it is.
        freeze(case, attempt, "charged although the invoice was paid: refund proposed")
        return
    if case.subscription.status in ENDED_SUBSCRIPTIONS:
        attempt.needs_human = "money after the end: refund proposed"
    elif attempt.state is AttemptState.VOID:
        attempt.needs_human = "money on a void attempt: the gateway broke the bounds it declared"
    case.is_plain = _is_plain(case, attempt)
    case.move_attempt(attempt, AttemptState.SUCCEEDED, "approved")
    if invoice.first_declined_at is not None:
        asked = attempt.source in (AttemptSource.NEW_CARD, AttemptSource.MANUAL)
        by = attempt.source if asked else "retry"
        invoice.recovered_by = "reconciliation" if case.by_reconciler else by
    consequences.pay(case, "approved")


def _is_plain(case: Case, attempt: Attempt) -> bool:
    """Whether being paid changes nothing here but what `settle_plain` writes."""
    invoice, subscription = case.invoice, case.subscription
    return (
        attempt.state is AttemptState.SENT
        and attempt.checks == 0
        and invoice.status is InvoiceStatus.OPEN
        and invoice.first_declined_at is None
        and subscription.status is SubscriptionStatus.ACTIVE
        and subscription.access_ends_at is None
        and subscription.next_renewal_at is not None
        and subscription.current_period_end == invoice.period_start
    )


def _wrong_amount(case: Case, attempt: Attempt, outcome: Approved) -> None:
    """An answer may be garbled: the gateway's books decide. If they say the same, a person does."""
    told = f"{outcome.amount_minor} {outcome.currency}"
    reason = f"{outcome.gateway_ref} charged {told}, which is not what was asked"
    if attempt.replayed or attempt.state is AttemptState.VOID:
        freeze(case, attempt, reason)
    else:
        attempt.gateway_ref = outcome.gateway_ref
        _unknown(case, attempt, Unknown(reason, answered=True, replayed=True))


def _declined(case: Case, attempt: Attempt, outcome: Declined) -> None:
    attempt.gateway_ref = outcome.gateway_ref or attempt.gateway_ref
    attempt.decline_code, attempt.decline_class = outcome.code, outcome.decline_class
    attempt.network_code, attempt.advice_code = outcome.network_code, outcome.advice_code
    case.move_attempt(attempt, AttemptState.DECLINED, outcome.code)
    if outcome.decline_class is DeclineClass.HARD:
        case.hard_decline_code = outcome.code
    case.history = [*case.history, consequences.past_attempt(attempt)]
    if case.invoice.status is not InvoiceStatus.OPEN:
        return
    if case.subscription.status in ENDED_SUBSCRIPTIONS:
        consequences.close_after_end(case)
        return
    consequences.fail(
        case,
        decline_class=outcome.decline_class,
        code=outcome.code,
        ordinal=attempt.ordinal,
    )


def _under_way(
    case: Case, attempt: Attempt, state: AttemptState, outcome: Pending | ActionRequired
) -> None:
    attempt.gateway_ref, attempt.action = outcome.gateway_ref, outcome.action
    attempt.check_due_at = case.now + RECHECK_PENDING
    if attempt.state is state:
        return
    if case.invoice.requested_source or case.subscription.status in ENDED_SUBSCRIPTIONS:
        # Nobody wants it any more: it is ended at the gateway without waiting.
        attempt.check_due_at = case.now
    case.move_attempt(attempt, state, state)
    told = {
        AttemptState.PENDING: MessageType.PAYMENT_PENDING,
        AttemptState.ACTION_REQUIRED: MessageType.PAYMENT_ACTION_REQUIRED,
    }
    case.tell_money(told[state], action=outcome.action)


def _canceled(case: Case, attempt: Attempt) -> None:
    """Ended at the gateway, so the invoice is free: for who asked for it, else for its dunning."""
    code = "authentication_required"
    if attempt.state is AttemptState.SENT:
        case.move_attempt(attempt, AttemptState.UNKNOWN, "canceled")
    case.move_attempt(attempt, AttemptState.VOID, "canceled at the gateway")
    case.history = [*case.history, consequences.past_attempt(attempt)]
    if case.invoice.status is not InvoiceStatus.OPEN:
        return
    if case.subscription.status in ENDED_SUBSCRIPTIONS:
        consequences.close_after_end(case)
        return
    consequences.fail(case, decline_class=DeclineClass.CUSTOMER, code=code, ordinal=attempt.ordinal)


def _never_happened(case: Case, attempt: Attempt, sent_at: datetime) -> None:
    """Proven absent: the attempt is void, and the invoice is due again as it was.

    The proof was made without the lock: it holds only if the key was not sent again meanwhile.
    """
    if sent_at != attempt.sent_at:
        look_again(case, attempt, "sent again while it was looked up")
        return
    if attempt.gateway_ref is not None:
        freeze(case, attempt, "the gateway does not know the charge that it told of")
        return
    if attempt.state is AttemptState.SENT:
        case.move_attempt(attempt, AttemptState.UNKNOWN, "no answer")
    case.move_attempt(attempt, AttemptState.VOID, "never reached the gateway")
    if case.invoice.status is not InvoiceStatus.OPEN:
        return
    if case.subscription.status in ENDED_SUBSCRIPTIONS:
        consequences.close_after_end(case)
        return
    case.invoice.attempt_due_at = case.now
    case.invoice.attempt_source = case.invoice.requested_source or attempt.source


def _unknown(case: Case, attempt: Attempt, outcome: Unknown) -> None:
    attempt.answered = attempt.answered or outcome.answered
    attempt.replayed = attempt.replayed or outcome.replayed
    if attempt.state is AttemptState.SENT:
        case.move_attempt(attempt, AttemptState.UNKNOWN, outcome.reason)
    look_again(case, attempt, outcome.reason, after_seconds=outcome.retry_after_seconds)

"""The unknown-outcome ladder: what to do about an attempt whose outcome is not known.

1. While its key lives and the subscription may still be charged: send the same bytes under the same
   key again. A second charge is impossible, and absence need not be proved.
2. Otherwise only read. What is found is recorded.
3. Absence is proof only after every bound of the gateway has passed, and only twice.
4. Nothing here ever leads to a new key while the old one may still be executed.

Source: docs/design.md, the unknown-outcome ladder. All times are business time.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from billing.facts import Attempt, Invoice, Subscription
from billing.lifecycle import ENDED_SUBSCRIPTIONS, AttemptState, InvoiceStatus
from billing.outcomes import Absent, NotFoundYet

KEY_MARGIN = timedelta(hours=4)
"""A key is not resent in the last hours of its life: its clock is not ours."""

SEND_WINDOW = timedelta(seconds=20)
"""The last byte of a try leaves at most this much later than its row says (worker/limits.py)."""

CALL_PERSON_AFTER = timedelta(hours=20)
"""Unsettled this long, a person is called, while the key still lives; reading goes on."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a gateway promises about its keys, its look-ups and late execution."""

    key_lifetime: timedelta
    lookup_lag: timedelta
    max_delivery_delay: timedelta


@dataclass(frozen=True, slots=True)
class Resend:
    """Send the same bytes under the same key."""


@dataclass(frozen=True, slots=True)
class LookUp:
    """Read, send nothing."""


@dataclass(frozen=True, slots=True)
class EndAtGateway:
    """Cancel what is under way at the gateway; its answer is final."""

    gateway_ref: str


Step = Resend | LookUp | EndAtGateway


def next_step(
    attempt: Attempt,
    invoice: Invoice,
    subscription: Subscription,
    *,
    bounds: Bounds,
    paused: bool,
    now: datetime,
) -> Step:
    """The next step for an unsettled attempt; `paused`: a kill switch forbids to send."""
    match attempt.state:
        case AttemptState.PENDING | AttemptState.ACTION_REQUIRED:
            return _under_way(attempt, invoice, subscription, now)
        case _:
            key_lives = now < attempt.claimed_at + bounds.key_lifetime - KEY_MARGIN
            wanted = (
                invoice.status is InvoiceStatus.OPEN
                and subscription.status not in ENDED_SUBSCRIPTIONS
                # A card that was removed, replaced or forbidden meanwhile is not charged any more.
                and attempt.payment_method_id == subscription.payment_method_id
                and subscription.method_removed_at is None
                and subscription.method_hard_declined_at is None
            )
            may_send = key_lives and wanted and not paused and not attempt.replayed
            return Resend() if may_send else LookUp()


def judge_absence(attempt: Attempt, *, bounds: Bounds, now: datetime) -> Absent | NotFoundYet:
    """Whether "not found" is proof at `now`, when it was asked, and if not, when to read again.

    Proof takes two readings `lookup_lag` apart, the last one after the request can no longer arrive
    and look-ups have caught up with it. A complete answer ends delivery: then only the lag counts.
    """
    delivery = timedelta() if attempt.answered else SEND_WINDOW + bounds.max_delivery_delay
    quiet_at = attempt.sent_at + delivery + 2 * bounds.lookup_lag
    first_at = attempt.not_found_at
    if first_at is not None and now >= max(quiet_at, first_at + bounds.lookup_lag):
        return Absent(attempt.sent_at)
    second_at = (now if first_at is None else first_at) + bounds.lookup_lag
    return NotFoundYet(max(quiet_at, second_at))


def needs_person(attempt: Attempt, now: datetime) -> bool:
    """Whether an attempt without any outcome has waited too long to be left to the machine."""
    lost = attempt.state in (AttemptState.SENT, AttemptState.UNKNOWN)
    return lost and attempt.needs_human is None and now >= attempt.claimed_at + CALL_PERSON_AFTER


def _under_way(
    attempt: Attempt, invoice: Invoice, subscription: Subscription, now: datetime
) -> Step:
    gateway_ref = attempt.gateway_ref
    assert gateway_ref is not None, "pending and action_required carry the gateway's id"
    action_days = invoice.policy(subscription).action_days
    too_late = attempt.state is AttemptState.ACTION_REQUIRED and now >= attempt.claimed_at + (
        timedelta(days=action_days)
    )
    unwanted = subscription.status in ENDED_SUBSCRIPTIONS
    if too_late or unwanted or invoice.requested_source is not None:
        return EndAtGateway(gateway_ref)
    return LookUp()

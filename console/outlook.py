"""What is next for a subscription, when, and why then: asked of the rules that will decide it."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple, assert_never

from billing import consequences
from billing.dunning import (
    Allowed,
    AttemptSource,
    GiveUp,
    Refused,
    RetryAt,
    decide,
    may_attempt,
)
from billing.facts import Attempt, Case, Invoice
from billing.lifecycle import (
    ENDED_SUBSCRIPTIONS,
    UNSETTLED_ATTEMPTS,
    InvoiceStatus,
    SubscriptionStatus,
)
from console.story import Story
from worker.store.facts import past
from worker.store.parking import ParkedKind


class Next(NamedTuple):
    """`what` is a stable word, `at` business time; None: not before somebody does something."""

    what: str
    at: datetime | None
    why: str


CHARGES = frozenset({"attempt", "renewal", "reconcile"})


def outlook(story: Story) -> Next:
    """The first thing that will happen; what waits for a person comes before everything else."""
    subscription = story.subscription
    if subscription.status in ENDED_SUBSCRIPTIONS:
        origin = f" by {subscription.cancel_origin}" if subscription.cancel_origin else ""
        return Next("nothing", None, f"{subscription.status}{origin}: {_last_reason(story)}")
    coming = list(_coming(story))
    blocked = [step for step in coming if step.at is None]
    timed = sorted((step for step in coming if step.at is not None), key=_instant)
    if blocked:
        return blocked[0]
    if not timed:
        return Next("nothing", None, f"{subscription.status}: {_last_reason(story)}")
    first = timed[0]
    if story.pauses and first.what in CHARGES:
        pause = story.pauses[0]
        held = f"; held: charging is paused ({pause.scope}) by {pause.paused_by}: {pause.reason}"
        return first._replace(why=first.why + held)
    return first


def _instant(step: Next) -> datetime:
    assert step.at is not None, "sorted by it"
    return step.at


def _coming(story: Story) -> Iterator[Next]:
    subscription = story.subscription
    settled = {a.subject for attempts in story.attempts.values() for a in attempts if a.resolved_at}
    for row in story.parked:
        if row.kind is ParkedKind.ATTEMPT and row.id in settled:
            continue  # a note about money that came: it holds nothing back
        yield Next("release", None, f"{row.kind} {row.id} waits for a person: {row.reason}")
    for invoice in story.invoices:
        if invoice.status is InvoiceStatus.OPEN:
            yield from _of_invoice(story, invoice)
    cancel_at, renewal_at = subscription.cancel_at, subscription.next_renewal_at
    if cancel_at is not None:
        asked = f"asked for by {subscription.cancel_origin}: {subscription.cancel_reason}"
        yield Next("cancel", cancel_at, asked)
    if renewal_at is not None and (cancel_at is None or renewal_at < cancel_at):
        why = f"period {subscription.next_period} of {subscription.plan_name} begins"
        yield Next("renewal", renewal_at, why)
    if subscription.access_ends_at is not None:
        yield Next("unpaid", subscription.access_ends_at, "the grace period ends")


def _of_invoice(story: Story, invoice: Invoice) -> Iterator[Next]:
    attempts = story.attempts[invoice.invoice_id]
    live = next((a for a in attempts if a.state in UNSETTLED_ATTEMPTS), None)
    if live is not None:
        if live.check_due_at is not None:
            yield Next("reconcile", live.check_due_at, _unsettled(live))
        return
    if invoice.attempt_due_at is not None:
        yield _due(story, invoice, invoice.attempt_due_at)
    elif invoice.hold_reason is not None:
        why = f"the invoice of period {invoice.period_index} waits: {invoice.hold_reason}"
        yield Next("customer", None, why)


def _unsettled(live: Attempt) -> str:
    said = f": {live.raw_outcome}" if live.raw_outcome else ""
    return f"attempt {live.ordinal} is {live.state}{said}"


def _due(story: Story, invoice: Invoice, at: datetime) -> Next:
    """Ask the rules what they will say at the instant at which they are asked again."""
    case = Case(
        story.subscription, invoice, None, story.now, past(story.attempts[invoice.invoice_id])
    )
    policy, history = invoice.policy(story.subscription), consequences.history_of(case)
    source = AttemptSource(invoice.requested_source or invoice.attempt_source or "retry")
    asked_at = max(at, story.now)
    match may_attempt(policy, history, now=asked_at, source=source):
        case Allowed(AttemptSource.MANUAL | AttemptSource.NEW_CARD as source):
            return Next("attempt", at, f"asked for: {source}")
        case Allowed(source):
            decision = decide(policy, history, now=asked_at)
            reason = decision.reason if isinstance(decision, RetryAt) else str(source)
            return Next("attempt", at, _with_hold(reason, invoice))
        case GiveUp(action, reason):
            never_paid = story.subscription.status is SubscriptionStatus.PENDING
            return Next("expire" if never_paid else str(action), at, reason)
        case Refused(reason):
            return Next("decide", at, _with_hold(reason, invoice))
        case unknown:
            assert_never(unknown)


def _with_hold(reason: str, invoice: Invoice) -> str:
    return f"{reason}; until then: {invoice.hold_reason}" if invoice.hold_reason else reason


def _last_reason(story: Story) -> str:
    """Why it is in the state in which it is."""
    own = [move for move in story.transitions if move.machine == "subscription"]
    return own[-1].reason if own else "as it was created"

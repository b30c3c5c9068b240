"""A subscription's story in the order in which it happened, each event in words."""

import json
from collections.abc import Iterator
from datetime import datetime
from enum import IntEnum, auto
from typing import NamedTuple

from billing.calendar import local_date
from billing.declines import payer_reason
from billing.facts import Attempt, Invoice
from billing.money import Money, format_money
from console.story import Story
from console.terminal import when
from worker.store.story import PlatformMessage, Transition


class Cause(IntEnum):
    """What comes first among events of one instant: causes before what follows from them."""

    ASKED = auto()
    CREATED = auto()
    BEGUN = auto()
    MOVED = auto()
    PLANNED = auto()
    TOLD = auto()
    SET_ASIDE = auto()


class Event(NamedTuple):
    """One thing that happened; `what` is a stable word, `detail` is for people."""

    at: datetime
    what: str
    detail: str
    cause: Cause


def timeline(story: Story) -> list[Event]:
    """Everything in order; events of one kind and instant keep the order of their rows."""
    parts = (_asked, _created, _begun, _moved, _planned, _told, _set_aside)
    events = [event for part in parts for event in part(story)]
    return sorted(events, key=lambda event: (event.at, event.cause))


def _asked(story: Story) -> Iterator[Event]:
    """Messages that were taken, with why they had no effect, and what became of those later."""
    rejected = {message.event_id: message for message in story.rejected}
    for message in story.taken or ():
        kept = rejected.get(message.event_id)
        if kept is None or kept.result != message.result:
            yield _message(message)
        else:
            yield _message(rejected.pop(message.event_id))
    for message in rejected.values():
        yield _message(message)
    for verb in story.verbs:
        detail = f"{verb.who}: {verb.verb} {verb.subject}: {verb.why}"
        yield Event(verb.at, "operator_verb", detail, Cause.ASKED)


def _message(message: PlatformMessage) -> Event:
    error = f": {message.error}" if message.error and message.result != "applied" else ""
    detail = f"{message.type} ({message.event_id}) {message.result}{error}"
    return Event(message.at, "platform_event", detail, Cause.ASKED)


def _created(story: Story) -> Iterator[Event]:
    made = story.created
    detail = (
        f"{made.plan_name} ({made.plan_id}) x {made.quantity} for customer {made.customer_id}, "
        f"seller {made.seller_id}"
    )
    yield Event(made.created_at, "subscription_created", detail, Cause.CREATED)


def _begun(story: Story) -> Iterator[Event]:
    for skip in story.skips:
        detail = f"period {skip.period_index} from {when(skip.period_start)}: {skip.reason}"
        yield Event(skip.at, "period_skipped", detail, Cause.BEGUN)
    for invoice in story.invoices:
        yield Event(invoice.created_at, "invoice_opened", _invoice(story, invoice), Cause.BEGUN)
        for attempt in story.attempts[invoice.invoice_id]:
            amount = format_money(Money(attempt.amount_minor, attempt.currency))
            detail = (
                f"period {invoice.period_index}, attempt {attempt.ordinal} ({attempt.source}): "
                f"{amount} at {attempt.gateway} with {attempt.payment_method_id}"
            )
            yield Event(attempt.claimed_at, "attempt_sent", detail, Cause.BEGUN)


def _moved(story: Story) -> Iterator[Event]:
    invoices = {str(invoice.invoice_id): invoice for invoice in story.invoices}
    attempts = {a.subject: a for history in story.attempts.values() for a in history}
    for move in story.transitions:
        detail = f"{move.from_state} -> {move.to_state}: {move.reason} ({move.actor})"
        if move.machine == "attempt" and move.subject in attempts:
            attempt = attempts[move.subject]
            period = invoices[str(attempt.invoice_id)].period_index
            detail = f"period {period}, attempt {attempt.ordinal}: {_outcome(move, attempt)}"
        elif move.subject in invoices:
            detail = f"period {invoices[move.subject].period_index}, {detail}"
        yield Event(move.at, f"{move.machine}_{move.to_state}", detail, Cause.MOVED)


def _planned(story: Story) -> Iterator[Event]:
    for notice in story.notices:
        name = f"{notice.kind} of {notice.target_date}"
        detail = f"{name}, to be sent at {when(notice.send_at)}"
        yield Event(notice.created_at, "notice_scheduled", detail, Cause.PLANNED)
        if notice.settled_at is not None:
            detail = f"{name}: {notice.reason}" if notice.reason else name
            yield Event(notice.settled_at, f"notice_{notice.state}", detail, Cause.TOLD)


def _told(story: Story) -> Iterator[Event]:
    for message in story.messages:
        at = datetime.fromisoformat(json.loads(message.body)["time"])
        waits = "" if message.is_published else ", not published yet"
        detail = f"{message.type}, sequence {message.sequence}{waits}"
        yield Event(at, "message_told", detail, Cause.TOLD)


def _set_aside(story: Story) -> Iterator[Event]:
    for row in story.parked:
        yield Event(row.at, "parked", f"{row.kind} {row.id}: {row.reason}", Cause.SET_ASIDE)


def _invoice(story: Story, invoice: Invoice) -> str:
    zone = story.subscription.zone
    start, end = local_date(invoice.period_start, zone), local_date(invoice.period_end, zone)
    lines = "; ".join(
        f"{line.quantity} x {line.description}" for line in story.lines[invoice.invoice_id]
    )
    amount = format_money(Money(invoice.amount_minor, invoice.currency))
    return f"period {invoice.period_index} ({start} to {end}): {amount} ({lines})"


def _outcome(move: Transition, attempt: Attempt) -> str:
    if move.to_state == "succeeded":
        return f"approved as {attempt.gateway_ref}"
    if move.to_state != "declined" or attempt.decline_code is None:
        return f"{move.from_state} -> {move.to_state}: {move.reason} ({move.actor})"
    codes = [f"{attempt.decline_class}"]
    if attempt.network_code:
        codes.append(f"network {attempt.network_code}")
    if attempt.advice_code:
        codes.append(f"advice {attempt.advice_code}")
    return f"{attempt.decline_code} ({', '.join(codes)}): {payer_reason(attempt.decline_code)}"

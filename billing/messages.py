"""Messages out: what renewd tells the platform, as CloudEvents 1.0 envelopes.

A message about a subscription carries its ids and a gapless `sequence`; the contract is
docs/contract/platform-events.md. Envelopes are built once, in the transaction that changes the state,
stored in the outbox and published as they are.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID
from zlib import crc32

SLOTS = 64
"""Order is kept per slot; a subscription stays in one slot for ever (docs/design.md)."""


class MessageType(StrEnum):
    """Every type that this version sends."""

    ACTIVATED = "billing.subscription.activated"
    RENEWED = "billing.subscription.renewed"
    PAST_DUE = "billing.subscription.past_due"
    RECOVERED = "billing.subscription.recovered"
    PAUSED = "billing.subscription.paused"
    UNPAID = "billing.subscription.unpaid"
    CANCEL_SCHEDULED = "billing.subscription.cancel_scheduled"
    CANCELED = "billing.subscription.canceled"
    EXPIRED = "billing.subscription.expired"
    SNAPSHOT = "billing.subscription.snapshot"
    PAYMENT_FAILED = "billing.payment.failed"
    PAYMENT_ACTION_REQUIRED = "billing.payment.action_required"
    PAYMENT_PENDING = "billing.payment.pending"
    INVOICE_PAID = "billing.invoice.paid"
    INVOICE_UNCOLLECTIBLE = "billing.invoice.uncollectible"
    INVOICE_VOIDED = "billing.invoice.voided"
    NOTICE_SENT = "billing.notice.sent"
    EVENT_REJECTED = "billing.event.rejected"


@dataclass(frozen=True, slots=True)
class Party:
    """Whom a message is about; goes into every message of a subscription."""

    subscription_id: str
    customer_id: str
    seller_id: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message before it has its sequence; `fields` are JSON values, instants as datetimes."""

    type: MessageType
    party: Party
    fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One row of `outbox_event`; `body` is the whole envelope."""

    slot: int
    subscription_id: str | None
    sequence: int | None
    type: str
    body: str


def slot_of(subject: str) -> int:
    """The slot of a subscription (or of another subject), the same in every process and version."""
    return crc32(subject.encode()) % SLOTS


def rfc3339(at: datetime) -> str:
    """An aware instant as RFC 3339 in UTC: `2026-01-31T10:00:00Z`, with microseconds if it has any."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def numbered(message: Message, *, sequence: int, at: datetime) -> OutboxRow:
    """The outbox row of `message` under its sequence; its event id is made of both."""
    party = message.party
    fields = {
        "subscription_id": party.subscription_id,
        "customer_id": party.customer_id,
        "seller_id": party.seller_id,
        "sequence": sequence,
        **message.fields,
    }
    event_id = f"{party.subscription_id}:{sequence}"
    body = _envelope(message.type, event_id, party.subscription_id, at, fields)
    slot = slot_of(party.subscription_id)
    return OutboxRow(slot, party.subscription_id, sequence, message.type, body)


def unnumbered(
    kind: MessageType, *, subject: str, fields: Mapping[str, object], at: datetime
) -> OutboxRow:
    """A message without a subscription, so without a sequence (`billing.event.rejected`)."""
    event_id = f"{kind}:{subject}"
    return OutboxRow(
        slot_of(subject), None, None, kind, _envelope(kind, event_id, subject, at, fields)
    )


def _envelope(
    kind: MessageType, event_id: str, subject: str, at: datetime, fields: Mapping[str, object]
) -> str:
    return _ENCODER.encode(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": "renewd",
            "type": kind,
            "time": rfc3339(at),
            "subject": subject,
            "datacontenttype": "application/json",
            "data": fields,
        },
    )


def _plain(value: object) -> object:
    match value:
        case datetime():
            return rfc3339(value)
        case UUID():
            return str(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form here")


_ENCODER = json.JSONEncoder(default=_plain, separators=(",", ":"))

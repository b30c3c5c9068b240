"""Which mails are due, when, and whether one still says the truth when it is about to be sent.

A notice is written down when its cause is known and asked about again under the subscription's lock
just before it is sent. Its content holds ids, codes and dates, never names or addresses: those are
looked up at that moment. A notice is unique by subscription, kind and `target_date`, so no cause can
send two mails of a kind on one local day.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, assert_never
from uuid import NAMESPACE_URL, UUID, uuid5

from billing.calendar import instant, local_date, local_time
from billing.lifecycle import InvoiceStatus, SubscriptionStatus
from billing.messages import rfc3339

_NOTICES = uuid5(NAMESPACE_URL, "renewd:notice")
_RENEWING = frozenset({SubscriptionStatus.ACTIVE, SubscriptionStatus.TRIALING})
_OWING = frozenset(
    {SubscriptionStatus.PENDING, SubscriptionStatus.PAST_DUE, SubscriptionStatus.UNPAID}
)


class NoticeKind(StrEnum):
    """The mails that this version sends; each has its templates in `worker/notices/templates/`."""

    UPCOMING_RENEWAL = "upcoming_renewal"
    PAYMENT_FAILED = "payment_failed"


@dataclass(frozen=True, slots=True)
class Reminder:
    """One line of a plan's `reminders`; with `segment` only for customers who are in it."""

    days_before: int
    segment: str | None = None


@dataclass(frozen=True, slots=True)
class NoticeDraft:
    """A notice that is not written yet; `context` is JSON and holds ids, codes and dates only."""

    notice_id: UUID
    subscription_id: str
    invoice_id: UUID | None
    kind: NoticeKind
    target_date: date
    send_at: datetime
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Situation:
    """How things stand when a notice is about to be sent; the invoice's fields if it names one."""

    status: SubscriptionStatus
    next_renewal_at: datetime | None
    cancel_at: datetime | None
    invoice_status: InvoiceStatus | None = None
    dunning_ends_at: datetime | None = None


def reminders_of(stored: Sequence[Mapping[str, Any]]) -> list[Reminder]:
    """A plan's `reminders` as stored, in the contract's shape `{days_before, segment?}`."""
    return [Reminder(line["days_before"], line.get("segment")) for line in stored]


def upcoming(
    *,
    subscription_id: str,
    reminders: Sequence[Reminder],
    segments: Collection[str],
    renewal_at: datetime,
    zone: str,
    now: datetime,
) -> list[NoticeDraft]:
    """The announcements of a renewal: at its own local time of day, so many local days before it.

    A draft whose moment has passed is made all the same: sending decides whether it is too late, and
    then the row says so. A renewal that is due already is not announced.
    """
    if renewal_at <= now:
        return []
    days = {
        reminder.days_before
        for reminder in reminders
        if reminder.segment is None or reminder.segment in segments
    }
    return [
        _announcement(subscription_id, days_before, renewal_at=renewal_at, zone=zone)
        for days_before in sorted(days, reverse=True)
    ]


def _announcement(
    subscription_id: str, days_before: int, *, renewal_at: datetime, zone: str
) -> NoticeDraft:
    send_local = local_time(renewal_at, zone) - timedelta(days=days_before)
    return _draft(
        subscription_id,
        NoticeKind.UPCOMING_RENEWAL,
        target_date=send_local.date(),
        send_at=instant(send_local, zone),
        context={"renewal_at": rfc3339(renewal_at), "days_before": days_before},
    )


def payment_failed(
    *,
    subscription_id: str,
    invoice_id: UUID,
    decline_class: str,
    decline_code: str,
    zone: str,
    now: datetime,
) -> list[NoticeDraft]:
    """The mail about the first decline of an invoice, to be sent at once."""
    return [
        _draft(
            subscription_id,
            NoticeKind.PAYMENT_FAILED,
            target_date=local_date(now, zone),
            send_at=now,
            invoice_id=invoice_id,
            context={"decline_class": str(decline_class), "decline_code": decline_code},
        )
    ]


def _draft(
    subscription_id: str,
    kind: NoticeKind,
    *,
    target_date: date,
    send_at: datetime,
    context: Mapping[str, Any],
    invoice_id: UUID | None = None,
) -> NoticeDraft:
    notice_id = uuid5(_NOTICES, f"{subscription_id}:{kind}:{target_date}")
    return NoticeDraft(notice_id, subscription_id, invoice_id, kind, target_date, send_at, context)


def why_dropped(
    kind: NoticeKind,
    *,
    context: Mapping[str, Any],
    send_at: datetime,
    late_after: timedelta,
    situation: Situation,
    now: datetime,
) -> str | None:
    """Why a notice must not be sent any more, for its row; None if it still holds.

    An announcement is late after `late_after`, and in any case when its renewal has come; the mail
    about a failed payment is worth sending until the dunning of its invoice ends.
    """
    match kind:
        case NoticeKind.UPCOMING_RENEWAL:
            announced_at = datetime.fromisoformat(context["renewal_at"])
            return _why_no_announcement(
                situation, announced_at=announced_at, late_at=send_at + late_after, now=now
            )
        case NoticeKind.PAYMENT_FAILED:
            return _why_no_failure(situation, now)
        case _:
            assert_never(kind)


def _why_no_announcement(
    situation: Situation, *, announced_at: datetime, late_at: datetime, now: datetime
) -> str | None:
    if situation.status not in _RENEWING:
        return f"the subscription is {situation.status}"
    if situation.next_renewal_at != announced_at:
        return "the renewal is paid, under way or moved"
    if situation.cancel_at is not None and situation.cancel_at <= announced_at:
        return "the subscription ends before the renewal"
    if now >= announced_at or now > late_at:
        return "too late"
    return None


def _why_no_failure(situation: Situation, now: datetime) -> str | None:
    if situation.invoice_status is not InvoiceStatus.OPEN:
        return f"the invoice is {situation.invoice_status or 'unknown'}"
    if situation.status not in _OWING:
        return f"the subscription is {situation.status}"
    if situation.dunning_ends_at is not None and now >= situation.dunning_ends_at:
        return "too late"
    return None

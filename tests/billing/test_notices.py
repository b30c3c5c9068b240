from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from billing.lifecycle import InvoiceStatus, SubscriptionStatus
from billing.notices import (
    NoticeDraft,
    NoticeKind,
    Reminder,
    Situation,
    payment_failed,
    reminders_of,
    upcoming,
    why_dropped,
)

INVOICE = UUID(int=7)
RENEWAL = datetime(2026, 4, 1, 8, 30, tzinfo=UTC)
LATE = timedelta(hours=24)
ACTIVE, TRIALING = SubscriptionStatus.ACTIVE, SubscriptionStatus.TRIALING
DUE = Situation(status=ACTIVE, next_renewal_at=RENEWAL, cancel_at=None)
OWED = Situation(
    status=SubscriptionStatus.PAST_DUE,
    next_renewal_at=None,
    cancel_at=None,
    invoice_status=InvoiceStatus.OPEN,
    dunning_ends_at=RENEWAL + timedelta(days=28),
)


def drafts(*reminders: Reminder, **changes: Any) -> list[NoticeDraft]:
    told: dict[str, Any] = {
        "subscription_id": "sub_1",
        "reminders": reminders,
        "segments": (),
        "renewal_at": RENEWAL,
        "zone": "Europe/Berlin",
        "now": RENEWAL - timedelta(days=40),
    }
    return upcoming(**told | changes)


def test_an_announcement_is_sent_days_before_at_the_renewals_local_time() -> None:
    """Seven local days before 10:30 summer time is 10:30 winter time, an hour later in UTC."""
    (draft,) = drafts(Reminder(7))
    assert draft.send_at == datetime(2026, 3, 25, 9, 30, tzinfo=UTC)
    assert draft.target_date == date(2026, 3, 25)
    assert draft.kind is NoticeKind.UPCOMING_RENEWAL
    assert draft.context == {"renewal_at": "2026-04-01T08:30:00Z", "days_before": 7}


def test_the_date_is_the_local_one() -> None:
    """Where the day has begun earlier, the notice is of that day."""
    (draft,) = drafts(
        Reminder(1), renewal_at=datetime(2026, 4, 1, 20, tzinfo=UTC), zone="Asia/Tokyo"
    )
    assert draft.target_date == date(2026, 4, 1)


def test_each_reminder_makes_a_notice_and_equal_ones_make_one() -> None:
    """The furthest comes first."""
    sent = [
        draft.context["days_before"] for draft in drafts(Reminder(3), Reminder(30), Reminder(3))
    ]
    assert sent == [30, 3]


@pytest.mark.parametrize(("segments", "days"), [((), [3]), (("vip",), [7, 3]), (("new",), [3])])
def test_a_reminder_of_a_segment_is_for_its_members(
    segments: tuple[str, ...], days: list[int]
) -> None:
    """Without a segment it is for everybody."""
    made = drafts(Reminder(7, "vip"), Reminder(3), segments=segments)
    assert [draft.context["days_before"] for draft in made] == days


def test_a_past_moment_still_makes_a_draft() -> None:
    """Its row will say that it was too late; only a renewal that has come announces nothing."""
    assert len(drafts(Reminder(30), now=RENEWAL - timedelta(days=2))) == 1
    assert drafts(Reminder(30), now=RENEWAL) == []


def test_the_same_cause_has_the_same_id() -> None:
    """A draft is a function of its cause, so that writing it twice writes it once."""
    assert drafts(Reminder(7)) == drafts(Reminder(7), now=RENEWAL - timedelta(days=1))
    assert drafts(Reminder(7))[0].notice_id != drafts(Reminder(8))[0].notice_id


def test_a_failed_payment_is_told_at_once() -> None:
    """The notice is due now, is of the local day, and holds codes only."""
    now = datetime(2026, 3, 10, 23, 30, tzinfo=UTC)
    (draft,) = payment_failed(
        subscription_id="sub_1",
        invoice_id=INVOICE,
        decline_class="soft",
        decline_code="insufficient_funds",
        zone="Europe/Berlin",
        now=now,
    )
    assert (draft.send_at, draft.target_date) == (now, date(2026, 3, 11))
    assert draft.invoice_id == INVOICE
    assert draft.context == {"decline_class": "soft", "decline_code": "insufficient_funds"}


def test_reminders_are_read_in_the_contracts_shape() -> None:
    """`segment` may be missing."""
    stored: list[dict[str, Any]] = [{"days_before": 7}, {"days_before": 3, "segment": "vip"}]
    assert reminders_of(stored) == [Reminder(7), Reminder(3, "vip")]


def announcement(situation: Situation, now: datetime) -> str | None:
    (draft,) = drafts(Reminder(7))
    return why_dropped(
        draft.kind,
        context=draft.context,
        send_at=draft.send_at,
        late_after=LATE,
        situation=situation,
        now=now,
    )


SENT = datetime(2026, 3, 25, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("situation", "now", "reason"),
    [
        (DUE, SENT, None),
        (DUE, SENT + LATE, None),
        (DUE, SENT + LATE + timedelta(seconds=1), "too late"),
        (Situation(TRIALING, RENEWAL, None), SENT, None),
        # A reminder that was written late, for a renewal that is here.
        (DUE, RENEWAL, "too late"),
        (
            Situation(ACTIVE, RENEWAL + timedelta(days=31), None),
            SENT,
            "the renewal is paid, under way or moved",
        ),
        (Situation(ACTIVE, None, None), SENT, "the renewal is paid, under way or moved"),
        (Situation(ACTIVE, RENEWAL, RENEWAL), SENT, "the subscription ends before the renewal"),
        # Canceled after one more renewal: that one is still announced.
        (Situation(ACTIVE, RENEWAL, RENEWAL + timedelta(days=31)), SENT, None),
        (
            Situation(SubscriptionStatus.CANCELED, None, None),
            SENT,
            "the subscription is canceled",
        ),
        (Situation(SubscriptionStatus.PAUSED, None, None), SENT, "the subscription is paused"),
        (
            Situation(SubscriptionStatus.PAST_DUE, RENEWAL, None),
            SENT,
            "the subscription is past_due",
        ),
    ],
)
def test_an_announcement_is_dropped_once_it_is_untrue_or_late(
    situation: Situation, now: datetime, reason: str | None
) -> None:
    """The renewal must still be the announced one, ahead, and of a subscription that renews."""
    assert announcement(situation, now) == reason


@pytest.mark.parametrize(
    ("changes", "days", "reason"),
    [
        ({}, 0, None),
        # A mail server that was away for two days is no reason to stay silent.
        ({}, 2, None),
        ({"status": SubscriptionStatus.PENDING}, 0, None),
        ({"status": SubscriptionStatus.UNPAID}, 0, None),
        ({}, 28, "too late"),
        ({"invoice_status": InvoiceStatus.PAID}, 0, "the invoice is paid"),
        ({"invoice_status": InvoiceStatus.VOID}, 0, "the invoice is void"),
        ({"invoice_status": None}, 0, "the invoice is unknown"),
        ({"status": SubscriptionStatus.CANCELED}, 0, "the subscription is canceled"),
    ],
)
def test_a_failed_payment_is_told_while_money_is_owed(
    changes: dict[str, Any], days: int, reason: str | None
) -> None:
    """Until the invoice is settled, the subscription ends, or its dunning does."""
    found = why_dropped(
        NoticeKind.PAYMENT_FAILED,
        context={},
        send_at=RENEWAL,
        late_after=LATE,
        situation=Situation(
            status=changes.get("status", OWED.status),
            next_renewal_at=None,
            cancel_at=None,
            invoice_status=changes.get("invoice_status", OWED.invoice_status),
            dunning_ends_at=OWED.dunning_ends_at,
        ),
        now=RENEWAL + timedelta(days=days),
    )
    assert found == reason

"""Notices: written with their cause, taken under the subscription's lock, settled by compare-and-set.

Whoever changes a notice holds FOR UPDATE on the row of its subscription; a sweep's claim only
touches `claimed_until` and `claims`. `claimed_until` is machine time: of a scheduled row the moment
it may be tried again, of one that is being sent the moment its sender must have ended.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from billing.notices import NoticeDraft
from worker.db import Connection

SCHEDULE = """
INSERT INTO notice (notice_id, subscription_id, invoice_id, kind, target_date, send_at, context,
                    state, created_at)
SELECT t.notice_id, t.subscription_id, t.invoice_id, t.kind, t.target_date, t.send_at,
       t.context::jsonb, 'scheduled', $8
  FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::date[], $6::timestamptz[],
              $7::text[])
       AS t (notice_id, subscription_id, invoice_id, kind, target_date, send_at, context)
    ON CONFLICT (subscription_id, kind, target_date) DO NOTHING
"""
DROP = """
UPDATE notice SET state = 'dropped', reason = $3, settled_at = $4, claimed_until = NULL, claims = 0
 WHERE subscription_id = ANY ($1::text[]) AND state = 'scheduled'
   AND ($2::text[] IS NULL OR kind = ANY ($2::text[]))
"""
READ_SUBSCRIPTIONS = """
SELECT DISTINCT subscription_id FROM notice WHERE notice_id = ANY ($1::uuid[])
"""
READ_DUE = """
SELECT n.notice_id, n.subscription_id, n.kind, n.send_at, n.context,
       c.email, c.name AS customer_name, coalesce(c.locale, r.locale) AS locale,
       coalesce(c.timezone, s.zone) AS zone, r.name AS seller_name,
       m.kind AS method_kind, m.brand AS method_brand,
       i.status AS invoice_status, i.dunning_ends_at, i.amount_minor, i.currency,
       i.attempt_due_at, i.attempt_source
  FROM notice n
  JOIN subscription s USING (subscription_id)
  JOIN customer c ON c.customer_id = s.customer_id
  JOIN seller r ON r.seller_id = s.seller_id
  JOIN payment_method m ON m.payment_method_id = s.payment_method_id
  LEFT JOIN invoice i ON i.invoice_id = n.invoice_id
 WHERE n.notice_id = ANY ($1::uuid[]) AND n.state = 'scheduled' AND n.send_at <= $2
   AND n.kind = ANY ($3::text[])
 ORDER BY n.notice_id
   FOR UPDATE OF n
"""
MARK_SENDING = """
UPDATE notice SET state = 'sending', claims = 0, claimed_until = clock_timestamp() + $2::interval
 WHERE notice_id = ANY ($1::uuid[]) AND state = 'scheduled'
"""
MARK_DROPPED = """
UPDATE notice SET state = 'dropped', reason = t.reason, settled_at = $3, claimed_until = NULL,
       claims = 0
  FROM unnest($1::uuid[], $2::text[]) AS t (notice_id, reason)
 WHERE notice.notice_id = t.notice_id AND notice.state = 'scheduled'
"""
SETTLE = """
UPDATE notice SET state = t.state, reason = t.reason, settled_at = $4, claimed_until = NULL
  FROM unnest($1::uuid[], $2::text[], $3::text[]) AS t (notice_id, state, reason)
 WHERE notice.notice_id = t.notice_id AND notice.state = 'sending'
RETURNING notice.notice_id
"""
PUT_BACK = """
UPDATE notice SET state = 'scheduled', reason = t.reason,
       claimed_until = clock_timestamp() + t.wait,
       context = notice.context || jsonb_build_object('tries', t.tries)
  FROM unnest($1::uuid[], $2::text[], $3::interval[], $4::integer[])
       AS t (notice_id, reason, wait, tries)
 WHERE notice.notice_id = t.notice_id AND notice.state = 'sending'
"""
RELEASE = """
UPDATE notice SET claimed_until = NULL, claims = 0
 WHERE notice_id = ANY ($1::uuid[]) AND state = 'scheduled'
"""
READ_HALF_SENT = """
SELECT notice_id, kind, s.subscription_id, s.customer_id, s.seller_id
  FROM notice JOIN subscription s USING (subscription_id)
 WHERE state = 'sending' AND notice.claimed_until < clock_timestamp()
 ORDER BY notice.claimed_until
 LIMIT $1
"""
FINISH_HALF_SENT = """
UPDATE notice SET state = 'sent', reason = $2, settled_at = $3, claimed_until = NULL
 WHERE notice_id = ANY ($1::uuid[]) AND state = 'sending' AND claimed_until < clock_timestamp()
RETURNING notice_id
"""


@dataclass(frozen=True, slots=True)
class DueNotice:
    """A notice that is due, with whom it goes to; the invoice's fields if it names one.

    `locale` is the customer's, else the seller's (BCP 47); `zone` is where the customer lives, else
    the subscription's.
    """

    notice_id: UUID
    subscription_id: str
    kind: str
    send_at: datetime
    context: dict[str, Any]
    email: str
    customer_name: str | None
    locale: str | None
    zone: str
    seller_name: str
    method_kind: str
    method_brand: str | None
    invoice_status: str | None
    dunning_ends_at: datetime | None
    amount_minor: int | None
    currency: str | None
    attempt_due_at: datetime | None
    attempt_source: str | None


@dataclass(frozen=True, slots=True)
class HalfSent:
    """A notice whose sender ended without a word, and whom it was about."""

    notice_id: UUID
    kind: str
    subscription_id: str
    customer_id: str
    seller_id: str


async def schedule(conn: Connection, drafts: Sequence[NoticeDraft], *, now: datetime) -> None:
    """Write notices; one of the same subscription, kind and date stays as it is, whatever became of it."""
    if drafts:
        await conn.execute(
            SCHEDULE,
            [draft.notice_id for draft in drafts],
            [draft.subscription_id for draft in drafts],
            [draft.invoice_id for draft in drafts],
            [draft.kind for draft in drafts],
            [draft.target_date for draft in drafts],
            [draft.send_at for draft in drafts],
            [json.dumps(dict(draft.context)) for draft in drafts],
            now,
        )


async def drop(
    conn: Connection,
    subscription_ids: Sequence[str],
    *,
    kinds: Sequence[str] | None,
    reason: str,
    now: datetime,
) -> None:
    """Drop what is still scheduled for these subscriptions (`kinds` None: every kind)."""
    await conn.execute(DROP, subscription_ids, kinds, reason, now)


async def read_subscriptions(conn: Connection, notice_ids: Sequence[UUID]) -> list[str]:
    """Whose these notices are: what has to be locked before they are looked at."""
    rows = await conn.fetch(READ_SUBSCRIPTIONS, notice_ids)
    return [row["subscription_id"] for row in rows]


async def read_due(
    conn: Connection, notice_ids: Sequence[UUID], *, kinds: Sequence[str], now: datetime
) -> list[DueNotice]:
    """Those of the notices that are scheduled and due; the caller has locked their subscriptions."""
    rows = await conn.fetch(READ_DUE, notice_ids, now, kinds)
    return [DueNotice(**row) for row in rows]


async def mark_sending(conn: Connection, notice_ids: Sequence[UUID], *, lease: timedelta) -> None:
    """From here on a crash counts as sent; `lease` (machine time) is longer than any sender lives."""
    await conn.execute(MARK_SENDING, notice_ids, lease)


async def mark_dropped(
    conn: Connection, notice_ids: Sequence[UUID], *, reasons: Sequence[str], now: datetime
) -> None:
    """Drop scheduled notices, each with its reason."""
    await conn.execute(MARK_DROPPED, notice_ids, reasons, now)


async def settle(
    conn: Connection,
    notice_ids: Sequence[UUID],
    *,
    states: Sequence[str],
    reasons: Sequence[str | None],
    now: datetime,
) -> set[UUID]:
    """Move notices from `sending` to `sent` or `failed`; the answer are those that were `sending`."""
    rows = await conn.fetch(SETTLE, notice_ids, states, reasons, now)
    return {row["notice_id"] for row in rows}


async def put_back(
    conn: Connection,
    notice_ids: Sequence[UUID],
    *,
    reasons: Sequence[str],
    waits: Sequence[timedelta],
    tries: Sequence[int],
) -> None:
    """Schedule notices again that were surely not sent, after a wait (machine time)."""
    await conn.execute(PUT_BACK, notice_ids, reasons, waits, tries)


async def release(conn: Connection, notice_ids: Sequence[UUID]) -> None:
    """Give claimed notices back that were not touched."""
    await conn.execute(RELEASE, notice_ids)


async def read_half_sent(conn: Connection, *, limit: int) -> list[HalfSent]:
    """Notices whose sender must have ended by now without saying what became of them."""
    rows = await conn.fetch(READ_HALF_SENT, limit)
    return [HalfSent(**row) for row in rows]


async def finish_half_sent(
    conn: Connection, notice_ids: Sequence[UUID], *, reason: str, now: datetime
) -> set[UUID]:
    """Count them as sent, unless somebody settled them meanwhile; the answer are those that moved."""
    rows = await conn.fetch(FINISH_HALF_SENT, notice_ids, reason, now)
    return {row["notice_id"] for row in rows}

"""Rows that wait for a person: parked ones, and attempts that are frozen. Listing, and putting back.

A release puts the due time back where it was taken from, so that the next sweep sees the row; whether it
may be done at all is asked again by whoever does it. The caller holds the subscription's lock.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from worker.db import Connection

LIST = """
SELECT kind, id, subscription_id, reason, at FROM parked
 WHERE $1::text IS NULL OR subscription_id = $1
UNION ALL
SELECT 'attempt', a.invoice_id || ':' || a.ordinal, a.subscription_id, a.needs_human,
       coalesce(a.resolved_at, a.sent_at)
  FROM attempt a
 WHERE a.needs_human IS NOT NULL AND ($1::text IS NULL OR a.subscription_id = $1)
   AND NOT EXISTS (SELECT FROM parked p
                    WHERE p.kind = 'attempt' AND p.id = a.invoice_id || ':' || a.ordinal)
 ORDER BY at, kind, id
 LIMIT $2
"""
FIND = "SELECT kind, id, subscription_id, reason, at FROM parked WHERE kind = $1 AND id = $2"
FIND_FROZEN = """
SELECT 'attempt', invoice_id || ':' || ordinal, subscription_id, needs_human,
       coalesce(resolved_at, sent_at)
  FROM attempt WHERE invoice_id = $1 AND ordinal = $2 AND needs_human IS NOT NULL
"""
REMOVE = "DELETE FROM parked WHERE kind = $1 AND id = $2 RETURNING due_at"
PUT_BACK_RENEWAL = """
UPDATE subscription SET next_renewal_at = $2, claimed_until = NULL, claims = 0
 WHERE subscription_id = $1 AND next_renewal_at IS NULL
   AND status NOT IN ('canceled', 'expired', 'paused', 'unpaid')
"""
PUT_BACK_COLLECTION = """
UPDATE invoice SET attempt_due_at = $2, hold_reason = NULL, claimed_until = NULL, claims = 0
 WHERE invoice_id = $1 AND attempt_due_at IS NULL AND attempt_source IS NOT NULL AND status = 'open'
"""
PUT_BACK_ATTEMPT = """
UPDATE attempt
   SET needs_human = NULL, retake_at = '-infinity',
       check_due_at = CASE WHEN resolved_at IS NULL THEN $3::timestamptz END
 WHERE invoice_id = $1 AND ordinal = $2
"""
PUT_BACK_NOTICE = """
UPDATE notice SET claimed_until = NULL, claims = 0, send_at = coalesce($2, send_at)
 WHERE notice_id = $1 AND state = 'scheduled'
"""
PUT_BACK_CANCEL = """
UPDATE subscription SET claimed_until = NULL, claims = 0
 WHERE subscription_id = $1 AND cancel_at <= $2
"""
PUT_BACK_GRACE = """
UPDATE subscription SET access_ends_at = $2, claimed_until = NULL, claims = 0
 WHERE subscription_id = $1 AND access_ends_at IS NULL AND status = 'past_due'
"""


class ParkedKind(StrEnum):
    """What a parked row is; its `id` is a subscription's, an invoice's, `invoice:ordinal` or a notice's."""

    RENEWAL = "renewal"
    COLLECTION = "collection"
    ATTEMPT = "attempt"
    NOTICE = "notice"
    CANCEL = "cancel"
    GRACE = "grace"


class Parked(NamedTuple):
    """A row that waits for a person; `at` is machine time, of a frozen attempt business time."""

    kind: ParkedKind
    id: str
    subscription_id: str
    reason: str
    at: datetime


_BY_TEXT = {
    ParkedKind.RENEWAL: PUT_BACK_RENEWAL,
    ParkedKind.CANCEL: PUT_BACK_CANCEL,
    ParkedKind.GRACE: PUT_BACK_GRACE,
}
_BY_UUID = {ParkedKind.COLLECTION: PUT_BACK_COLLECTION, ParkedKind.NOTICE: PUT_BACK_NOTICE}


async def waiting(conn: Connection, *, subscription_id: str | None, limit: int) -> list[Parked]:
    """What waits for a person, oldest first; of one subscription, or of all."""
    return [_parked(tuple(row)) for row in await conn.fetch(LIST, subscription_id, limit)]


async def find(conn: Connection, kind: ParkedKind, id_: str) -> Parked | None:
    """One row that waits; for an attempt, the frozen one counts as well."""
    row = await conn.fetchrow(FIND, kind, id_)
    if row is None and kind is ParkedKind.ATTEMPT:
        row = await conn.fetchrow(FIND_FROZEN, *attempt_key(id_))
    return None if row is None else _parked(tuple(row))


async def put_back(conn: Connection, kind: ParkedKind, id_: str, *, now: datetime) -> bool:
    """Take a row off the list and put its due time back; False if it has nowhere to go any more.

    An attempt is looked at again at once; one that is settled only loses its note.
    """
    due_at = await conn.fetchval(REMOVE, kind, id_)
    if kind is ParkedKind.ATTEMPT:
        done: str = await conn.execute(PUT_BACK_ATTEMPT, *attempt_key(id_), now)
    elif kind in _BY_UUID:
        done = await conn.execute(_BY_UUID[kind], UUID(id_), due_at)
    else:
        done = await conn.execute(_BY_TEXT[kind], id_, due_at)
    return done != "UPDATE 0"


def attempt_key(id_: str) -> tuple[UUID, int]:
    """`invoice:ordinal` as the key of the attempt. Raises `ValueError`."""
    invoice_id, _, ordinal = id_.partition(":")
    return UUID(invoice_id), int(ordinal)


def _parked(row: Sequence[object]) -> Parked:
    kind, *others = row
    return Parked(ParkedKind(str(kind)), *others)  # type: ignore[arg-type]

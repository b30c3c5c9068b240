"""Attempts under way, and hints that it is time to look at one again."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from worker.db import Connection
from worker.store.changes import columns

_UNDER_WAY = """
SELECT invoice_id, ordinal, subscription_id, gateway, idempotency_key, gateway_ref, state
  FROM attempt
"""
READ_UNSETTLED = (
    _UNDER_WAY + "WHERE invoice_id = ANY($1::uuid[])"
    " AND state IN ('sent', 'unknown', 'pending', 'action_required')"
)
FIND_BY_KEY = _UNDER_WAY + "WHERE idempotency_key = ANY($1::text[])"
FIND_BY_REF = _UNDER_WAY + "WHERE gateway_ref = ANY($1::text[])"
# One that is `sent` may be on the wire at this moment: its worker keeps it until `retake_at`.
LOOK_AGAIN = """
UPDATE attempt a
   SET check_due_at = least(a.check_due_at, $3),
       retake_at = CASE WHEN a.state = 'sent' THEN a.retake_at ELSE '-infinity' END
  FROM unnest($1::uuid[], $2::int[]) AS t (invoice_id, ordinal)
 WHERE a.invoice_id = t.invoice_id AND a.ordinal = t.ordinal AND a.needs_human IS NULL
   AND a.state IN ('sent', 'unknown', 'pending', 'action_required')
"""


class Trace(NamedTuple):
    """Where an attempt is to be found, here and at its gateway."""

    invoice_id: UUID
    ordinal: int
    subscription_id: str
    gateway: str
    idempotency_key: str
    gateway_ref: str | None
    state: str


async def read_unsettled(conn: Connection, invoice_ids: Collection[UUID]) -> dict[UUID, Trace]:
    """The attempt under way of each of these invoices that has one (never two)."""
    if not invoice_ids:
        return {}
    rows = await conn.fetch(READ_UNSETTLED, list(invoice_ids))
    return {row[0]: Trace(*row) for row in rows}


async def find(
    conn: Connection, *, keys: Collection[str], references: Collection[str]
) -> list[Trace]:
    """Attempts by their idempotency key or the gateway's own id, in any state."""
    found = await conn.fetch(FIND_BY_KEY, list(keys)) if keys else []
    found += await conn.fetch(FIND_BY_REF, list(references)) if references else []
    return [Trace(*row) for row in found]


async def look_again(
    conn: Connection, attempts: Sequence[tuple[UUID, int]], *, now: datetime
) -> None:
    """Let reconciliation look at these as soon as it may; those that are settled stay as they are."""
    if attempts:
        await conn.execute(LOOK_AGAIN, *columns(attempts, 2), now)

"""Leases, from the worker's side: giving back what cannot be started, parking what breaks its batch."""

from collections.abc import Sequence
from uuid import UUID

from worker.db import Connection

GIVE_BACK_SUBSCRIPTIONS = """
UPDATE subscription SET claimed_until = NULL
 WHERE subscription_id IN (
    SELECT subscription_id FROM subscription WHERE subscription_id = ANY($1::text[])
       FOR UPDATE SKIP LOCKED)
"""
# Who holds a row's lock gives its claim back himself; waiting for him out of order is a deadlock.
GIVE_BACK_INVOICES = """
UPDATE invoice SET claimed_until = NULL
 WHERE invoice_id IN (
    SELECT invoice_id FROM invoice WHERE invoice_id = ANY($1::uuid[]) FOR UPDATE SKIP LOCKED)
"""
PARK_RENEWAL = """
WITH found AS (
    SELECT subscription_id, next_renewal_at FROM subscription
     WHERE subscription_id = $1 AND next_renewal_at IS NOT NULL FOR UPDATE
), gone AS (
    UPDATE subscription SET next_renewal_at = NULL, claimed_until = NULL, claims = 0
     WHERE subscription_id IN (SELECT subscription_id FROM found)
)
INSERT INTO parked (kind, id, subscription_id, reason, due_at, at)
SELECT 'renewal', subscription_id, subscription_id, $2, next_renewal_at, clock_timestamp() FROM found
ON CONFLICT (kind, id) DO UPDATE SET reason = excluded.reason, due_at = excluded.due_at
RETURNING id
"""
PARK_COLLECTION = """
WITH found AS (
    SELECT invoice_id, subscription_id, attempt_due_at FROM invoice
     WHERE invoice_id = $1 AND attempt_due_at IS NOT NULL FOR UPDATE
), gone AS (
    UPDATE invoice SET attempt_due_at = NULL, claimed_until = NULL, claims = 0, hold_reason = 'parked'
     WHERE invoice_id IN (SELECT invoice_id FROM found)
)
INSERT INTO parked (kind, id, subscription_id, reason, due_at, at)
SELECT 'collection', invoice_id::text, subscription_id, $2, attempt_due_at, clock_timestamp()
  FROM found
ON CONFLICT (kind, id) DO UPDATE SET reason = excluded.reason, due_at = excluded.due_at
RETURNING id
"""
PARK_GRACE = """
WITH found AS (
    SELECT subscription_id, access_ends_at FROM subscription
     WHERE subscription_id = $1 AND access_ends_at IS NOT NULL FOR UPDATE
), gone AS (
    UPDATE subscription SET access_ends_at = NULL, claimed_until = NULL, claims = 0
     WHERE subscription_id IN (SELECT subscription_id FROM found)
)
INSERT INTO parked (kind, id, subscription_id, reason, due_at, at)
SELECT 'grace', subscription_id, subscription_id, $2, access_ends_at, clock_timestamp() FROM found
ON CONFLICT (kind, id) DO UPDATE SET reason = excluded.reason, due_at = excluded.due_at
RETURNING id
"""
PARK_OUTCOME = """
WITH found AS (
    UPDATE attempt SET raw_outcome = $3, retake_at = clock_timestamp() + make_interval(secs => 300)
     WHERE invoice_id = $1 AND ordinal = $2
       AND state NOT IN ('succeeded', 'declined')
    RETURNING invoice_id, ordinal, subscription_id, check_due_at
)
INSERT INTO parked (kind, id, subscription_id, reason, due_at, at)
SELECT 'attempt', invoice_id || ':' || ordinal, subscription_id, $4, check_due_at, clock_timestamp()
  FROM found
ON CONFLICT (kind, id) DO UPDATE SET reason = excluded.reason
RETURNING id
"""


async def give_back_subscriptions(conn: Connection, ids: Sequence[str]) -> None:
    """End the lease of rows that were not started, so that the next sweep sees them.

    The leases that ran out before still count.
    """
    await conn.execute(GIVE_BACK_SUBSCRIPTIONS, ids)


async def give_back_invoices(conn: Connection, ids: Sequence[UUID]) -> None:
    """The same for invoices."""
    await conn.execute(GIVE_BACK_INVOICES, ids)


async def park_renewal(conn: Connection, subscription_id: str, reason: str) -> bool:
    """Take a renewal out of its sweep until somebody releases it; False if it is not due any more."""
    return await conn.fetchval(PARK_RENEWAL, subscription_id, reason) is not None


async def park_collection(conn: Connection, invoice_id: UUID, reason: str) -> bool:
    """The same for an attempt that is due on an invoice."""
    return await conn.fetchval(PARK_COLLECTION, invoice_id, reason) is not None


async def park_grace(conn: Connection, subscription_id: str, reason: str) -> bool:
    """The same for a grace period that is over."""
    return await conn.fetchval(PARK_GRACE, subscription_id, reason) is not None


async def park_outcome(
    conn: Connection, invoice_id: UUID, ordinal: int, *, raw_outcome: str, reason: str
) -> None:
    """Keep the raw outcome of an attempt that cannot be settled; reconciliation goes on, slowly.

    A void attempt is kept in the list as well: the outcome may be money that came late.
    """
    await conn.execute(PARK_OUTCOME, invoice_id, ordinal, raw_outcome, reason)

"""Setting a cancel aside that breaks its batch."""

from worker.db import Connection

PARK = """
WITH row AS (
    SELECT subscription_id, cancel_at FROM subscription
     WHERE subscription_id = $1 AND cancel_at IS NOT NULL FOR UPDATE
), gone AS (
    UPDATE subscription SET cancel_at = NULL, claimed_until = NULL, claims = 0
     WHERE subscription_id IN (SELECT subscription_id FROM row)
)
INSERT INTO parked (kind, id, subscription_id, reason, due_at, at)
SELECT 'cancel', subscription_id, subscription_id, $2, cancel_at, clock_timestamp() FROM row
ON CONFLICT (kind, id) DO UPDATE SET reason = excluded.reason, due_at = excluded.due_at
RETURNING id
"""


async def park(conn: Connection, subscription_id: str, reason: str) -> bool:
    """Take a cancel out of its sweep until somebody releases it; False if there is none any more."""
    return await conn.fetchval(PARK, subscription_id, reason) is not None

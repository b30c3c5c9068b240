"""Setting a cancel aside that breaks its batch."""

from worker.db import Connection

PARK = """
WITH found AS (
    SELECT subscription_id, cancel_at FROM subscription
     WHERE subscription_id = $1 AND cancel_at IS NOT NULL FOR UPDATE
)
INSERT INTO parked (kind, id, subscription_id, reason, due_at, at)
SELECT 'cancel', subscription_id, subscription_id, $2, cancel_at, clock_timestamp() FROM found
ON CONFLICT (kind, id) DO UPDATE SET reason = excluded.reason, due_at = excluded.due_at
RETURNING id
"""


async def park(conn: Connection, subscription_id: str, reason: str) -> bool:
    """Take a cancel out of its sweep until somebody releases it; False if there is none any more.

    `cancel_at` stays: nothing renews or is retried after it, parked or not, and it may be undone.
    """
    return await conn.fetchval(PARK, subscription_id, reason) is not None

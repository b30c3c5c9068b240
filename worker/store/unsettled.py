"""Attempts without a final word: who may still be sending them, and stamping a resend."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from billing.facts import Attempt
from worker.db import Connection

STILL_SENDING = """
SELECT a.invoice_id, a.ordinal
  FROM attempt a JOIN unnest($1::uuid[], $2::int[]) AS t (invoice_id, ordinal)
 USING (invoice_id, ordinal)
 WHERE a.send_deadline > clock_timestamp()
"""
STAMP_RESEND = """
UPDATE attempt a
   SET sent_at = $3, not_found_at = NULL, answered = false,
       send_deadline = clock_timestamp() + make_interval(secs => $4)
  FROM unnest($1::uuid[], $2::int[]) AS t (invoice_id, ordinal)
 WHERE a.invoice_id = t.invoice_id AND a.ordinal = t.ordinal
   AND a.state IN ('sent', 'unknown')
"""


async def still_sending(
    conn: Connection, keys: Collection[tuple[UUID, int]]
) -> set[tuple[UUID, int]]:
    """Those whose send window is still open (machine time): another process may be sending them."""
    rows = await conn.fetch(STILL_SENDING, [key[0] for key in keys], [key[1] for key in keys])
    return {(row["invoice_id"], row["ordinal"]) for row in rows}


async def stamp_resend(
    conn: Connection, attempts: Sequence[Attempt], *, now: datetime, send_seconds: float
) -> None:
    """Say that these keys are about to be sent again.

    What was not found before counts no more, and an answer to an earlier send says nothing of how
    long this one may be on its way.
    """
    if attempts:
        await conn.execute(
            STAMP_RESEND,
            [attempt.invoice_id for attempt in attempts],
            [attempt.ordinal for attempt in attempts],
            now,
            send_seconds,
        )

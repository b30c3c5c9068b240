"""The narrow writes of the path that nearly every charge takes, beside the wide ones of changes.py.

Encoding arrays was a sixth of a worker's CPU: a renewal that is due, and a first attempt that is paid,
write only what they change. Everything unusual goes through changes.py.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from billing.facts import Subscription
from worker.db import Connection
from worker.store.changes import columns

MOVE_ON = """
UPDATE subscription s
   SET next_period = t.next_period, next_renewal_at = t.next_renewal_at, claimed_until = NULL,
       claims = 0
  FROM unnest($1::text[], $2::int[], $3::timestamptz[])
    AS t (subscription_id, next_period, next_renewal_at)
 WHERE s.subscription_id = t.subscription_id
"""
# The states are looked at in a FILTER: in a WHERE they tempt the planner to walk the partial indexes of
# what is open, with all their dead entries, instead of looking each row up by its key.
SETTLE_PLAIN = """
WITH paid AS (
    SELECT * FROM unnest($1::text[], $2::uuid[], $3::int[], $4::text[], $5::bigint[], $6::bigint[])
        AS t (subscription_id, invoice_id, ordinal, gateway_ref, sequence_before, sequence)
), found AS (
    SELECT count(*) FILTER (
               WHERE a.state = 'sent' AND a.checks = 0
                 AND i.status = 'open' AND i.first_declined_at IS NULL
                 AND s.status = 'active' AND s.access_ends_at IS NULL
                 AND s.next_renewal_at IS NOT NULL AND s.current_period_end = i.period_start
                 AND s.sequence = paid.sequence_before) AS as_told
      FROM paid
      JOIN attempt a ON a.invoice_id = paid.invoice_id AND a.ordinal = paid.ordinal
      JOIN invoice i ON i.invoice_id = paid.invoice_id
      JOIN subscription s ON s.subscription_id = paid.subscription_id
), a AS (
    UPDATE attempt SET state = 'succeeded', check_due_at = NULL, resolved_at = $7,
           gateway_ref = paid.gateway_ref
      FROM paid WHERE attempt.invoice_id = paid.invoice_id AND attempt.ordinal = paid.ordinal
), i AS (
    UPDATE invoice SET status = 'paid', paid_at = $7, closed_at = $7, attempt_due_at = NULL,
           attempt_source = NULL, requested_source = NULL, hold_reason = NULL,
           claimed_until = NULL, claims = 0
      FROM paid WHERE invoice.invoice_id = paid.invoice_id
    RETURNING invoice.subscription_id, period_start, period_end, paid.sequence
), s AS (
    UPDATE subscription SET current_period_start = i.period_start,
           current_period_end = i.period_end, sequence = i.sequence, claimed_until = NULL,
           claims = 0
      FROM i WHERE subscription.subscription_id = i.subscription_id
), moves AS (
    INSERT INTO transition
           (subscription_id, machine, subject, from_state, to_state, reason, actor, at)
    SELECT paid.subscription_id, m.machine,
           paid.invoice_id || CASE m.machine WHEN 'attempt' THEN ':' || paid.ordinal ELSE '' END,
           m.from_state, m.to_state, 'approved', $8, $7
      FROM paid, (VALUES ('attempt', 'sent', 'succeeded'), ('invoice', 'open', 'paid'))
        AS m (machine, from_state, to_state)
)
SELECT as_told FROM found
"""


async def move_on(conn: Connection, rows: Sequence[Subscription]) -> None:
    """Write the next renewal of subscriptions whose period is about to be charged."""
    if rows:
        values = [(s.subscription_id, s.next_period, s.next_renewal_at) for s in rows]
        await conn.execute(MOVE_ON, *columns(values, 3))


async def settle_plain(
    conn: Connection,
    rows: Sequence[tuple[str, UUID, int, str, int, int]],
    *,
    actor: str,
    now: datetime,
) -> bool:
    """Write first attempts that were paid, with their invoice, subscription and history.

    A row is subscription id, invoice id, ordinal, gateway's id, and the subscription's sequence before
    and after. Returns False, and must be rolled back, unless each was as it has to be (compare and
    set): attempt sent, invoice open, subscription active, sequence and period as told.
    """
    if not rows:
        return True
    as_told: int = await conn.fetchval(SETTLE_PLAIN, *columns(rows, 6), now, actor)
    return as_told == len(rows)

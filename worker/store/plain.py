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
SETTLE_PLAIN = """
WITH paid AS (
    SELECT * FROM unnest($1::text[], $2::uuid[], $3::int[], $4::text[], $5::bigint[])
        AS t (subscription_id, invoice_id, ordinal, gateway_ref, sequence)
), a AS (
    UPDATE attempt SET state = 'succeeded', check_due_at = NULL, resolved_at = $6,
           gateway_ref = paid.gateway_ref
      FROM paid WHERE attempt.invoice_id = paid.invoice_id AND attempt.ordinal = paid.ordinal
), i AS (
    UPDATE invoice SET status = 'paid', paid_at = $6, closed_at = $6, attempt_due_at = NULL,
           attempt_source = NULL, requested_source = NULL, hold_reason = NULL,
           claimed_until = NULL, claims = 0
      FROM paid WHERE invoice.invoice_id = paid.invoice_id
    RETURNING invoice.subscription_id, period_start, period_end, sequence
), s AS (
    UPDATE subscription SET current_period_start = i.period_start,
           current_period_end = i.period_end, sequence = i.sequence, claimed_until = NULL,
           claims = 0
      FROM i WHERE subscription.subscription_id = i.subscription_id
)
INSERT INTO transition (subscription_id, machine, subject, from_state, to_state, reason, actor, at)
SELECT paid.subscription_id, m.machine,
       paid.invoice_id || CASE m.machine WHEN 'attempt' THEN ':' || paid.ordinal ELSE '' END,
       m.from_state, m.to_state, 'approved', $7, $6
  FROM paid, (VALUES ('attempt', 'sent', 'succeeded'), ('invoice', 'open', 'paid'))
    AS m (machine, from_state, to_state)
"""


async def move_on(conn: Connection, rows: Sequence[Subscription]) -> None:
    """Write the next renewal of subscriptions whose period is about to be charged."""
    if rows:
        values = [(s.subscription_id, s.next_period, s.next_renewal_at) for s in rows]
        await conn.execute(MOVE_ON, *columns(values, 3))


async def settle_plain(
    conn: Connection,
    rows: Sequence[tuple[str, UUID, int, str, int]],
    *,
    actor: str,
    now: datetime,
) -> None:
    """Write first attempts that were paid, with their invoice, subscription and history.

    A row is subscription id, invoice id, ordinal, gateway's id, the subscription's last sequence.
    """
    if rows:
        await conn.execute(SETTLE_PLAIN, *columns(rows, 5), now, actor)

"""SQL of the invariants: each finds the rows that break one; $1 is business now."""

from datetime import datetime

from worker.db import Connection

ONE_SUCCESS = """
SELECT invoice_id::text, $1::timestamptz FROM attempt WHERE state = 'succeeded'
 GROUP BY invoice_id HAVING count(*) > 1
"""
ONE_LIVE_ATTEMPT = """
SELECT invoice_id::text, $1::timestamptz FROM attempt WHERE state NOT IN ('declined', 'void')
 GROUP BY invoice_id HAVING count(*) > 1
"""
PAID_HAS_SUCCESS = """
SELECT i.invoice_id::text, $1::timestamptz FROM invoice i
 WHERE i.status = 'paid' AND i.amount_minor > 0
   AND NOT EXISTS (SELECT FROM attempt a
                    WHERE a.invoice_id = i.invoice_id AND a.state = 'succeeded')
"""
SUCCESS_IS_PAID = """
SELECT a.invoice_id::text, $1::timestamptz FROM attempt a JOIN invoice i USING (invoice_id)
 WHERE a.state = 'succeeded' AND i.status <> 'paid'
"""
AMOUNT_MATCHES = """
SELECT a.invoice_id || ':' || a.ordinal, $1::timestamptz
  FROM attempt a JOIN invoice i USING (invoice_id) JOIN subscription s
    ON s.subscription_id = i.subscription_id JOIN plan p USING (plan_id)
 WHERE (a.amount_minor, a.currency) <> (i.amount_minor, i.currency)
    OR a.amount_minor > p.ceiling_minor
"""
LINES_ADD_UP = """
SELECT i.invoice_id::text, $1::timestamptz FROM invoice i
  LEFT JOIN invoice_line l USING (invoice_id)
 GROUP BY i.invoice_id HAVING i.amount_minor <> coalesce(sum(l.amount_minor), 0)
"""
NO_CHARGE_AFTER_END = """
SELECT a.invoice_id || ':' || a.ordinal, $1::timestamptz
  FROM attempt a JOIN subscription s USING (subscription_id)
 WHERE a.claimed_at > s.ended_at
"""
NO_CHARGE_AFTER_HARD = """
SELECT later.invoice_id || ':' || later.ordinal, $1::timestamptz
  FROM attempt hard
  JOIN payment_method m USING (payment_method_id)
  JOIN attempt later
    ON later.subscription_id = hard.subscription_id
   AND later.payment_method_id = hard.payment_method_id
   AND later.claimed_at > hard.resolved_at
 WHERE hard.decline_class = 'hard' AND m.hard_declined_at <= hard.resolved_at
"""
REQUEST_UNCHANGED = """
SELECT invoice_id || ':' || ordinal, $1::timestamptz FROM attempt
 WHERE sha256(request) <> request_hash
"""
ORDINALS_GAPLESS = """
SELECT invoice_id::text, $1::timestamptz FROM attempt
 GROUP BY invoice_id HAVING max(ordinal) <> count(*)
"""
RENEWAL_NOT_FORGOTTEN = """
SELECT s.subscription_id, $1::timestamptz FROM subscription s
 WHERE s.status IN ('pending', 'trialing', 'active') AND s.next_renewal_at IS NULL
   AND NOT EXISTS (SELECT FROM invoice i
                    WHERE i.subscription_id = s.subscription_id AND i.status = 'open')
   AND NOT EXISTS (SELECT FROM parked p WHERE p.subscription_id = s.subscription_id)
"""
RENEWAL_ON_TIME = """
SELECT s.subscription_id, s.next_renewal_at FROM subscription s
 WHERE s.next_renewal_at < $1::timestamptz - interval '1 hour'
   AND (s.cancel_at IS NULL OR s.cancel_at > s.next_renewal_at)
   AND NOT EXISTS (
    SELECT FROM charging_pause p
     WHERE p.scope = 'global' OR (p.scope, p.scope_id) IN
           (('gateway', s.gateway), ('seller', s.seller_id), ('plan', s.plan_id)))
"""
INVOICE_NOT_FORGOTTEN = """
SELECT i.invoice_id::text, $1::timestamptz FROM invoice i
 WHERE i.status = 'open' AND i.attempt_due_at IS NULL AND i.hold_reason IS NULL
   AND NOT EXISTS (SELECT FROM attempt a
                    WHERE a.invoice_id = i.invoice_id
                      AND a.state IN ('sent', 'unknown', 'pending', 'action_required'))
"""
NOTHING_STAYS_OPEN = """
SELECT invoice_id || ':' || ordinal, claimed_at FROM attempt
 WHERE state IN ('sent', 'unknown') AND claimed_at < $1::timestamptz - interval '20 hours'
"""
PERIODS_GAPLESS = """
SELECT subscription_id, period_start FROM (
    SELECT subscription_id, period_start,
           lag(period_end) OVER (PARTITION BY subscription_id ORDER BY period_index) AS last_end
      FROM (SELECT subscription_id, period_index, period_start, period_end FROM invoice
             UNION ALL
            SELECT subscription_id, period_index, period_start, period_end FROM period_skip) AS p
) AS chained
 WHERE last_end <> period_start AND $1::timestamptz IS NOT NULL
"""
SEQUENCE_GAPLESS = """
SELECT subscription_id, $1::timestamptz
  FROM subscription s LEFT JOIN outbox_event o USING (subscription_id)
 GROUP BY s.subscription_id
HAVING s.sequence <> count(o.sequence) OR s.sequence <> coalesce(max(o.sequence), 0)
"""
OUTCOME_WAS_TOLD = """
SELECT s.subscription_id, $1::timestamptz
  FROM (SELECT subscription_id,
               count(*) FILTER (WHERE type = 'billing.invoice.paid') AS told
          FROM outbox_event WHERE subscription_id IS NOT NULL GROUP BY subscription_id) AS o
  FULL JOIN (SELECT subscription_id, count(*) AS paid
               FROM invoice WHERE status = 'paid' GROUP BY subscription_id) AS i
 USING (subscription_id)
  JOIN subscription s USING (subscription_id)
 WHERE coalesce(o.told, 0) <> coalesce(i.paid, 0)
"""
OUTBOX_FLOWS = """
SELECT position::text, created_at FROM outbox_event
 WHERE published_at IS NULL AND created_at < clock_timestamp() - interval '5 minutes'
   AND $1::timestamptz IS NOT NULL
"""
TRANSITIONS_CHAIN = """
SELECT subject, $1::timestamptz FROM (
    SELECT machine, subject, from_state,
           lag(to_state) OVER (PARTITION BY subscription_id, machine, subject ORDER BY position)
               AS last_state
      FROM transition
) AS chained
 WHERE last_state <> from_state
UNION ALL
SELECT last.subject, $1
  FROM (SELECT DISTINCT ON (subscription_id) subscription_id, subject, to_state FROM transition
         WHERE machine = 'subscription' ORDER BY subscription_id, position DESC) AS last
  JOIN subscription s USING (subscription_id)
 WHERE s.status <> last.to_state
"""
ONE_EFFECT = """
SELECT source || '/' || event_id, $1::timestamptz FROM inbox_event
 WHERE event_id <> '' GROUP BY source, event_id HAVING count(*) > 1
"""
NOTICE_ONCE = """
SELECT subscription_id || ' ' || kind || ' ' || target_date, $1::timestamptz FROM notice
 GROUP BY subscription_id, kind, target_date HAVING count(*) > 1
"""
NO_LATE_NOTICE = """
SELECT n.notice_id::text, n.settled_at FROM notice n JOIN subscription s USING (subscription_id)
 WHERE n.kind = 'upcoming_renewal' AND n.state = 'sent' AND n.settled_at > s.ended_at
   AND $1::timestamptz IS NOT NULL
"""
LEDGER_ONE_CHARGE = """
SELECT reference, $1::timestamptz FROM gateway_charge WHERE status = 'succeeded'
 GROUP BY gateway, reference HAVING count(*) > 1
"""
LEDGER_NO_FOREIGN = """
SELECT g.gateway_ref, $1::timestamptz
  FROM gateway_charge g LEFT JOIN attempt a USING (idempotency_key), control c
 WHERE a.invoice_id IS NULL AND g.idempotency_key LIKE 'b1:' || c.installation_id || ':%'
"""
LEDGER_HAS_SUCCESS = """
SELECT a.invoice_id || ':' || a.ordinal, a.resolved_at
  FROM attempt a LEFT JOIN gateway_charge g
    ON g.idempotency_key = a.idempotency_key AND g.status = 'succeeded'
 WHERE a.state = 'succeeded' AND $1::timestamptz IS NOT NULL
   AND (g.gateway_ref IS NULL OR (g.amount_minor, g.currency) <> (a.amount_minor, a.currency))
"""
LEDGER_NO_LOST = """
SELECT g.gateway_ref, g.created_at
  FROM gateway_charge g JOIN attempt a USING (idempotency_key)
 WHERE g.status = 'succeeded' AND a.state <> 'succeeded'
   AND g.created_at < $1::timestamptz - interval '15 minutes'
"""


async def count(
    conn: Connection, statement: str, *, now: datetime, sample: int
) -> tuple[int, list[str]]:
    """How many rows break an invariant, and the names of the first few."""
    rows = await conn.fetch(statement, now)
    return len(rows), [row[0] for row in rows[:sample]]

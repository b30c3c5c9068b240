"""SQL of the invariants: each finds the rows that break one; $1 is business now."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from billing.lifecycle import ATTEMPT_TRANSITIONS, INVOICE_TRANSITIONS, SUBSCRIPTION_TRANSITIONS
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
    -- A ceiling binds the attempts that came after it was told.
    OR (a.amount_minor > p.ceiling_minor AND a.claimed_at > coalesce(
        (SELECT max(k.received_at) FROM applied_version v JOIN inbox_key k USING (event_id)
          WHERE (v.subject_kind, v.subject_id, v.topic) = ('plan', p.plan_id, 'profile')),
        '-infinity'))
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
  JOIN attempt later USING (payment_method_id)
 WHERE hard.decline_class = 'hard'
   -- Another subscription's attempt may be committed at the moment when the word comes in.
   AND later.claimed_at > hard.resolved_at + CASE
       WHEN later.subscription_id = hard.subscription_id THEN interval '0' ELSE interval '1 minute' END
   -- Other details are another card.
   AND (m.changed_at IS NULL OR m.changed_at <= hard.claimed_at)
"""
REQUEST_UNCHANGED = """
SELECT invoice_id || ':' || ordinal, $1::timestamptz FROM attempt
 WHERE sha256(request) <> request_hash
"""
KEY_DERIVED = """
SELECT a.invoice_id || ':' || a.ordinal, $1::timestamptz FROM attempt a
 WHERE a.idempotency_key <> 'b1:' || (SELECT installation_id FROM control) || ':'
       || encode(sha256(convert_to(a.invoice_id || ':' || a.ordinal, 'UTF8')), 'hex')
"""
ROWS_HAVE_PARENTS = """
SELECT i.invoice_id::text, $1::timestamptz
  FROM invoice i LEFT JOIN subscription s USING (subscription_id) WHERE s.subscription_id IS NULL
UNION ALL
SELECT l.invoice_id::text, $1
  FROM invoice_line l LEFT JOIN invoice i USING (invoice_id) WHERE i.invoice_id IS NULL
UNION ALL
SELECT a.invoice_id || ':' || a.ordinal, $1
  FROM attempt a LEFT JOIN invoice i USING (invoice_id) WHERE i.invoice_id IS NULL
"""
ORDINALS_GAPLESS = """
SELECT invoice_id::text, $1::timestamptz FROM attempt
 GROUP BY invoice_id HAVING max(ordinal) <> count(*)
"""
RENEWAL_NOT_FORGOTTEN = """
SELECT s.subscription_id, $1::timestamptz FROM subscription s
 WHERE s.status NOT IN ('paused', 'canceled', 'expired') AND s.next_renewal_at IS NULL
   AND NOT EXISTS (SELECT FROM invoice i
                    WHERE i.subscription_id = s.subscription_id AND i.status = 'open')
   AND NOT EXISTS (SELECT FROM parked p WHERE p.subscription_id = s.subscription_id)
"""
RENEWAL_ON_TIME = """
SELECT s.subscription_id, s.next_renewal_at FROM subscription s
 WHERE s.next_renewal_at < $1::timestamptz - interval '1 hour'
   AND (s.cancel_at IS NULL OR s.cancel_at > s.next_renewal_at)
   -- A period that was held by an unpaid invoice is due when that one is paid, however old it is.
   AND NOT EXISTS (SELECT FROM invoice i
                    WHERE i.subscription_id = s.subscription_id
                      AND i.paid_at > $1::timestamptz - interval '1 hour')
   AND NOT EXISTS (
    SELECT FROM charging_pause p
     WHERE p.scope = 'global' OR (p.scope, p.scope_id) IN
           (('gateway', s.gateway), ('seller', s.seller_id), ('plan', s.plan_id)))
"""
RETRY_ON_TIME = """
SELECT i.invoice_id::text, i.attempt_due_at FROM invoice i JOIN subscription s USING (subscription_id)
 WHERE i.attempt_due_at < $1::timestamptz - interval '1 hour'
   AND NOT EXISTS (
    SELECT FROM charging_pause p
     WHERE p.scope = 'global' OR (p.scope, p.scope_id) IN
           (('gateway', i.gateway), ('seller', i.seller_id), ('plan', s.plan_id)))
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
PAYMENT_WAS_TOLD = """
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
FAILURE_WAS_TOLD = """
WITH resolved AS (
    SELECT a.invoice_id || ':' || a.ordinal AS subject,
           -- A void one without a charge never happened; after the end there is nobody to tell.
           (a.state = 'declined'
            OR (a.state = 'void' AND a.gateway_ref IS NOT NULL AND a.needs_human IS NULL))
           AND (s.ended_at IS NULL OR a.resolved_at < s.ended_at) AS has_to_be_told
      FROM attempt a JOIN subscription s USING (subscription_id)
     WHERE a.resolved_at IS NOT NULL
), told AS (
    SELECT (body::jsonb #>> '{data,invoice_id}') || ':' || (body::jsonb #>> '{data,attempt}') AS subject,
           count(*) AS times
      FROM outbox_event
     -- A resend has no subscription; a failure for want of a method has no attempt.
     WHERE type = 'billing.payment.failed' AND subscription_id IS NOT NULL
       AND body::jsonb #>> '{data,attempt}' IS NOT NULL
     GROUP BY 1
)
SELECT coalesce(r.subject, t.subject), $1::timestamptz
  FROM resolved r FULL JOIN told t ON t.subject = r.subject
 WHERE r.subject IS NULL OR t.times > 1 OR (r.has_to_be_told AND t.times IS NULL)
"""
OUTBOX_FLOWS = """
SELECT position::text, created_at FROM outbox_pending JOIN outbox_event USING (slot, position)
 WHERE created_at < clock_timestamp() - interval '5 minutes'
   AND $1::timestamptz IS NOT NULL
"""
TRANSITIONS_CHAIN = """
WITH moves AS (
    SELECT machine, subject, from_state, to_state, lag(to_state) OVER story AS last_state,
           lead(to_state) OVER story IS NULL AS is_last
      FROM transition
    WINDOW story AS (PARTITION BY subscription_id, machine, subject ORDER BY position)
), stands AS (
    SELECT 'subscription' AS machine, subscription_id AS subject, status AS state, NULL AS first_state
      FROM subscription
     UNION ALL
    SELECT 'invoice', invoice_id::text, status, 'open' FROM invoice
     UNION ALL
    SELECT 'attempt', invoice_id || ':' || ordinal, state, 'sent' FROM attempt
)
SELECT m.subject, $1::timestamptz FROM moves m LEFT JOIN stands s USING (machine, subject)
 WHERE m.from_state <> coalesce(m.last_state, s.first_state)
    OR (m.last_state IS NULL AND m.machine = 'subscription'
        AND m.from_state NOT IN ('pending', 'trialing', 'active'))
 UNION
SELECT s.subject, $1
  FROM stands s LEFT JOIN moves m
    ON m.machine = s.machine AND m.subject = s.subject AND m.is_last
 WHERE s.state <> coalesce(m.to_state, s.first_state)
"""
_MACHINES: Mapping[str, Mapping[Any, frozenset[Any]]] = {
    "subscription": SUBSCRIPTION_TRANSITIONS,
    "invoice": INVOICE_TRANSITIONS,
    "attempt": ATTEMPT_TRANSITIONS,
}
_LEGAL_MOVES = ", ".join(
    f"('{machine}', '{before}', '{after}')"
    for machine, table in _MACHINES.items()
    for before, afters in table.items()
    for after in sorted(afters)
)
TRANSITIONS_LEGAL = f"""
SELECT subject, $1::timestamptz FROM transition
 WHERE (machine, from_state, to_state) NOT IN (VALUES {_LEGAL_MOVES})
"""  # noqa: S608 - made of the tables of billing/lifecycle.py
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
 WHERE n.kind = 'upcoming_renewal' AND n.state = 'sent' AND $1::timestamptz IS NOT NULL
   -- A mail is on its way for minutes before it is known to be sent.
   AND n.settled_at - interval '1 hour' > least(s.ended_at, (n.context ->> 'renewal_at')::timestamptz)
"""
LEDGER_ONE_CHARGE = """
SELECT reference, $1::timestamptz FROM gateway_charge
 WHERE status = 'succeeded' AND amount_refunded_minor < amount_minor
 GROUP BY gateway, reference HAVING count(*) > 1
"""
LEDGER_NO_FOREIGN = """
SELECT g.gateway_ref, $1::timestamptz
  FROM gateway_charge g LEFT JOIN attempt a USING (idempotency_key)
 WHERE a.invoice_id IS NULL
   AND g.idempotency_key LIKE 'b1:' || (SELECT installation_id FROM control) || ':%'
"""
LEDGER_HAS_SUCCESS = """
SELECT a.invoice_id || ':' || a.ordinal, a.resolved_at
  FROM attempt a LEFT JOIN gateway_charge g
    ON g.gateway = a.gateway AND g.idempotency_key = a.idempotency_key AND g.status = 'succeeded'
 -- A ledger may be behind by as much as look-ups may.
 WHERE a.state = 'succeeded' AND a.resolved_at < $1::timestamptz - interval '15 minutes'
   AND (g.gateway_ref IS NULL OR (g.amount_minor, g.currency) <> (a.amount_minor, a.currency))
"""
LEDGER_NO_LOST = """
SELECT g.gateway_ref, g.created_at
  FROM gateway_charge g JOIN attempt a USING (idempotency_key)
 WHERE g.status = 'succeeded' AND a.state <> 'succeeded'
   AND g.created_at < $1::timestamptz - interval '15 minutes'
"""


FOR_WHOLE_TABLES = "SET LOCAL enable_nestloop = off; SET LOCAL statement_timeout = 0"
"""Every row is compared with every row: fresh tables without statistics tempt the planner to loop."""

LONGEST_SECONDS = 3600.0


async def take_your_time(conn: Connection) -> None:
    """Let the statements of this transaction read whole tables."""
    await conn.execute(FOR_WHOLE_TABLES)


async def count(
    conn: Connection, statement: str, *, now: datetime, sample: int
) -> tuple[int, list[str]]:
    """How many rows break an invariant, and the names of the first few."""
    rows = await conn.fetch(statement, now, timeout=LONGEST_SECONDS)
    return len(rows), [row[0] for row in rows[:sample]]

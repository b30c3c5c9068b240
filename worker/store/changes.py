"""Writes of the charge path: invoices, attempts and what rules changed, one statement a table.

All rows of a batch go in one statement on arrays; the caller holds the subscriptions' locks.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from billing.calendar import Period
from billing.facts import Attempt, Invoice, Subscription
from billing.pricing import Line
from worker import limits
from worker.db import Connection

INSERT_INVOICES = """
INSERT INTO invoice (invoice_id, subscription_id, seller_id, customer_id, period_index, period_start,
                     period_end, amount_minor, currency, tax_minor, due_at, gateway, status,
                     created_at)
SELECT t.*, t.period_start, $11, 'open', $12
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int[], $6::timestamptz[],
              $7::timestamptz[], $8::bigint[], $9::text[], $10::bigint[])
    AS t (invoice_id, subscription_id, seller_id, customer_id, period_index, period_start,
          period_end, amount_minor, currency, tax_minor)
ON CONFLICT DO NOTHING
RETURNING invoice_id
"""
INSERT_LINES = """
INSERT INTO invoice_line (invoice_id, position, description, quantity, unit_amount_minor,
                          amount_minor)
SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::int[], $5::bigint[], $6::bigint[])
"""
INSERT_ATTEMPTS = """
INSERT INTO attempt (invoice_id, ordinal, subscription_id, source, gateway, payment_method_id,
                     amount_minor, currency, idempotency_key, request, request_hash,
                     state, fence, claimed_at, sent_at, check_due_at, send_deadline, retake_at)
SELECT t.*, 'sent', $12, $13, $13, $13, clock_timestamp() + make_interval(secs => $14),
       clock_timestamp() + make_interval(secs => $15)
  FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
              $8::text[], $9::text[], $10::bytea[], $11::bytea[]) AS t
"""
WRITE_SUBSCRIPTIONS = """
UPDATE subscription s
   SET status = t.status, next_period = t.next_period,
       current_period_start = t.current_period_start, current_period_end = t.current_period_end,
       next_renewal_at = t.next_renewal_at, access_ends_at = t.access_ends_at,
       cancel_at = t.cancel_at, cancel_origin = t.cancel_origin, cancel_reason = t.cancel_reason,
       ended_at = t.ended_at, sequence = t.sequence, claimed_until = NULL, claims = 0
  FROM unnest($1::text[], $2::text[], $3::int[], $4::timestamptz[], $5::timestamptz[],
              $6::timestamptz[], $7::timestamptz[], $8::timestamptz[], $9::text[], $10::text[],
              $11::timestamptz[], $12::bigint[])
    AS t (subscription_id, status, next_period, current_period_start, current_period_end,
          next_renewal_at, access_ends_at, cancel_at, cancel_origin, cancel_reason, ended_at,
          sequence)
 WHERE s.subscription_id = t.subscription_id
"""
WRITE_INVOICES = """
UPDATE invoice i
   SET status = t.status, retry_policy = t.retry_policy, first_declined_at = t.first_declined_at,
       dunning_ends_at = t.dunning_ends_at, attempt_due_at = t.attempt_due_at,
       attempt_source = t.attempt_source, requested_source = t.requested_source,
       hold_reason = t.hold_reason, paid_at = t.paid_at, closed_at = t.closed_at,
       recovered_by = t.recovered_by, gateway = t.gateway, claimed_until = NULL, claims = 0
  FROM unnest($1::uuid[], $2::text[], $3::jsonb[], $4::timestamptz[], $5::timestamptz[],
              $6::timestamptz[], $7::text[], $8::text[], $9::text[], $10::timestamptz[],
              $11::timestamptz[], $12::text[], $13::text[])
    AS t (invoice_id, status, retry_policy, first_declined_at, dunning_ends_at, attempt_due_at,
          attempt_source, requested_source, hold_reason, paid_at, closed_at, recovered_by, gateway)
 WHERE i.invoice_id = t.invoice_id
"""
WRITE_ATTEMPTS = """
UPDATE attempt a
   SET state = t.state, check_due_at = t.check_due_at, checks = t.checks, answered = t.answered,
       replayed = t.replayed, not_found_at = t.not_found_at, gateway_ref = t.gateway_ref,
       decline_code = t.decline_code, decline_class = t.decline_class,
       network_code = t.network_code, advice_code = t.advice_code, action = t.action,
       raw_outcome = t.raw_outcome, needs_human = t.needs_human, resolved_at = t.resolved_at,
       retake_at = clock_timestamp() + make_interval(secs => t.wait_seconds)
  FROM unnest($1::uuid[], $2::int[], $3::text[], $4::timestamptz[], $5::int[], $6::boolean[],
              $7::boolean[], $8::timestamptz[], $9::text[], $10::text[], $11::text[], $12::text[],
              $13::text[], $14::jsonb[], $15::text[], $16::text[], $17::timestamptz[], $18::int[])
    AS t (invoice_id, ordinal, state, check_due_at, checks, answered, replayed, not_found_at,
          gateway_ref, decline_code, decline_class, network_code, advice_code, action, raw_outcome,
          needs_human, resolved_at, wait_seconds)
 WHERE a.invoice_id = t.invoice_id AND a.ordinal = t.ordinal
"""
INSERT_SKIPS = """
INSERT INTO period_skip (subscription_id, period_index, period_start, period_end, reason, at)
SELECT t.*, $5, $6
  FROM unnest($1::text[], $2::int[], $3::timestamptz[], $4::timestamptz[]) AS t
ON CONFLICT DO NOTHING
"""
MARK_HARD_DECLINED = """
UPDATE payment_method m SET hard_declined_at = $3, hard_decline_code = t.code
  FROM unnest($1::text[], $2::text[], $4::timestamptz[]) AS t (payment_method_id, code, claimed_at)
 WHERE m.payment_method_id = t.payment_method_id AND m.hard_declined_at IS NULL
   AND (m.changed_at IS NULL OR m.changed_at <= t.claimed_at)
"""


class NewAttempt(NamedTuple):
    """A row of `attempt` before it is committed; the fields of INSERT_ATTEMPTS in its order."""

    invoice_id: UUID
    ordinal: int
    subscription_id: str
    source: str
    gateway: str
    payment_method_id: str
    amount_minor: int
    currency: str
    idempotency_key: str
    request: bytes
    request_hash: bytes


async def insert_invoices(
    conn: Connection,
    opened: Sequence[tuple[Subscription, Invoice]],
    *,
    gateway: str,
    now: datetime,
) -> set[UUID]:
    """Insert open invoices of one gateway and return the ids that were new; others are left alone."""
    rows = [
        (
            invoice.invoice_id,
            invoice.subscription_id,
            subscription.seller_id,
            subscription.customer_id,
            invoice.period_index,
            invoice.period_start,
            invoice.period_end,
            invoice.amount_minor,
            invoice.currency,
            invoice.tax_minor,
        )
        for subscription, invoice in opened
    ]
    inserted = await conn.fetch(INSERT_INVOICES, *columns(rows, 10), gateway, now)
    return {row["invoice_id"] for row in inserted}


async def insert_lines(conn: Connection, lines: Sequence[tuple[UUID, int, Line]]) -> None:
    """Insert the lines of new invoices: (invoice id, position, line)."""
    rows = [
        (id_, n, line.description, line.quantity, line.unit_amount_minor, line.amount_minor)
        for id_, n, line in lines
    ]
    await conn.execute(INSERT_LINES, *columns(rows, 6))


async def insert_attempts(
    conn: Connection,
    attempts: Sequence[NewAttempt],
    *,
    fence: UUID,
    now: datetime,
    unsettled_seconds: float,
) -> None:
    """Insert attempts as `sent`; a second live one of an invoice fails on `attempt_one_live`.

    After the send window (machine time) no byte may leave; after `unsettled_seconds` the reconciler
    may take the attempt over.
    """
    arrays = columns(attempts, 11)
    window = limits.SEND_WINDOW_SECONDS
    await conn.execute(INSERT_ATTEMPTS, *arrays, fence, now, window, unsettled_seconds)


async def write_subscriptions(conn: Connection, rows: Sequence[Subscription]) -> None:
    """Write what rules may change, and give the claim back."""
    values = [
        (
            s.subscription_id,
            s.status,
            s.next_period,
            s.current_period_start,
            s.current_period_end,
            s.next_renewal_at,
            s.access_ends_at,
            s.cancel_at,
            s.cancel_origin,
            s.cancel_reason,
            s.ended_at,
            s.sequence,
        )
        for s in rows
    ]
    if values:
        await conn.execute(WRITE_SUBSCRIPTIONS, *columns(values, 12))


async def write_invoices(conn: Connection, rows: Sequence[Invoice]) -> None:
    """Write what rules may change, and give the claim back."""
    values = [
        (
            i.invoice_id,
            i.status,
            i.retry_policy,
            i.first_declined_at,
            i.dunning_ends_at,
            i.attempt_due_at,
            i.attempt_source,
            i.requested_source,
            i.hold_reason,
            i.paid_at,
            i.closed_at,
            i.recovered_by,
            i.gateway,
        )
        for i in rows
    ]
    if values:
        await conn.execute(WRITE_INVOICES, *columns(values, 13))


async def write_attempts(conn: Connection, rows: Sequence[tuple[Attempt, int]]) -> None:
    """Write what was learned of attempts; each is left alone for so many seconds (machine time)."""
    values = [
        (
            a.invoice_id,
            a.ordinal,
            a.state,
            a.check_due_at,
            a.checks,
            a.answered,
            a.replayed,
            a.not_found_at,
            a.gateway_ref,
            a.decline_code,
            a.decline_class,
            a.network_code,
            a.advice_code,
            a.action,
            a.raw_outcome,
            a.needs_human,
            a.resolved_at,
            wait_seconds,
        )
        for a, wait_seconds in rows
    ]
    if values:
        await conn.execute(WRITE_ATTEMPTS, *columns(values, 18))


async def insert_skips(
    conn: Connection, skips: Sequence[tuple[str, Period]], *, reason: str, now: datetime
) -> None:
    """Record periods that are never invoiced, so that every gap between invoices has its reason."""
    rows = [(id_, skip.index, skip.start_at, skip.end_at) for id_, skip in skips]
    if rows:
        await conn.execute(INSERT_SKIPS, *columns(rows, 4), reason, now)


async def mark_hard_declined(
    conn: Connection, methods: Sequence[tuple[str, str, datetime]], *, now: datetime
) -> None:
    """Never again with these methods: (payment method id, decline code, when it was charged).

    One whose details changed after that is another card by now.
    """
    if methods:
        ids, codes, charged_at = columns(methods, 3)
        await conn.execute(MARK_HARD_DECLINED, ids, codes, now, charged_at)


def columns(rows: Sequence[Sequence[object]], width: int) -> list[list[object]]:
    """Rows as one list per column, `width` empty ones if there are no rows."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]

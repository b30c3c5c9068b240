"""Locks and reads: the rows that rules are asked about, in two statements on purpose.

The lock comes first and alone: a statement that waits for a lock keeps the snapshot from before, so
what it joins may be older than the row that it locked. What is read after is what is true.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from uuid import UUID

from billing.consequences import past_attempt
from billing.dunning import PastAttempt
from billing.facts import Attempt, Invoice, Subscription
from billing.lifecycle import AttemptState, InvoiceStatus, SubscriptionStatus
from worker.db import Connection

LOCK_SUBSCRIPTIONS = """
SELECT subscription_id FROM subscription WHERE subscription_id = ANY($1::text[])
 ORDER BY subscription_id FOR UPDATE
"""
READ_SUBSCRIPTIONS = """
SELECT s.subscription_id, s.seller_id, s.customer_id, s.plan_id, s.payment_method_id, s.gateway,
       s.quantity, s.status, s.zone, s.anchor_local, s.anchor_day, s.odd_start_at, s.next_period,
       s.current_period_start, s.current_period_end, s.next_renewal_at, s.access_ends_at,
       s.cancel_at, s.cancel_origin, s.cancel_reason, s.ended_at, s.sequence, s.claims,
       p.name, p.interval_unit, p.interval_count, p.cycles, p.retry_policy, p.reminders,
       p.catch_up_periods, p.while_past_due, p.ceiling_minor, p.proration,
       v.model, v.currency, v.unit_amount_minor, v.tax_minor,
       m.token, m.gateway, m.removed_at, m.hard_declined_at, m.changed_at,
       r.statement_descriptor, c.segments
  FROM subscription s
  JOIN plan p USING (plan_id)
  JOIN price_version v ON v.plan_id = s.plan_id AND v.version = s.price_version
  JOIN payment_method m ON m.payment_method_id = s.payment_method_id
  JOIN seller r ON r.seller_id = s.seller_id
  JOIN customer c ON c.customer_id = s.customer_id
 WHERE s.subscription_id = ANY($1::text[])
"""
_INVOICE = """
SELECT invoice_id, subscription_id, period_index, period_start, period_end, amount_minor, currency,
       tax_minor, status, gateway, due_at, created_at, retry_policy, first_declined_at,
       dunning_ends_at, attempt_due_at, attempt_source, requested_source, hold_reason, paid_at,
       closed_at, recovered_by, claims
  FROM invoice
"""
READ_INVOICES = _INVOICE + "WHERE invoice_id = ANY($1::uuid[])"
READ_OPEN_INVOICES = (
    _INVOICE + "WHERE subscription_id = ANY($1::text[]) AND status = 'open' ORDER BY period_index"
)
SUBSCRIPTIONS_OF_INVOICES = """
SELECT DISTINCT subscription_id FROM invoice WHERE invoice_id = ANY($1::uuid[])
"""
_ATTEMPT = """
SELECT a.invoice_id, a.ordinal, a.subscription_id, a.source, a.state, a.gateway,
       a.payment_method_id, a.amount_minor, a.currency, a.idempotency_key, a.request, a.claimed_at,
       a.sent_at, a.check_due_at, a.checks, a.answered, a.replayed, a.not_found_at, a.gateway_ref,
       a.decline_code, a.decline_class, a.network_code, a.advice_code, a.action, a.raw_outcome,
       a.needs_human, a.resolved_at
  FROM attempt a
"""
READ_ATTEMPTS = (
    _ATTEMPT + "JOIN unnest($1::uuid[], $2::int[]) AS t (invoice_id, ordinal) "
    "USING (invoice_id, ordinal)"
)
READ_HISTORY = _ATTEMPT + "WHERE a.invoice_id = ANY($1::uuid[]) ORDER BY a.ordinal"
READ_FENCED = """
SELECT invoice_id, ordinal FROM attempt
 WHERE invoice_id = ANY($1::uuid[]) AND fence = $2 AND state = 'sent'
"""


async def lock_subscriptions(conn: Connection, ids: Collection[str]) -> dict[str, Subscription]:
    """Lock the rows in id order and read them; unknown ids are left out."""
    wanted = sorted(set(ids))
    await lock(conn, wanted)
    return await read_subscriptions(conn, wanted)


async def lock(conn: Connection, ids: Collection[str]) -> None:
    """Lock the rows in id order."""
    await conn.execute(LOCK_SUBSCRIPTIONS, list(ids))


async def read_subscriptions(conn: Connection, ids: Sequence[str]) -> dict[str, Subscription]:
    """The same without locking, for those who only look."""
    rows = await conn.fetch(READ_SUBSCRIPTIONS, ids)
    return {row[0]: _subscription(tuple(row)) for row in rows}


async def read_invoices(conn: Connection, ids: Collection[UUID]) -> dict[UUID, Invoice]:
    """Invoices by id; unknown ids are left out."""
    rows = await conn.fetch(READ_INVOICES, list(ids))
    return {row[0]: _invoice(tuple(row)) for row in rows}


async def read_open_invoices(conn: Connection, ids: Collection[str]) -> dict[str, list[Invoice]]:
    """The open invoices of these subscriptions, oldest period first."""
    found = defaultdict(list)
    for row in await conn.fetch(READ_OPEN_INVOICES, list(ids)):
        found[row["subscription_id"]].append(_invoice(tuple(row)))
    return dict(found)


async def subscriptions_of_invoices(conn: Connection, ids: Collection[UUID]) -> list[str]:
    """Whose these invoices are: what has to be locked before they are looked at."""
    rows = await conn.fetch(SUBSCRIPTIONS_OF_INVOICES, list(ids))
    return [row["subscription_id"] for row in rows]


async def read_attempts(
    conn: Connection, keys: Collection[tuple[UUID, int]]
) -> dict[tuple[UUID, int], Attempt]:
    """Attempts by (invoice id, ordinal)."""
    rows = await conn.fetch(READ_ATTEMPTS, [key[0] for key in keys], [key[1] for key in keys])
    return {(row[0], row[1]): _attempt(tuple(row)) for row in rows}


async def read_history(
    conn: Connection, invoice_ids: Collection[UUID]
) -> dict[UUID, list[Attempt]]:
    """Every attempt of these invoices, in order; an invoice without attempts has an empty list."""
    history: dict[UUID, list[Attempt]] = {invoice_id: [] for invoice_id in invoice_ids}
    for row in await conn.fetch(READ_HISTORY, list(history)):
        history[row[0]].append(_attempt(tuple(row)))
    return history


async def read_fenced(
    conn: Connection, invoice_ids: Collection[UUID], fence: UUID
) -> set[tuple[UUID, int]]:
    """What a transaction with this fence committed: asked when its commit had no answer."""
    rows = await conn.fetch(READ_FENCED, list(invoice_ids), fence)
    return {(row["invoice_id"], row["ordinal"]) for row in rows}


def past(history: Sequence[Attempt], *, before: int | None = None) -> list[PastAttempt]:
    """Attempts as the dunning rules see them, those before an ordinal only if it is given."""
    return [past_attempt(a) for a in history if before is None or a.ordinal < before]


def _subscription(row: tuple[object, ...]) -> Subscription:
    subscription = Subscription(*row)  # type: ignore[arg-type]
    subscription.status = SubscriptionStatus(subscription.status)
    return subscription


def _invoice(row: tuple[object, ...]) -> Invoice:
    invoice = Invoice(*row)  # type: ignore[arg-type]
    invoice.status = InvoiceStatus(invoice.status)
    return invoice


def _attempt(row: tuple[object, ...]) -> Attempt:
    attempt = Attempt(*row)  # type: ignore[arg-type]
    attempt.state = AttemptState(attempt.state)
    return attempt

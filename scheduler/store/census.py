"""SQL of the census: each statement reads only what is open, due, waiting or unpublished."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from worker.db import Connection

SUBSCRIPTIONS = "SELECT status, count(*) FROM subscription GROUP BY status"
PAST_DUE = """
SELECT currency, count(*), sum(amount_minor)::bigint
  FROM invoice WHERE status = 'open' AND first_declined_at IS NOT NULL GROUP BY currency
"""
UNSETTLED = """
SELECT state, count(*), greatest(extract(epoch FROM $1::timestamptz - min(claimed_at)), 0)::float8
  FROM attempt
 WHERE state IN ('sent', 'unknown', 'pending', 'action_required') GROUP BY state
"""
DUE_LAGS = """
SELECT sweep, greatest(extract(epoch FROM $1::timestamptz - due_at), 0)::float8
  FROM (
    SELECT 'renewals', min(next_renewal_at) FROM subscription
     WHERE next_renewal_at <= $1
       AND (claimed_until IS NULL OR claimed_until <= clock_timestamp())
    UNION ALL
    SELECT 'collections', min(attempt_due_at) FROM invoice
     WHERE attempt_due_at <= $1
       AND (claimed_until IS NULL OR claimed_until <= clock_timestamp())
    UNION ALL
    SELECT 'unsettled', min(check_due_at) FROM attempt
     WHERE state IN ('sent', 'unknown', 'pending', 'action_required') AND check_due_at <= $1
       AND retake_at <= clock_timestamp()
    UNION ALL
    SELECT 'cancels', min(cancel_at) FROM subscription WHERE cancel_at <= $1
    UNION ALL
    SELECT 'grace', min(access_ends_at) FROM subscription WHERE access_ends_at <= $1
    UNION ALL
    SELECT 'notices', min(send_at) FROM notice WHERE state = 'scheduled' AND send_at <= $1
    UNION ALL
    SELECT 'waiting', min(expires_at) FROM rejected_event
     WHERE state = 'waiting' AND expires_at <= $1
  ) AS lag (sweep, due_at)
"""
REJECTED = "SELECT state, count(*) FROM rejected_event WHERE state <> 'applied' GROUP BY state"
SINGLE_FIGURES = """
SELECT (SELECT count(*) FROM parked)
       + (SELECT count(*) FROM attempt WHERE needs_human IS NOT NULL),
       (SELECT count(*) FROM charging_pause),
       coalesce((SELECT extract(epoch FROM clock_timestamp() - min(created_at))::float8
                   FROM outbox_pending JOIN outbox_event USING (slot, position)), 0)
"""


class PastDue(NamedTuple):
    """Open invoices in dunning, of one currency."""

    invoices: int
    amount_minor: int


class Unsettled(NamedTuple):
    """Attempts without a final word, in one state; the age is business time."""

    attempts: int
    oldest_seconds: float


class SingleFigures(NamedTuple):
    """Parked rows, kill switches that are on, and the age of the oldest unpublished message."""

    parked: int
    pauses: int
    outbox_age_seconds: float


async def subscriptions(conn: Connection) -> Mapping[str, float]:
    """Subscriptions by status."""
    return {row[0]: row[1] for row in await conn.fetch(SUBSCRIPTIONS)}


async def past_due(conn: Connection) -> Mapping[str, PastDue]:
    """Open invoices in dunning by currency."""
    return {row[0]: PastDue(row[1], row[2]) for row in await conn.fetch(PAST_DUE)}


async def unsettled(conn: Connection, now: datetime) -> Mapping[str, Unsettled]:
    """Attempts without a final word by state."""
    return {row[0]: Unsettled(row[1], row[2]) for row in await conn.fetch(UNSETTLED, now)}


async def due_lags(conn: Connection, now: datetime) -> Mapping[str, float]:
    """Now minus the due time of the oldest row that nobody has claimed, by sweep; 0 if none is due."""
    return {row[0]: row[1] or 0.0 for row in await conn.fetch(DUE_LAGS, now)}


async def rejected(conn: Connection) -> Mapping[str, float]:
    """Platform messages without effect by state."""
    return {row[0]: row[1] for row in await conn.fetch(REJECTED)}


async def single_figures(conn: Connection) -> SingleFigures:
    """The figures without a label."""
    row = await conn.fetchrow(SINGLE_FIGURES)
    assert row is not None, "a SELECT without FROM has one row"
    return SingleFigures(row[0], row[1], row[2])

"""New subscriptions, and which method an existing one is charged with."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from billing.facts import Subscription
from worker.db import Connection
from worker.store.changes import columns

OF_METHODS = """
SELECT subscription_id FROM subscription
 WHERE payment_method_id = ANY($1::text[]) AND status NOT IN ('canceled', 'expired')
"""
OF_CUSTOMERS = """
SELECT subscription_id FROM subscription
 WHERE customer_id = ANY($1::text[]) AND status NOT IN ('canceled', 'expired')
"""
INSERT = """
INSERT INTO subscription (subscription_id, seller_id, customer_id, plan_id, payment_method_id,
                          gateway, quantity, status, zone, anchor_local, anchor_day, odd_start_at,
                          next_period, current_period_start, current_period_end, next_renewal_at,
                          cancel_at, cancel_origin, cancel_reason, ended_at, sequence,
                          price_version, created_at, extra)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                     $7::int[], $8::text[], $9::text[], $10::timestamp[], $11::smallint[],
                     $12::timestamptz[], $13::int[], $14::timestamptz[], $15::timestamptz[],
                     $16::timestamptz[], $17::timestamptz[], $18::text[], $19::text[],
                     $20::timestamptz[], $21::bigint[], $22::int[], $23::timestamptz[],
                     $24::jsonb[])
"""
POINT = """
UPDATE subscription s SET payment_method_id = t.payment_method_id, gateway = t.gateway
  FROM unnest($1::text[], $2::text[], $3::text[])
    AS t (subscription_id, payment_method_id, gateway)
 WHERE s.subscription_id = t.subscription_id
"""
RESEND = """
WITH again AS (
    INSERT INTO outbox_event (slot, type, body)
    SELECT slot, type, body FROM outbox_event
     WHERE subscription_id = $1 AND sequence >= $2 ORDER BY sequence
    RETURNING slot, position
)
INSERT INTO outbox_pending (slot, position) SELECT slot, position FROM again
"""


class Signup(NamedTuple):
    """A subscription that is not in the database yet."""

    subscription: Subscription
    price_version: int
    created_at: datetime
    extra: dict[str, Any]


async def of_methods(conn: Connection, ids: Collection[str]) -> list[str]:
    """The living subscriptions that are charged with one of these methods."""
    if not ids:
        return []
    return [row["subscription_id"] for row in await conn.fetch(OF_METHODS, list(ids))]


async def of_customers(conn: Connection, ids: Collection[str]) -> list[str]:
    """The living subscriptions of these customers."""
    if not ids:
        return []
    return [row["subscription_id"] for row in await conn.fetch(OF_CUSTOMERS, list(ids))]


async def insert(conn: Connection, signups: Sequence[Signup]) -> None:
    """Insert subscriptions; a second one of an id fails on `subscription_pkey`."""
    if not signups:
        return
    rows = [
        (
            s.subscription_id,
            s.seller_id,
            s.customer_id,
            s.plan_id,
            s.payment_method_id,
            s.gateway,
            s.quantity,
            s.status,
            s.zone,
            s.anchor_local,
            s.anchor_day,
            s.odd_start_at,
            s.next_period,
            s.current_period_start,
            s.current_period_end,
            s.next_renewal_at,
            s.cancel_at,
            s.cancel_origin,
            s.cancel_reason,
            s.ended_at,
            s.sequence,
            signup.price_version,
            signup.created_at,
            signup.extra,
        )
        for signup in signups
        for s in [signup.subscription]
    ]
    await conn.execute(INSERT, *columns(rows, 24))


async def point(conn: Connection, subscriptions: Sequence[Subscription]) -> None:
    """Write the method and the gateway of these subscriptions."""
    if subscriptions:
        rows = [(s.subscription_id, s.payment_method_id, s.gateway) for s in subscriptions]
        await conn.execute(POINT, *columns(rows, 3))


async def resend(conn: Connection, subscription_id: str, *, from_sequence: int) -> None:
    """Put the stored messages of a subscription into the outbox again, with the ids they had."""
    await conn.execute(RESEND, subscription_id, from_sequence)

"""Rows to test with: a seller, a plan, and subscriptions with their customers and methods."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from worker.db import Connection

NOW = datetime(2026, 3, 10, 10, 0, tzinfo=UTC)

SELLER = "INSERT INTO seller (seller_id, name, locale) VALUES ('school', $1, NULL)"
PLAN = """
INSERT INTO plan (plan_id, seller_id, product_id, name, interval_unit, interval_count, currency,
                  price_version)
VALUES ('piano', 'school', 'piano', $1, 'month', 1, $2, 1)
"""
PRICE = """
INSERT INTO price_version (plan_id, version, model, currency, unit_amount_minor)
VALUES ('piano', 1, 'flat', $1, $2)
"""
CUSTOMER = """
INSERT INTO customer (customer_id, email, name, locale, timezone)
SELECT 'cus_' || id, coalesce($2, id || '@example.org'), $3, $4, $5 FROM unnest($1::text[]) AS id
"""
METHOD = """
INSERT INTO payment_method (payment_method_id, customer_id, gateway, token, kind, brand, attached_at)
SELECT 'pm_' || id, 'cus_' || id, 'sandbox', 'tok', 'card', 'visa', $2 FROM unnest($1::text[]) AS id
"""
SUBSCRIPTION = """
INSERT INTO subscription (subscription_id, seller_id, customer_id, plan_id, price_version,
    payment_method_id, gateway, status, zone, anchor_local, anchor_day, next_period,
    current_period_start, current_period_end, next_renewal_at, cancel_at, cancel_origin, ended_at,
    created_at)
SELECT id, 'school', 'cus_' || id, 'piano', 1, 'pm_' || id, 'sandbox', $2, 'Europe/Berlin', $3, $4,
       1, $5, $6, $7, $8, CASE WHEN $8::timestamptz IS NOT NULL THEN 'customer' END,
       CASE WHEN $2 IN ('canceled', 'expired') THEN $5::timestamptz END, $5
  FROM unnest($1::text[]) AS id
"""
INVOICE = """
INSERT INTO invoice (invoice_id, subscription_id, seller_id, customer_id, period_index,
    period_start, period_end, amount_minor, currency, status, gateway, due_at, created_at,
    retry_policy, first_declined_at, dunning_ends_at, attempt_due_at, attempt_source, paid_at)
VALUES ($1, $2, 'school', 'cus_' || $2, 0, $3, $4, 4990, 'EUR', $5, 'sandbox', $3, $3, '{}', $3, $6,
        $7, CASE WHEN $7::timestamptz IS NOT NULL THEN 'retry' END,
        CASE WHEN $5 = 'paid' THEN $3::timestamptz END)
"""


@dataclass(frozen=True, slots=True)
class Person:
    """How the customers of `add_subscriptions` differ from the plainest ones."""

    email: str | None = None
    name: str | None = "Ana Souza"
    locale: str | None = None
    timezone: str | None = None


async def add_school(
    conn: Connection,
    *,
    seller: str = "Northwind Academy",
    plan: str = "Piano from Zero",
    currency: str = "EUR",
    price_minor: int = 4990,
) -> None:
    """The seller and the plan that all subscriptions here have."""
    async with conn.transaction():
        await conn.execute(SELLER, seller)
        await conn.execute(PLAN, plan, currency)
        await conn.execute(PRICE, currency, price_minor)


async def add_subscriptions(
    conn: Connection,
    *ids: str,
    status: str = "active",
    renewal_at: datetime | None = NOW + timedelta(days=7),
    cancel_at: datetime | None = None,
    person: Person | None = None,
) -> None:
    """Monthly subscriptions whose current period ends at `renewal_at`."""
    who = person or Person()
    end_at = renewal_at or NOW + timedelta(days=7)
    anchor = datetime(2026, 2, end_at.day, end_at.hour + 1)  # noqa: DTZ001 - a civil time
    await conn.execute(CUSTOMER, ids, who.email, who.name, who.locale, who.timezone)
    await conn.execute(METHOD, ids, NOW)
    values: tuple[Any, ...] = (ids, status, anchor, end_at.day, NOW - timedelta(days=21), end_at)
    await conn.execute(SUBSCRIPTION, *values, renewal_at, cancel_at)


async def add_invoice(
    conn: Connection,
    subscription_id: str,
    *,
    status: str = "open",
    dunning_ends_at: datetime = NOW + timedelta(days=28),
    attempt_due_at: datetime | None = None,
) -> UUID:
    """An invoice whose first attempt was declined now."""
    invoice_id = uuid4()
    period_end = NOW + timedelta(days=31)
    await conn.execute(
        INVOICE,
        invoice_id,
        subscription_id,
        NOW,
        period_end,
        status,
        dunning_ends_at,
        attempt_due_at,
    )
    return invoice_id

"""Sellers and customers: written by the intake alone, read by everybody."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.db import Connection
from worker.store.changes import columns

READ_SELLERS = """
SELECT seller_id, name, timezone, locale, report_email, statement_descriptor, pass_offer, late_money,
       extra
  FROM seller WHERE seller_id = ANY($1::text[])
"""
LOCK_SELLERS = READ_SELLERS + "ORDER BY seller_id FOR NO KEY UPDATE"
WRITE_SELLERS = """
INSERT INTO seller (seller_id, name, timezone, locale, report_email, statement_descriptor,
                    pass_offer, late_money, extra)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                     $7::jsonb[], $8::text[], $9::jsonb[])
ON CONFLICT (seller_id) DO UPDATE
   SET name = excluded.name, timezone = excluded.timezone, locale = excluded.locale,
       report_email = excluded.report_email, statement_descriptor = excluded.statement_descriptor,
       pass_offer = excluded.pass_offer, late_money = excluded.late_money, extra = excluded.extra
"""
READ_CUSTOMERS = """
SELECT customer_id, email, name, locale, timezone, country, segments, default_payment_method_id,
       extra
  FROM customer WHERE customer_id = ANY($1::text[])
"""
LOCK_CUSTOMERS = READ_CUSTOMERS + "ORDER BY customer_id FOR NO KEY UPDATE"
WRITE_CUSTOMERS = """
INSERT INTO customer (customer_id, email, name, locale, timezone, country, segments,
                      default_payment_method_id, extra)
SELECT t.customer_id, t.email, t.name, t.locale, t.timezone, t.country,
       ARRAY(SELECT jsonb_array_elements_text(t.segments::jsonb)), t.default_payment_method_id, t.extra
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
              $8::text[], $9::jsonb[])
    AS t (customer_id, email, name, locale, timezone, country, segments, default_payment_method_id,
          extra)
ON CONFLICT (customer_id) DO UPDATE
   SET email = excluded.email, name = excluded.name, locale = excluded.locale,
       timezone = excluded.timezone, country = excluded.country, segments = excluded.segments,
       default_payment_method_id = excluded.default_payment_method_id, extra = excluded.extra
"""


@dataclass(frozen=True, slots=True)
class Seller:
    """Who sells; the fields in the order of the table."""

    seller_id: str
    name: str
    timezone: str | None = None
    locale: str | None = None
    report_email: str | None = None
    statement_descriptor: str | None = None
    pass_offer: Mapping[str, Any] | None = None
    late_money: str = "refund"
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Customer:
    """Who pays; the fields in the order of the table."""

    customer_id: str
    email: str
    name: str | None = None
    locale: str | None = None
    timezone: str | None = None
    country: str | None = None
    segments: Sequence[str] = ()
    default_payment_method_id: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


async def read_sellers(
    conn: Connection, ids: Collection[str], *, lock: Collection[str]
) -> dict[str, Seller]:
    """Sellers by id, those of `lock` locked in id order; unknown ids are left out."""
    locked = await conn.fetch(LOCK_SELLERS, list(lock)) if lock else []
    rest = set(ids).difference(lock)
    seen = await conn.fetch(READ_SELLERS, list(rest)) if rest else []
    return {row[0]: Seller(*row) for row in (*locked, *seen)}


async def write_sellers(conn: Connection, sellers: Sequence[Seller]) -> None:
    """Insert or replace sellers."""
    if sellers:
        rows = [
            (
                s.seller_id,
                s.name,
                s.timezone,
                s.locale,
                s.report_email,
                s.statement_descriptor,
                s.pass_offer,
                s.late_money,
                s.extra,
            )
            for s in sellers
        ]
        await conn.execute(WRITE_SELLERS, *columns(rows, 9))


async def read_customers(
    conn: Connection, ids: Collection[str], *, lock: Collection[str]
) -> dict[str, Customer]:
    """Customers by id, those of `lock` locked in id order; unknown ids are left out."""
    locked = await conn.fetch(LOCK_CUSTOMERS, list(lock)) if lock else []
    rest = set(ids).difference(lock)
    seen = await conn.fetch(READ_CUSTOMERS, list(rest)) if rest else []
    return {row[0]: Customer(*row) for row in (*locked, *seen)}


async def write_customers(conn: Connection, customers: Sequence[Customer]) -> None:
    """Insert or replace customers."""
    if customers:
        rows = [
            (
                c.customer_id,
                c.email,
                c.name,
                c.locale,
                c.timezone,
                c.country,
                # As text: an array of arrays would need them all to be of one length.
                json.dumps(list(c.segments)),
                c.default_payment_method_id,
                c.extra,
            )
            for c in customers
        ]
        await conn.execute(WRITE_CUSTOMERS, *columns(rows, 9))

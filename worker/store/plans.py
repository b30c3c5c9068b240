"""Plans and the versions of their prices: written by the intake alone."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.db import Connection
from worker.store.changes import columns

READ = """
SELECT p.plan_id, p.seller_id, p.product_id, p.name, p.interval_unit, p.interval_count, p.currency,
       p.price_version, p.trial_days, p.cycles, p.installments, p.proration, p.retry_policy,
       p.reminders, p.grants_all_products, p.catch_up_periods, p.while_past_due, p.ceiling_minor,
       p.extra, v.model, v.unit_amount_minor, v.tax_minor
  FROM plan p JOIN price_version v ON v.plan_id = p.plan_id AND v.version = p.price_version
 WHERE p.plan_id = ANY($1::text[])
"""
WRITE_PLANS = """
INSERT INTO plan (plan_id, seller_id, product_id, name, interval_unit, interval_count, currency,
                  price_version, trial_days, cycles, installments, proration, retry_policy,
                  reminders, grants_all_products, catch_up_periods, while_past_due, ceiling_minor,
                  extra)
SELECT t.plan_id, t.seller_id, t.product_id, t.name, t.interval_unit, t.interval_count, t.currency,
       t.price_version, t.trial_days, t.cycles, t.installments, t.proration, t.retry_policy,
       t.reminders::jsonb, t.grants_all_products, t.catch_up_periods, t.while_past_due,
       t.ceiling_minor, t.extra
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::text[],
              $8::int[], $9::int[], $10::int[], $11::int[], $12::text[], $13::jsonb[], $14::text[],
              $15::boolean[], $16::int[], $17::text[], $18::bigint[], $19::jsonb[])
    AS t (plan_id, seller_id, product_id, name, interval_unit, interval_count, currency,
          price_version, trial_days, cycles, installments, proration, retry_policy, reminders,
          grants_all_products, catch_up_periods, while_past_due, ceiling_minor, extra)
ON CONFLICT (plan_id) DO UPDATE
   SET seller_id = excluded.seller_id, name = excluded.name, price_version = excluded.price_version,
       trial_days = excluded.trial_days, cycles = excluded.cycles,
       installments = excluded.installments, proration = excluded.proration,
       retry_policy = excluded.retry_policy, reminders = excluded.reminders,
       grants_all_products = excluded.grants_all_products,
       catch_up_periods = excluded.catch_up_periods, while_past_due = excluded.while_past_due,
       ceiling_minor = excluded.ceiling_minor, extra = excluded.extra
"""
INSERT_PRICES = """
INSERT INTO price_version (plan_id, version, model, currency, unit_amount_minor, tax_minor)
SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sold, with its newest price; the fields in the order of READ."""

    plan_id: str
    seller_id: str
    product_id: str
    name: str
    interval_unit: str
    interval_count: int
    currency: str
    price_version: int
    trial_days: int
    cycles: int | None
    installments: int | None
    proration: str
    retry_policy: Mapping[str, Any]
    reminders: Sequence[Mapping[str, Any]]
    grants_all_products: bool
    catch_up_periods: int
    while_past_due: str
    ceiling_minor: int | None
    extra: Mapping[str, Any] = field(default_factory=dict)
    price_model: str = "flat"
    unit_amount_minor: int = 0
    tax_minor: int | None = None

    @property
    def price(self) -> tuple[str, str, int, int | None]:
        """What a version of the price says; another one is another version."""
        return self.price_model, self.currency, self.unit_amount_minor, self.tax_minor


async def read(conn: Connection, ids: Collection[str]) -> dict[str, Plan]:
    """Plans with their newest price; unknown ids are left out. Only the intake writes plans."""
    if not ids:
        return {}
    return {row[0]: Plan(*row) for row in await conn.fetch(READ, list(ids))}


async def write(conn: Connection, plans: Sequence[Plan], prices: Sequence[Plan]) -> None:
    """Insert or replace plans; `prices` are those states of them whose price is a new version."""
    if not plans:
        return
    rows = [
        (
            p.plan_id,
            p.seller_id,
            p.product_id,
            p.name,
            p.interval_unit,
            p.interval_count,
            p.currency,
            p.price_version,
            p.trial_days,
            p.cycles,
            p.installments,
            p.proration,
            p.retry_policy,
            # As text: asyncpg takes a list inside of an array for another dimension.
            json.dumps(p.reminders),
            p.grants_all_products,
            p.catch_up_periods,
            p.while_past_due,
            p.ceiling_minor,
            p.extra,
        )
        for p in plans
    ]
    await conn.execute(WRITE_PLANS, *columns(rows, 19))
    versions = [(p.plan_id, p.price_version, *p.price) for p in prices]
    await conn.execute(INSERT_PRICES, *columns(versions, 6))

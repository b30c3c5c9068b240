"""Payment methods: tokens at gateways. The intake writes them; settling marks hard declines."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from worker.db import Connection
from worker.store.changes import columns

_METHOD = """
SELECT payment_method_id, customer_id, gateway, token, kind, brand, funding, country, exp_month,
       exp_year, fingerprint, backup_consent, attached_at, changed_at, removed_at, hard_declined_at,
       hard_decline_code, extra
  FROM payment_method
"""
READ = _METHOD + "WHERE payment_method_id = ANY($1::text[])"
LOCK = READ + " ORDER BY payment_method_id FOR NO KEY UPDATE"
WRITE = """
INSERT INTO payment_method (payment_method_id, customer_id, gateway, token, kind, brand, funding,
                            country, exp_month, exp_year, fingerprint, backup_consent, attached_at,
                            changed_at, removed_at, hard_declined_at, hard_decline_code, extra)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                     $7::text[], $8::text[], $9::smallint[], $10::smallint[], $11::text[],
                     $12::boolean[], $13::timestamptz[], $14::timestamptz[], $15::timestamptz[],
                     $16::timestamptz[], $17::text[], $18::jsonb[])
ON CONFLICT (payment_method_id) DO UPDATE
   SET gateway = excluded.gateway, token = excluded.token, kind = excluded.kind,
       brand = excluded.brand, funding = excluded.funding, country = excluded.country,
       exp_month = excluded.exp_month, exp_year = excluded.exp_year,
       fingerprint = excluded.fingerprint, backup_consent = excluded.backup_consent,
       attached_at = excluded.attached_at, changed_at = excluded.changed_at,
       removed_at = excluded.removed_at,
       hard_declined_at = excluded.hard_declined_at,
       hard_decline_code = excluded.hard_decline_code, extra = excluded.extra
"""


@dataclass(frozen=True, slots=True)
class Method:
    """A payment method; the fields in the order of the table."""

    payment_method_id: str
    customer_id: str
    gateway: str
    token: str
    kind: str
    brand: str | None
    funding: str | None
    country: str | None
    exp_month: int | None
    exp_year: int | None
    fingerprint: str | None
    backup_consent: bool
    attached_at: datetime
    changed_at: datetime | None = None
    removed_at: datetime | None = None
    hard_declined_at: datetime | None = None
    hard_decline_code: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def details(self) -> tuple[object, ...]:
        """What a bank looks at: other details are a new card, and clear a hard decline."""
        return self.gateway, self.token, self.exp_month, self.exp_year, self.fingerprint

    @property
    def is_usable(self) -> bool:
        """Whether it may be charged at all."""
        return self.removed_at is None and self.hard_declined_at is None


async def read(
    conn: Connection, ids: Collection[str], *, lock: Collection[str] = ()
) -> dict[str, Method]:
    """Methods by id, those of `lock` locked in id order; unknown ids are left out.

    Lock methods after subscriptions, as settling does.
    """
    locked = await conn.fetch(LOCK, list(lock)) if lock else []
    rest = set(ids).difference(lock)
    seen = await conn.fetch(READ, list(rest)) if rest else []
    return {row[0]: Method(*row) for row in (*locked, *seen)}


async def write(conn: Connection, methods: Sequence[Method]) -> None:
    """Insert or replace methods; whose they are never changes."""
    if not methods:
        return
    rows = [
        (
            m.payment_method_id,
            m.customer_id,
            m.gateway,
            m.token,
            m.kind,
            m.brand,
            m.funding,
            m.country,
            m.exp_month,
            m.exp_year,
            m.fingerprint,
            m.backup_consent,
            m.attached_at,
            m.changed_at,
            m.removed_at,
            m.hard_declined_at,
            m.hard_decline_code,
            m.extra,
        )
        for m in methods
    ]
    await conn.execute(WRITE, *columns(rows, 18))

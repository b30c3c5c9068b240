"""The gateways' own ledgers as imported: what audit compares our attempts with."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from worker.db import Connection
from worker.store.changes import columns

READ_SPAN = """
SELECT clock_timestamp() AS imported_at, greatest($1, clock_timestamp()) AS last_at,
       least((SELECT min(claimed_at) FROM attempt), (SELECT min(send_deadline) FROM attempt),
             $1, clock_timestamp()) AS first_at
"""
UPSERT = """
INSERT INTO gateway_charge (gateway, gateway_ref, idempotency_key, reference, status, amount_minor,
                            currency, amount_refunded_minor, created_at, imported_at)
SELECT $1, t.*, $2
  FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[],
              $9::bigint[], $10::timestamptz[]) AS t
ON CONFLICT (gateway, gateway_ref) DO UPDATE
   SET idempotency_key = excluded.idempotency_key, reference = excluded.reference,
       status = excluded.status, amount_minor = excluded.amount_minor,
       currency = excluded.currency, amount_refunded_minor = excluded.amount_refunded_minor,
       created_at = excluded.created_at,
       imported_at = greatest(gateway_charge.imported_at, excluded.imported_at)
"""
FORGET_UNSEEN = "DELETE FROM gateway_charge WHERE gateway = $1 AND imported_at < $2"


class Span(NamedTuple):
    """From the first attempt of the installation to now, whichever of the two clocks says more.

    `imported_at` (machine time) marks this import.
    """

    imported_at: datetime
    last_at: datetime
    first_at: datetime


class ChargeRow(NamedTuple):
    """A charge of a ledger, in the order of UPSERT."""

    gateway_ref: str
    idempotency_key: str
    reference: str
    status: str
    amount_minor: int
    currency: str
    amount_refunded_minor: int
    created_at: datetime


async def read_span(conn: Connection, *, now: datetime) -> Span:
    """When our charges can have been made; `now` is business time.

    A gateway that does not follow the test clock dates its charges by machine time.
    """
    row = await conn.fetchrow(READ_SPAN, now)
    assert row is not None, "a SELECT without FROM has one row"
    return Span(*row)


async def upsert(
    conn: Connection, gateway: str, charges: Sequence[ChargeRow], *, imported_at: datetime
) -> None:
    """Keep a page of a gateway's ledger; a charge that is known gets its newest state."""
    if charges:
        await conn.execute(UPSERT, gateway, imported_at, *columns(charges, 8))


async def forget_unseen(conn: Connection, gateway: str, *, imported_at: datetime) -> None:
    """Drop what an import that read the whole ledger did not see: the gateway does not have it."""
    await conn.execute(FORGET_UNSEEN, gateway, imported_at)

"""Importing the gateways' own ledgers, so that `renewd audit` can compare both ways.

Everything that can be ours is read, every time: a ledger that lost a charge must be seen to have lost
it. Pages are committed one by one and memory holds one of them; an import that is cut off leaves what
it read, and the next one starts again.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from worker.db import Connection
from worker.gateways import Gateway
from worker.store import ledger
from worker.store.ledger import ChargeRow

BEFORE = timedelta(hours=48)
"""The clocks of a gateway and of a restored database may differ from ours by days."""

AFTER = timedelta(days=1)

log = structlog.get_logger()


async def import_ledgers(
    conn: Connection, gateways: Mapping[str, Gateway], *, now: datetime
) -> dict[str, int]:
    """Read every gateway's ledger into `gateway_charge`; the charges read, by gateway.

    `now` is business time. Raises `ServerUnreachable` if a gateway does not tell its ledger whole.
    """
    return {name: await _import(conn, gateway, now) for name, gateway in gateways.items()}


async def _import(conn: Connection, gateway: Gateway, now: datetime) -> int:
    span = await ledger.read_span(conn, now=now)
    count = 0
    async for page in gateway.list_charges(
        created_from=span.first_at - BEFORE, created_to=span.last_at + AFTER
    ):
        # A gateway may repeat a charge on the border of two pages, and even on one.
        rows = {
            charge.gateway_ref: ChargeRow(
                charge.gateway_ref,
                charge.idempotency_key,
                charge.reference,
                charge.status,
                charge.amount_minor,
                charge.currency,
                charge.amount_refunded_minor,
                charge.created_at,
            )
            for charge in page
        }
        await ledger.upsert(conn, gateway.name, list(rows.values()), imported_at=span.imported_at)
        count += len(rows)
    await ledger.forget_unseen(conn, gateway.name, imported_at=span.imported_at)
    log.info("ledger_imported", gateway=gateway.name, count=count)
    return count

"""The bare loop: the same calls and the same rows with nothing around them, to compare with.

No broker, no leases, no locks, no guards, no rules, no crash-safety beyond its two commits: rows in,
calls out, rows changed. What renewd costs more than this is the price of everything it promises.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from uuid import uuid4

from billing.keys import idempotency_key
from billing.messages import OutboxRow
from billing.pricing import Line
from lab.store import bench
from worker.db import Pool, create_pool
from worker.gateways import ChargeRequest, Gateway
from worker.store import changes, outbox, transitions
from worker.store.changes import NewAttempt
from worker.store.transitions import Move

BATCH = 250
AT_ONCE = 12
"""As many batches under way as two workers have slots."""

_INSTALLATION = uuid4()


async def run_bare(database_url: str, gateway: Gateway, *, charges: int) -> float:
    """Charges per second of the bare loop over subscriptions that are not due."""
    pool = await create_pool(database_url, size=AT_ONCE, application_name="renewd bench bare")
    try:
        async with pool.acquire() as conn:
            ids = await bench.some_ids(conn, charges)
        batches = [ids[n : n + BATCH] for n in range(0, len(ids), BATCH)]
        seats = asyncio.Semaphore(AT_ONCE)
        started = time.perf_counter()
        await asyncio.gather(*(_batch(pool, gateway, batch, seats) for batch in batches))
        return len(ids) / (time.perf_counter() - started)
    finally:
        await pool.close()


async def _batch(
    pool: Pool, gateway: Gateway, ids: Sequence[str], seats: asyncio.Semaphore
) -> None:
    async with seats:
        now = datetime.now(UTC)
        attempts = [_attempt(gateway, id_) for id_ in ids]
        invoices = [attempt.invoice_id for attempt in attempts]
        async with pool.acquire() as conn, conn.transaction():
            await bench.bare_invoices(conn, invoices, list(ids), now=now, period=900_000)
            line = Line("Plan", 1, 4900, 4900)
            await changes.insert_lines(conn, [(invoice, 0, line) for invoice in invoices])
            await changes.insert_attempts(
                conn, attempts, fence=uuid4(), now=now, unsettled_seconds=45
            )
        await asyncio.gather(
            *(gateway.charge(request=a.request, key=a.idempotency_key) for a in attempts)
        )
        async with pool.acquire() as conn, conn.transaction():
            await bench.bare_finish(conn, invoices, list(ids), now=now)
            moves = [_move(a, machine) for a in attempts for machine in ("attempt", "invoice")]
            await transitions.record(conn, moves, actor="bare", now=now)
            await outbox.append(conn, [_row(a, n, now) for a in attempts for n in (1, 2)])


def _attempt(gateway: Gateway, subscription_id: str) -> NewAttempt:
    invoice_id = uuid4()
    request = gateway.request_bytes(
        ChargeRequest(4900, "USD", "tok_ok_bare", subscription_id, invoice_id, 1, None)
    )
    return NewAttempt(
        invoice_id,
        1,
        subscription_id,
        "renewal",
        "bench",
        "pm_1",
        4900,
        "USD",
        idempotency_key(_INSTALLATION, invoice_id, 1),
        request,
        sha256(request).digest(),
    )


def _move(attempt: NewAttempt, machine: str) -> Move:
    subject = str(attempt.invoice_id)
    return Move(attempt.subscription_id, machine, subject, "open", "paid", "approved")


def _row(attempt: NewAttempt, sequence: int, now: datetime) -> OutboxRow:
    body = json.dumps(
        {
            "specversion": "1.0",
            "id": str(uuid4()),
            "source": "renewd",
            "type": "billing.invoice.paid",
            "time": now.isoformat(),
            "data": {"subscription_id": attempt.subscription_id, "amount_minor": 4900},
        }
    )
    # As long as a real one; sequences far above those of the real run.
    number = 1_000_000 + sequence
    return OutboxRow(0, attempt.subscription_id, number, "billing.invoice.paid", body.ljust(520))

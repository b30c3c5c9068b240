"""The end of subscriptions: scheduled cancels that are due.

The rules are in billing/cancellation.py; here they are asked under the locks and written.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial

import structlog

from billing import cancellation
from billing.facts import Case, Subscription
from billing.lifecycle import CancelOrigin
from worker import cases, metrics
from worker.context import WorkerContext
from worker.db import Connection, with_retries
from worker.halving import by_halves
from worker.store import cancels, control, facts, hints

log = structlog.get_logger()


async def cancel_due(context: WorkerContext, *, ids: Sequence[str]) -> None:
    """Carry out the scheduled cancels of these subscriptions, those of them whose time has come.

    The batch is halved until a subscription that breaks it is alone, and that one is parked.
    """

    async def some(part: Sequence[str]) -> list[str]:
        async def transaction() -> list[str]:
            async with context.pool.acquire() as conn, conn.transaction():
                return await _cancel_due(conn, part)

        return await with_retries(transaction, what="cancel_due")

    canceled = sum(map(len, await by_halves(ids, some, partial(_park, context))))
    if canceled:
        log.info("subscriptions_canceled", count=canceled)


async def _cancel_due(conn: Connection, ids: Sequence[str]) -> list[str]:
    subscriptions = await facts.lock_subscriptions(conn, ids)
    # After the locks: what was committed to these rows before has an earlier stamp than their end.
    now = await control.read_now(conn)
    due = [s for s in subscriptions.values() if s.cancel_at is not None and s.cancel_at <= now]
    await _end(conn, due, actor="cancel_due", now=now)
    return [subscription.subscription_id for subscription in due]


async def _end(
    conn: Connection, subscriptions: Iterable[Subscription], *, actor: str, now: datetime
) -> None:
    """End locked subscriptions for the reason that they carry."""
    ending = {subscription.subscription_id: subscription for subscription in subscriptions}
    if not ending:
        return
    invoices = await facts.read_open_invoices(conn, list(ending))
    owed = [invoice.invoice_id for some in invoices.values() for invoice in some]
    under_way = await hints.read_unsettled(conn, owed)
    written: list[Case] = []
    for id_, subscription in ending.items():
        written += cancellation.cancel(
            subscription,
            invoices.get(id_, []),
            under_way=under_way.keys(),
            origin=CancelOrigin(subscription.cancel_origin or CancelOrigin.ADMIN),
            reason=subscription.cancel_reason,
            now=now,
        )
    await cases.save(conn, written, actor=actor, now=now)


async def _park(context: WorkerContext, subscription_id: str, error: Exception) -> None:
    reason = f"{type(error).__name__}: {error}".partition("\n")[0][:500]
    log.error("cancel_parked", subscription_id=subscription_id, error=reason)
    async with context.pool.acquire() as conn:
        if await cancels.park(conn, subscription_id, reason):
            metrics.PARKED.labels("cancel").inc()

"""The end of grace: access ends, the invoice stays collectable, and retries go on."""

from collections.abc import Sequence

import structlog

from billing import consequences
from billing.facts import Case
from billing.lifecycle import SubscriptionStatus
from worker import cases, metrics
from worker.context import WorkerContext
from worker.db import Connection, is_data_error, with_retries
from worker.store import claims, control, facts

REASON = "the grace period has ended"

log = structlog.get_logger()


async def end_grace(context: WorkerContext, *, ids: Sequence[str]) -> None:
    """Make these subscriptions unpaid, those of them whose grace is over.

    The batch is halved until a subscription that breaks it is alone, and that one is parked.
    """

    async def transaction() -> None:
        async with context.pool.acquire() as conn, conn.transaction():
            await _end_grace(conn, ids)

    try:
        await with_retries(transaction, what="end_grace")
    except Exception as error:
        if not (is_data_error(error) or isinstance(error, (AssertionError, ValueError))):
            raise
        if len(ids) == 1:
            await _park(context, ids[0], error)
            return
        half = len(ids) // 2
        await end_grace(context, ids=ids[:half])
        await end_grace(context, ids=ids[half:])


async def _end_grace(conn: Connection, ids: Sequence[str]) -> None:
    subscriptions = await facts.lock_subscriptions(conn, ids)
    now = await control.read_now(conn)
    over = [
        Case(subscription, None, None, now)
        for subscription in subscriptions.values()
        if subscription.status is SubscriptionStatus.PAST_DUE
        and subscription.access_ends_at is not None
        and subscription.access_ends_at <= now
    ]
    for case in over:
        consequences.lapse(case, REASON)
    await cases.save(conn, over, actor="grace", now=now)


async def _park(context: WorkerContext, subscription_id: str, error: Exception) -> None:
    reason = f"{type(error).__name__}: {error}".partition("\n")[0][:500]
    log.error("grace_parked", subscription_id=subscription_id, error=reason)
    async with context.pool.acquire() as conn:
        if await claims.park_grace(conn, subscription_id, reason):
            metrics.PARKED.labels("grace").inc()

"""The end of grace: access ends, the invoice stays collectable, and retries go on."""

from collections.abc import Sequence
from functools import partial

import structlog

from billing import consequences
from billing.facts import Case
from billing.lifecycle import SubscriptionStatus
from worker import cases, metrics
from worker.context import WorkerContext
from worker.db import Connection, with_retries
from worker.halving import by_halves
from worker.store import claims, control, facts

REASON = "the grace period has ended"

log = structlog.get_logger()


async def end_grace(context: WorkerContext, *, ids: Sequence[str]) -> None:
    """Make these subscriptions unpaid, those of them whose grace is over.

    The batch is halved until a subscription that breaks it is alone, and that one is parked.
    """

    async def some(part: Sequence[str]) -> None:
        async def transaction() -> None:
            async with context.pool.acquire() as conn, conn.transaction():
                await _end_grace(conn, part)

        await with_retries(transaction, what="end_grace")

    await by_halves(ids, some, partial(_park, context))


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

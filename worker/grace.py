"""The end of grace: access ends, the invoice stays collectable, and retries go on."""

from collections.abc import Sequence

from billing import consequences
from billing.facts import Case
from billing.lifecycle import SubscriptionStatus
from worker import cases
from worker.context import WorkerContext
from worker.store import control, facts

REASON = "the grace period has ended"


async def end_grace(context: WorkerContext, *, ids: Sequence[str]) -> None:
    """Make these subscriptions unpaid, those of them whose grace is over."""
    async with context.pool.acquire() as conn, conn.transaction():
        now = await control.read_now(conn)
        subscriptions = await facts.lock_subscriptions(conn, ids)
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

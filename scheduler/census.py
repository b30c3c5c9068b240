"""Counting what is there: gauges from SQL, taken every few seconds by each scheduler.

Every scheduler exports the same figures, so dashboards aggregate them with `max`, never `sum`.
"""

import structlog

from scheduler.store import census as counted
from worker import metrics
from worker.db import Connection
from worker.store import control

log = structlog.get_logger()


async def take_census(conn: Connection) -> None:
    """Read all gauges and set them; each statement touches only what is open, due or unpublished."""
    now = await control.read_now(conn)
    past_due = await counted.past_due(conn)
    metrics.set_all(metrics.INVOICES_PAST_DUE, {c: row.invoices for c, row in past_due.items()})
    metrics.set_all(metrics.PAST_DUE_AMOUNT, {c: row.amount_minor for c, row in past_due.items()})
    unsettled = await counted.unsettled(conn, now)
    metrics.set_all(metrics.ATTEMPTS_UNSETTLED, {s: row.attempts for s, row in unsettled.items()})
    metrics.set_all(
        metrics.UNSETTLED_OLDEST_SECONDS, {s: row.oldest_seconds for s, row in unsettled.items()}
    )
    metrics.set_all(metrics.DUE_LAG_SECONDS, await counted.due_lags(conn, now))
    metrics.set_all(metrics.PLATFORM_REJECTED, await counted.rejected(conn))
    counts = await counted.single_figures(conn)
    metrics.ROWS_PARKED.set(counts.parked)
    metrics.CHARGING_PAUSED.set(counts.pauses)
    metrics.OUTBOX_AGE_SECONDS.set(counts.outbox_age_seconds)
    metrics.CENSUS_TIMESTAMP.set_to_current_time()


async def count_subscriptions(conn: Connection) -> None:
    """Set the gauge of subscriptions by status: the one figure that grows with what exists."""
    metrics.set_all(metrics.SUBSCRIPTIONS, await counted.subscriptions(conn))

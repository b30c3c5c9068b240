"""The end of waiting, and a second chance by hand, for messages that had no effect."""

from collections.abc import Sequence
from datetime import timedelta

import structlog

from billing.events import Rejection, parse
from billing.lifecycle import RejectedState
from worker.context import WorkerContext
from worker.db import Connection, with_retries
from worker.errors import UsageError
from worker.platform.batches import breaks_rule, play_one_by_one
from worker.platform.records import ERROR_LENGTH, Tally, record
from worker.platform.rounds import Item, Judged, kept_item, play
from worker.platform.verdicts import Missing, Refused, Result
from worker.store import inbox, rejects
from worker.store.inbox import Clock
from worker.store.rejects import Reject

log = structlog.get_logger()


async def expire_waiting(context: WorkerContext, *, ids: Sequence[str]) -> None:
    """End the waiting of these messages, those of them whose time is over.

    Each is tried once more; what it misses now it misses for good, and the platform is told.
    """

    async def transaction() -> Tally:
        async with context.pool.acquire() as conn, conn.transaction():
            return await _expire(conn, [int(id_) for id_ in ids], context)

    tally = await with_retries(transaction, what="expire_waiting")
    tally.publish()
    if tally.counts:
        log.info(
            "waiting_expired",
            applied=tally.of(Result.APPLIED),
            rejected=tally.of(Result.REJECTED) + tally.of(Result.REFUSED),
        )


async def replay(conn: Connection, rejected_id: int, *, wait: timedelta) -> Reject:
    """Apply a kept message once more, as if it came now, and return its row afterwards.

    What it misses it waits for again, at most `wait` (business time). Raises `UsageError` for a message
    that nobody kept or that was applied since.
    """
    async with conn.transaction():
        await inbox.lock(conn)
        clock = await inbox.read_clock(conn)
        row = next(iter(await rejects.read(conn, [rejected_id])), None)
        if row is None or row.state is RejectedState.APPLIED:
            state = "unknown" if row is None else row.state
            raise UsageError(
                f"rejected message {rejected_id} is {state}: should be one of the list"
            )
        await _replay(conn, row, clock, wait)
        return next(iter(await rejects.read(conn, [rejected_id])))


async def _replay(conn: Connection, row: Reject, clock: Clock, wait: timedelta) -> None:
    event = parse(row.body, now=clock.now, clock_is_real=clock.is_real)
    if isinstance(event, Rejection):
        again = rejects.Verdict(
            row.rejected_id, RejectedState.REJECTED, event.field, event.error, None, None
        )
        await rejects.settle(conn, [again], now=clock.now)
        return
    item = Item(event, row.headers, row)
    tally = Tally()
    await play_one_by_one(conn, [item], clock=clock, found_keys={}, wait=wait, tally=tally)


async def _expire(conn: Connection, ids: Sequence[int], context: WorkerContext) -> Tally:
    tally = Tally()
    await inbox.lock(conn)
    clock = await inbox.read_clock(conn)
    wait = timedelta(hours=context.settings.rejected_after_hours)
    over = [
        row
        for row in await rejects.read(conn, ids)
        if row.state is RejectedState.WAITING and row.expires_at and row.expires_at <= clock.now
    ]
    for row in over:
        item = kept_item(row, clock)
        if item is None:
            verdict = rejects.Verdict(
                row.rejected_id, RejectedState.REJECTED, row.field, row.error, None, None
            )
            await rejects.settle(conn, [verdict], now=clock.now)
            continue
        await _last_try(conn, item, clock, wait, tally)
    return tally


async def _last_try(
    conn: Connection, item: Item, clock: Clock, wait: timedelta, tally: Tally
) -> None:
    try:
        async with conn.transaction():
            judged = await play(conn, [item], clock=clock, found_keys={})
            await record(
                conn, [_final(one, item) for one in judged], clock=clock, wait=wait, tally=tally
            )
    except Exception as error:
        if not breaks_rule(error):
            raise
        await play_one_by_one(conn, [item], clock=clock, found_keys={}, wait=wait, tally=tally)


def _final(judged: Judged, item: Item) -> Judged:
    """The same verdict, but no more waiting for `item`."""
    verdict = judged.verdict
    if judged.item is not item or not isinstance(verdict, Missing):
        return judged
    error = f"{verdict.field} names {verdict.ref}: was not known in time"[:ERROR_LENGTH]
    return Judged(item, Refused(verdict.field, error, RejectedState.REJECTED))

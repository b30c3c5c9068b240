"""A batch of platform messages, applied in one transaction: the heart of the intake.

The life of a message:
 1. Its bytes become a typed event, or a rejection that names the field (`billing.events.parse`).
 2. A payment that only its gateway knows is looked up there, before any transaction is open.
 3. One transaction: the intake's lock; its key is taken, and a message taken before goes no further;
    what the batch names is locked and read; each message is applied in the order it came, with all
    that waited for it; effects, inbox rows and rejected rows are written.
 4. Commit; only now may the broker forget it. A crash before: it comes again and is new. After: it
    comes again, its key is taken.

A batch that breaks on one of its values is halved until the bad message is alone; that one is rejected,
and what waited for it is applied one by one. Outages give the whole batch back.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import asyncpg
import structlog

from billing.events import PlatformEvent, Rejection, one_line, parse
from worker.clock import machine_now
from worker.context import WorkerContext
from worker.db import Connection, is_data_error, with_retries
from worker.platform.found_payments import find_keys
from worker.platform.records import Tally, broken, record, record_rejections
from worker.platform.references import brought_by
from worker.platform.rounds import Item, Judged, kept_waiting, play
from worker.platform.verdicts import Applied, Result
from worker.store import inbox
from worker.store.inbox import Clock, Key

HEADERS_KEPT = 20
HEADER_LENGTH = 300

BREAKS_RULE = (AssertionError, ArithmeticError, LookupError, TypeError, ValueError)
"""A bug or a value that nobody thought of: it may cost its own message, never its neighbours."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the broker handed over; `repeated`: it was committed before, its acknowledgement was lost."""

    body: bytes
    headers: Mapping[str, Any] = field(default_factory=dict)
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class BatchResult:
    """How many messages had which result; messages that waited before are counted as well."""

    applied: int
    superseded: int
    duplicates: int
    waiting: int
    rejected: int
    refused: int


@dataclass(frozen=True, slots=True)
class _Read:
    """A delivery as an event or a rejection; `key` is None if it does not say whose it is."""

    key: Key | None
    content: PlatformEvent | Rejection
    headers: Mapping[str, Any]
    repeated: bool


async def apply_batch(
    context: WorkerContext, deliveries: Sequence[Delivery], *, clock: Clock
) -> BatchResult:
    """Apply messages for good: when this returns, they are committed and may be acknowledged.

    Raises one of `db.TRANSIENT` if the database is away; then nothing is lost, and giving the same
    messages again is safe.
    """
    began = machine_now()
    read = [_read(delivery, clock) for delivery in deliveries]
    events = [one.content for one in read if isinstance(one.content, PlatformEvent)]
    found_keys = await find_keys(context, events)
    tally = Tally()
    await _apply(_Batch(context, clock, found_keys, tally), read)
    tally.publish()
    result = BatchResult(
        applied=tally.of(Result.APPLIED),
        superseded=tally.of(Result.SUPERSEDED),
        duplicates=tally.of(Result.DUPLICATE),
        waiting=tally.of(Result.WAITING),
        rejected=tally.of(Result.REJECTED),
        refused=tally.of(Result.REFUSED),
    )
    log.info(
        "platform_batch_applied",
        received=len(deliveries),
        applied=result.applied,
        superseded=result.superseded,
        duplicates=result.duplicates,
        waiting=result.waiting,
        rejected=result.rejected + result.refused,
        milliseconds=round(1000 * (machine_now() - began)),
    )
    return result


def breaks_rule(error: BaseException) -> bool:
    """Whether one message is at fault, so that halving finds it; an outage never is."""
    too_large = isinstance(error, asyncpg.ProgramLimitExceededError)
    return is_data_error(error) or too_large or isinstance(error, BREAKS_RULE)


@dataclass(frozen=True, slots=True)
class _Batch:
    """What every part of a batch is applied with."""

    context: WorkerContext
    clock: Clock
    found_keys: Mapping[tuple[str, str], str]
    tally: Tally

    @property
    def wait(self) -> timedelta:
        return timedelta(hours=self.context.settings.rejected_after_hours)


async def _apply(batch: _Batch, read: Sequence[_Read]) -> None:
    """One transaction; halved if one of its messages breaks it."""

    async def transaction(*, one_by_one: bool) -> Tally:
        async with batch.context.pool.acquire() as conn, conn.transaction():
            return await _apply_in(conn, batch, read, one_by_one=one_by_one)

    try:
        done = await with_retries(lambda: transaction(one_by_one=False), what="intake")
    except Exception as error:
        if not breaks_rule(error):
            raise
        if len(read) > 1:
            half = len(read) // 2
            await _apply(batch, read[:half])
            await _apply(batch, read[half:])
            return
        done = await with_retries(lambda: transaction(one_by_one=True), what="intake")
    batch.tally.counts.update(done.counts)


async def _apply_in(
    conn: Connection, batch: _Batch, read: Sequence[_Read], *, one_by_one: bool
) -> Tally:
    tally = Tally()
    await inbox.lock(conn)
    new = await _take(conn, read, batch.clock, tally)
    await record_rejections(
        conn,
        [(one.content, one.headers) for one in new if isinstance(one.content, Rejection)],
        clock=batch.clock,
        tally=tally,
    )
    items = [
        Item(one.content, one.headers) for one in new if isinstance(one.content, PlatformEvent)
    ]
    if one_by_one:
        await play_one_by_one(
            conn,
            items,
            clock=batch.clock,
            found_keys=batch.found_keys,
            wait=batch.wait,
            tally=tally,
        )
    elif items:
        judged = await play(conn, items, clock=batch.clock, found_keys=batch.found_keys)
        await record(conn, judged, clock=batch.clock, wait=batch.wait, tally=tally)
    return tally


async def play_one_by_one(
    conn: Connection,
    items: Sequence[Item],
    *,
    clock: Clock,
    found_keys: Mapping[tuple[str, str], str],
    wait: timedelta,
    tally: Tally,
) -> None:
    """Apply messages, and what waits for each, in a savepoint of its own: the bad one is rejected."""
    queue = list(items)
    while queue:
        item = queue.pop(0)
        try:
            async with conn.transaction():
                judged = await play(conn, [item], clock=clock, found_keys=found_keys, release=False)
                await record(conn, judged, clock=clock, wait=wait, tally=tally)
        except Exception as error:
            if not breaks_rule(error):
                raise
            log.warning("platform_event_broken", type=item.event.type, error=type(error).__name__)
            judged = [Judged(item, broken(error))]
            await record(conn, judged, clock=clock, wait=wait, tally=tally)
        brought = {
            ref
            for one in judged
            if isinstance(one.verdict, Applied) and (ref := brought_by(one.item.event)) is not None
        }
        queue += await kept_waiting(conn, brought, clock)


async def _take(conn: Connection, read: Sequence[_Read], clock: Clock, tally: Tally) -> list[_Read]:
    """The messages that nobody took before, the first of each in this batch."""
    keys = {one.key for one in read if one.key is not None}
    free = await inbox.take_keys(conn, keys, now=clock.now)
    new: list[_Read] = []
    for one in read:
        # Without an id two equal bodies are two messages.
        if one.key in free or (one.key is None and not one.repeated):
            new.append(one)
        else:
            tally.add(one.content.type, Result.DUPLICATE)
        if one.key is not None:
            free.discard(one.key)
    return new


def _read(delivery: Delivery, clock: Clock) -> _Read:
    content = parse(delivery.body, now=clock.now, clock_is_real=clock.is_real)
    named = content.source and content.event_id
    key = Key(content.source, content.event_id) if named else None
    return _Read(key, content, _headers(delivery.headers.items()), delivery.repeated)


def _headers(headers: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """What is kept of AMQP headers: short printable texts."""
    texts = [
        (name, value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))
        for name, value in headers
    ]
    return {
        one_line(name, HEADER_LENGTH): one_line(text, HEADER_LENGTH)
        for name, text in texts[:HEADERS_KEPT]
    }

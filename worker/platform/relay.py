"""Messages out: from the outbox to exchange `billing`, at least once and in order per subscription.

The life of a message:
 1. It was written to the outbox in the transaction that changed the state, in one of 64 slots.
 2. The relay that owns its slot (`slots`) reads it, oldest position first, in a batch of several slots;
    none of them is read again before the batch has ended.
 3. The batch goes out in waves. A wave holds one message of a subscription at most and is confirmed
    before the next leaves; so nothing can overtake a message that the broker refuses or loses.
 4. Confirmed rows are marked published, in one UPDATE a batch. Crash before it: they come again.
 5. A refused message stays unpublished, its followers are not sent, and its slot rests for a moment;
    the next read begins with it.

Losing the database connection is losing the locks: another relay may own the slots already, so
everything in flight is abandoned at once. Two relays that publish one slot for an instant both begin at
or before its first unmarked row and go in order, so first appearances stay in order and gapless.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence

import asyncpg
import structlog
from pika.exceptions import AMQPError

from worker import db, metrics
from worker.clock import machine_now
from worker.errors import ServerUnreachable
from worker.platform.publisher import BrokerLostError, ExchangeMissingError, Publisher
from worker.platform.slots import Slots
from worker.platform.topology import declare_topology
from worker.settings import Settings
from worker.store import relay
from worker.store.relay import Unpublished

BATCHES_IN_FLIGHT = 8
"""Enough to read, confirm and mark at the same time; bounds what a crash publishes twice."""

IDLE_SECONDS = 0.2
"""Time between two looks at an empty outbox: 0.3 ms of work each."""

LINGER_SECONDS = 0.02
"""After a batch that was not full, so that a trickle is not read message by message."""

REBALANCE_SECONDS = 2
REFUSED_SECONDS = 1
"""Rest of a slot whose message was refused: a full queue does not get better by asking at once."""

DRAIN_SECONDS = 5
"""A stopping relay waits so long for confirms; what has none is published again by the next."""

BACKOFF_SECONDS = (0.2, 0.5, 1, 2, 5)
STEADY_SECONDS = 1
"""A session that lasted longer was a good one: the next try may come soon."""

log = structlog.get_logger()


class LocksLostError(Exception):
    """The session that holds the locks ended."""


INTERRUPTIONS: tuple[type[BaseException], ...] = (
    BrokerLostError,
    LocksLostError,
    ServerUnreachable,
    AMQPError,
    *db.TRANSIENT,
)


def waves(rows: Iterable[Unpublished]) -> list[list[Unpublished]]:
    """Split a batch so that wave n holds the n-th message of each subject; order is kept."""
    seen: Counter[str] = Counter()
    split: list[list[Unpublished]] = []
    for row in rows:
        if seen[row.subject] == len(split):
            split.append([])
        split[seen[row.subject]].append(row)
        seen[row.subject] += 1
    return split


class Relay:
    """Publishes for as long as `run` runs; several relays share the slots."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._declared = False
        self.serving = False

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop` is set; survives any loss of the database or the broker.

        Raises a group with `TopologyError` if an exchange is there with other arguments.
        """
        failures = 0
        while not stop.is_set():
            began = machine_now()
            try:
                await self._serve(stop)
            except* INTERRUPTIONS as errors:
                lasted = machine_now() - began
                failures = 1 if lasted > STEADY_SECONDS else failures + 1
                await self._back_off(errors, failures, stop)

    async def _serve(self, stop: asyncio.Event) -> None:
        if not self._declared:
            await asyncio.to_thread(declare_topology, self._settings)
            self._declared = True
        async with _publisher(self._settings) as publisher, _session(self._settings) as conn:
            session = _Session(conn, publisher, batch=self._settings.relay_batch)
            log.info("relay_connected")
            self.serving = True
            try:
                await session.run(stop)
            finally:
                self.serving = False

    async def _back_off(
        self, errors: BaseExceptionGroup[BaseException], failures: int, stop: asyncio.Event
    ) -> None:
        wait_seconds = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS)) - 1]
        error = first_error(errors)
        # After an outage another broker may answer, and an empty one.
        self._declared = not isinstance(error, ExchangeMissingError)
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        log.warning("relay_interrupted", reason=reason, wait_seconds=wait_seconds)
        await sleep_or_stop(wait_seconds, stop)


class _Session:
    """One connection to each side, until either is lost."""

    def __init__(
        self, conn: "asyncpg.Connection[asyncpg.Record]", publisher: Publisher, *, batch: int
    ) -> None:
        self._conn = conn
        self._publisher = publisher
        self._batch = batch
        self._slots = Slots(conn)
        # asyncpg runs one statement at a time on a connection.
        self._statement = asyncio.Lock()
        self._busy: set[int] = set()
        self._resting: dict[int, float] = {}
        self._deliveries: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop`; raises a group with the error that ended it."""
        await relay.join(self._conn)
        async with asyncio.TaskGroup() as group:
            watchers = [
                group.create_task(self._publisher.wait_lost()),
                group.create_task(self._wait_locks_lost()),
                group.create_task(self._rebalance_for_ever()),
            ]
            await self._pump(group, stop)
            await self._drain()
            for task in (*watchers, *self._deliveries):
                task.cancel()

    async def _pump(self, group: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        while not stop.is_set():
            rows = await self._read()
            if rows:
                task = group.create_task(self._deliver(rows))
                self._deliveries.add(task)
                task.add_done_callback(self._deliveries.discard)
            await self._pause(len(rows), stop)

    async def _read(self) -> list[Unpublished]:
        """The next batch; its slots are busy from here on.

        Under the lock that `rebalance` takes too, or a slot could be given away between being
        chosen and being read.
        """
        async with self._statement:
            idle = self._idle_slots()
            rows = await relay.read_unpublished(self._conn, idle, limit=self._batch) if idle else []
            if rows:
                self._slots.rotate(rows[-1].slot)
                self._busy |= {row.slot for row in rows}
        return rows

    def _idle_slots(self) -> list[int]:
        now = machine_now()
        self._resting = {slot: until for slot, until in self._resting.items() if until > now}
        unavailable = self._busy | self._resting.keys()
        return [slot for slot in self._slots.owned if slot not in unavailable]

    async def _pause(self, found: int, stop: asyncio.Event) -> None:
        """Wait for what makes the next read worth while."""
        if len(self._deliveries) >= BATCHES_IN_FLIGHT:
            await asyncio.wait(self._deliveries, return_when=asyncio.FIRST_COMPLETED)
        elif found < self._batch:
            idle = not found and not self._deliveries
            await sleep_or_stop(IDLE_SECONDS if idle else LINGER_SECONDS, stop)

    async def _deliver(self, rows: Sequence[Unpublished]) -> None:
        refused = await self._publish(rows)
        confirmed = [
            row
            for row in rows
            if row.subject not in refused or row.position < refused[row.subject].position
        ]
        async with self._statement:
            await relay.mark_published(self._conn, confirmed)
        metrics.OUTBOX_PUBLISHED.inc(len(confirmed))
        if refused:
            log.warning("messages_refused", count=len(refused), wait_seconds=REFUSED_SECONDS)
            until = machine_now() + REFUSED_SECONDS
            self._resting |= {row.slot: until for row in refused.values()}
        self._busy -= {row.slot for row in rows}

    async def _publish(self, rows: Sequence[Unpublished]) -> dict[str, Unpublished]:
        """Publish in waves; the answer has the first refused message of each subject, if any."""
        refused: dict[str, Unpublished] = {}
        for wave in waves(rows):
            sent = [row for row in wave if row.subject not in refused]
            if sent:
                refused |= {row.subject: row for row in await self._publisher.publish(sent)}
        return refused

    async def _drain(self) -> None:
        if self._deliveries:
            await asyncio.wait(self._deliveries, timeout=DRAIN_SECONDS)

    async def _rebalance_for_ever(self) -> None:
        while True:
            async with self._statement:
                moved = await self._slots.rebalance(busy=self._busy)
            if moved:
                log.info("slots_rebalanced", slots=len(self._slots.owned))
            await asyncio.sleep(REBALANCE_SECONDS)

    async def _wait_locks_lost(self) -> None:
        lost = asyncio.Event()
        self._conn.add_termination_listener(lambda _conn: lost.set())
        if not self._conn.is_closed():
            await lost.wait()
        raise LocksLostError("the database connection ended")


async def sleep_or_stop(seconds: float, stop: asyncio.Event) -> None:
    """Return after `seconds`, or as soon as `stop` is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


@contextlib.asynccontextmanager
async def _publisher(settings: Settings) -> AsyncIterator[Publisher]:
    publisher = await Publisher.open(settings)
    try:
        yield publisher
    finally:
        await publisher.close()


@contextlib.asynccontextmanager
async def _session(
    settings: Settings,
) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    conn = await db.connect(settings, application_name="renewd relay", claims=True)
    try:
        yield conn
    finally:
        # Not `close`: it waits for a statement that is running, and others wait for our locks.
        conn.terminate()


def first_error(errors: BaseException) -> BaseException:
    """The first error in a group of groups."""
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    return errors

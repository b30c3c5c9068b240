"""Messages in: from queue `renewd.platform` to the database, in batches, acknowledged after commit.

pika's blocking connection has a thread of its own; each batch is applied by a coroutine of the event
loop, while the thread keeps the heartbeats going. Whatever goes wrong, the messages that were not
committed go back to the queue: by closing the channel, never by a negative acknowledgement, and at most
once per outage, because a quorum queue may count how often it had to hand a message out again.

Postgres away: consuming ends, and begins again once the database answers. Broker away: connect again,
for ever. Stop: the batch in work is finished, or goes back if it takes too long.
"""

import asyncio
import concurrent.futures
import contextlib
import hashlib
import threading
from collections import Counter, deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import asyncpg
import pika
import structlog
from pika.exceptions import AMQPError

from worker import db
from worker.clock import machine_now
from worker.context import WorkerContext
from worker.errors import ServerUnreachable
from worker.platform.batches import Delivery, apply_batch
from worker.platform.topology import QUEUE, declare_topology, parameters
from worker.settings import Settings
from worker.store import inbox

T = TypeVar("T")

IDLE_SECONDS = 0.5
"""Time between two looks at `stop` while nothing comes: a wake-up costs 0.1 ms."""

WORK_SECONDS = 1
"""Time between two heartbeat looks while a batch is being applied."""

STOP_SECONDS = 15
"""A batch that is not committed this long after `stop` goes back to the queue."""

UNSURE_BATCHES = 2
"""So many acknowledgements may be on their way when a connection breaks. What has an id needs no such
memory; a message without one would else be kept twice."""

BACKOFF_SECONDS = (0.2, 0.5, 1, 2, 5)

log = structlog.get_logger()


class ConsumerLostError(Exception):
    """The channel was closed or the consumer cancelled by the broker."""


class BatchLostError(Exception):
    """A batch was not committed; its messages go back."""


AWAY: tuple[type[BaseException], ...] = (
    AMQPError,
    ServerUnreachable,
    ConsumerLostError,
    BatchLostError,
    asyncpg.PostgresError,  # such as a table that `renewd migrate` has yet to make
    *db.TRANSIENT,
)


class Intake:
    """Takes messages in for as long as `run` runs; several may share the queue."""

    def __init__(self, settings: Settings, context: WorkerContext) -> None:
        self._settings = settings
        self._context = context
        self._stopping = threading.Event()
        self._committed: deque[list[bytes]] = deque(maxlen=UNSURE_BATCHES)
        self.serving = False

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set; survives any loss of the database or the broker.

        Raises `TopologyError` if an exchange or queue is there with other arguments.
        """
        loop = asyncio.get_running_loop()
        consuming = asyncio.ensure_future(asyncio.to_thread(self._consume_for_ever, loop))
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({consuming, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stopping.set()
            stopped.cancel()
            # A thread cannot be cancelled: wait for it even if we are.
            await asyncio.shield(consuming)

    def _consume_for_ever(self, loop: asyncio.AbstractEventLoop) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = machine_now()
            try:
                self._wait_for(loop, self._probe())
                declare_topology(self._settings)
                self._serve(loop)
            except AWAY as error:
                lasted = machine_now() - began
                failures = 1 if lasted > BACKOFF_SECONDS[-1] else failures + 1
                self._back_off(error, failures)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        connection = pika.BlockingConnection(parameters(self._settings, "renewd intake"))
        try:
            unsure = Counter(digest for batch in self._committed for digest in batch)
            consumer = _Consumer(connection, self._settings, unsure)
            log.info("intake_connected", queue=QUEUE)
            self.serving = True
            while not self._stopping.is_set():
                batch = consumer.next_batch()
                if batch:
                    self._apply(loop, connection, batch)
                    consumer.acknowledge(batch)
        finally:
            self.serving = False
            if connection.is_open:
                connection.close()

    def _apply(
        self, loop: asyncio.AbstractEventLoop, connection: Any, batch: "list[_Tagged]"
    ) -> None:
        deliveries = [tagged.delivery for tagged in batch]
        self._wait_for(loop, self._apply_batch(deliveries), connection)
        self._committed.append([_digest(delivery.body) for delivery in deliveries])

    async def _apply_batch(self, deliveries: list[Delivery]) -> None:
        async with self._context.pool.acquire() as conn:
            clock = await inbox.read_clock(conn)
        await apply_batch(self._context, deliveries, clock=clock)

    async def _probe(self) -> None:
        async with self._context.pool.acquire() as conn:
            await inbox.read_clock(conn)

    def _wait_for(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, T],
        connection: Any = None,
    ) -> T:
        """Run it in the event loop and wait, with heartbeats; give it up long after `stop`."""
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        stopped_at: float | None = None
        while not future.done():
            concurrent.futures.wait([future], timeout=WORK_SECONDS)
            if connection is not None:
                # Lost: then the batch ends all the same, and acknowledging it fails.
                with contextlib.suppress(AMQPError, OSError):
                    connection.process_data_events(0)
            if self._stopping.is_set():
                stopped_at = stopped_at or machine_now()
                if machine_now() - stopped_at > STOP_SECONDS:
                    future.cancel()
                    raise BatchLostError("not committed in time to stop")
        return future.result()

    def _back_off(self, error: BaseException, failures: int) -> None:
        wait_seconds = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS)) - 1]
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        log.warning("intake_interrupted", reason=reason, wait_seconds=wait_seconds)
        self._stopping.wait(wait_seconds)


@dataclass(frozen=True, slots=True)
class _Tagged:
    tag: int
    delivery: Delivery


@dataclass(slots=True)
class _Consumer:
    """A channel that hands messages out in batches: full ones, or what came within the flush time."""

    connection: Any
    settings: Settings
    unsure: Counter[bytes]
    channel: Any = field(init=False)
    pending: deque[_Tagged] = field(default_factory=deque)
    first_at: float = 0
    canceled: bool = False

    def __post_init__(self) -> None:
        self.channel = self.connection.channel()
        # The next batch is in memory while this one is being applied.
        self.channel.basic_qos(prefetch_count=2 * self.settings.platform_batch)
        self.channel.add_on_cancel_callback(self._on_cancel)
        self.channel.basic_consume(QUEUE, self._on_message)

    def next_batch(self) -> list[_Tagged]:
        """The next batch, empty if there is none yet. Raises `ConsumerLostError` or an AMQP error."""
        self.connection.process_data_events(self._patience())
        if self.canceled or not self.channel.is_open:
            # pika tells it to nobody who only processes events.
            raise ConsumerLostError("the broker closed the channel or cancelled the consumer")
        if not self.pending or (self._patience() > 0 and not self._is_full()):
            return []
        size = min(len(self.pending), self.settings.platform_batch)
        self.first_at = machine_now()
        return [self.pending.popleft() for _ in range(size)]

    def acknowledge(self, batch: list[_Tagged]) -> None:
        """The broker may forget these and all before them; call it after the commit."""
        self.channel.basic_ack(batch[-1].tag, multiple=True)

    def _patience(self) -> float:
        """How long to wait for more."""
        if self._is_full():
            return 0
        if not self.pending:
            return IDLE_SECONDS
        until = self.first_at + self.settings.platform_flush_ms / 1000
        return max(0, until - machine_now())

    def _is_full(self) -> bool:
        return len(self.pending) >= self.settings.platform_batch

    def _on_message(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if not self.pending:
            self.first_at = machine_now()
        repeated = method.redelivered and self._was_committed(body)
        delivery = Delivery(body, properties.headers or {}, repeated)
        self.pending.append(_Tagged(method.delivery_tag, delivery))

    def _was_committed(self, body: bytes) -> bool:
        """Whether it is one of those whose acknowledgement may not have arrived."""
        digest = _digest(body)
        if not self.unsure[digest]:
            return False
        self.unsure[digest] -= 1
        return True

    def _on_cancel(self, _frame: Any) -> None:
        self.canceled = True


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).digest()

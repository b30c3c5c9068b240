"""Doorbells: Dramatiq on RabbitMQ, with what it needs so that a doorbell harms nobody.

A message carries ids and says "look here". It may be lost, doubled or late; the sweeps ring again.
Therefore there is no Retries middleware (an actor that fails is acknowledged, its rows come back
with their lease), no delayed message, and no age limit. Dramatiq 2.2.1 as it stands would lose a
*neighbour*: after a channel reset, the ack of an old delivery may hit another message's new one.
`OwnedConsumer` refuses such acks.
"""

# mypy: allow-untyped-calls
# (dramatiq leaves the inside of its RabbitMQ broker without annotations)

import contextlib
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import dramatiq
import pika
import structlog
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqConsumer
from dramatiq.brokers.stub import StubBroker

from worker import limits, metrics
from worker.errors import ServerUnreachable
from worker.middleware import house_middleware
from worker.settings import Settings
from worker.settings_values import MaskedUrl, QueueType

QUEUES = ("charge", "notify", "maintenance")
"""Few on purpose: each costs a consumer thread and a connection in every worker."""

DELIVERY_LIMIT = 5
"""A doorbell that killed this many workers is set aside (quorum queues only can count)."""

log = structlog.get_logger()


class DelayRefusedError(AssertionError):
    """A message was sent with a delay: business time lives in Postgres, never in the broker."""


class OwnedConsumer(_RabbitmqConsumer):
    """A consumer that acknowledges only what it delivered itself.

    Delivery tags count from 1 on every channel. After a reset, the tag of a job that began before
    is the tag of another message now; that ack must be dropped, the job's message comes again.
    """

    def __next__(self) -> Any:
        message = super().__next__()
        if message is not None:
            message.consumed_by = self
        return message

    def ack(self, message: Any) -> None:
        """Acknowledge, unless the message came over a channel that is gone."""
        if self._owns(message):
            super().ack(message)

    def nack(self, message: Any) -> None:
        """Reject, unless the message came over a channel that is gone."""
        if self._owns(message):
            super().nack(message)

    def _owns(self, message: Any) -> bool:
        if getattr(message, "consumed_by", None) is self:
            return True
        metrics.STALE_ACKS.inc()
        log.warning("stale_ack_dropped", message_id=message.message_id, queue=self.queue_name)
        return False


class BillingBroker(RabbitmqBroker):
    """RabbitMQ with confirmed doorbells, a bounded prefetch and no delay queues."""

    def __init__(
        self, url: str, *, queue_type: QueueType, prefetch: int, heartbeat_seconds: int
    ) -> None:
        super().__init__(
            url=_bounded(url, heartbeat_seconds),
            confirm_delivery=True,
            middleware=house_middleware(),
        )
        self.url = MaskedUrl(url)
        self._queue_type = queue_type
        self._prefetch = prefetch

    @property
    def consumer_class(self) -> type[OwnedConsumer]:
        """The consumer that refuses stale acks."""
        return OwnedConsumer

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Any:
        """Consume with our own prefetch; Dramatiq takes its from the environment at import."""
        consumer = super().consume(queue_name, min(prefetch, self._prefetch), timeout)
        # The queue was declared over a connection of this thread that nobody will serve again: it
        # would die by missed heartbeats and leave an error in RabbitMQ's log.
        with contextlib.suppress(pika.exceptions.AMQPError):
            del self.connection
        return consumer

    def enqueue(self, message: "dramatiq.Message[Any]", *, delay: int | None = None) -> Any:
        """Publish and wait for the broker's confirm."""
        if delay is not None:
            raise DelayRefusedError(f"{message.actor_name} was sent with a delay of {delay} ms")
        return super().enqueue(message)

    def get_declared_delay_queues(self) -> set[str]:
        """None: so a worker starts no consumers for them."""
        return set()

    def get_queue_message_counts(self, queue_name: str) -> tuple[int, int, int]:
        """Ready messages of the queue, of its delay queue (none) and of its dead letters."""
        ready = self._declare_queue(queue_name).method.message_count
        dead = self._declare_xq_queue(queue_name).method.message_count
        return ready, 0, dead

    def _declare_dq_queue(self, queue_name: str) -> None:
        """Declare nothing: nothing is ever delayed."""

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        arguments: dict[str, Any] = super()._build_queue_arguments(queue_name)
        arguments["x-queue-type"] = str(self._queue_type)
        if self._queue_type is QueueType.QUORUM:
            arguments["x-delivery-limit"] = DELIVERY_LIMIT
        return arguments


class QuietStubBroker(StubBroker):
    """Dramatiq's broker in memory, without consumers for delay queues."""

    def get_declared_queues(self) -> set[str]:
        """The queues that actors are on; Dramatiq's stub counts the delay queues among them."""
        return super().get_declared_queues() - self.delay_queues

    def get_declared_delay_queues(self) -> set[str]:
        """None, as in `BillingBroker`."""
        return set()


def make_broker(settings: Settings) -> BillingBroker:
    """The broker of RENEWD_AMQP_URL; nothing is connected or declared yet."""
    return BillingBroker(
        settings.amqp_url,
        queue_type=settings.queue_type,
        prefetch=settings.worker_threads,
        heartbeat_seconds=settings.amqp_heartbeat_seconds,
    )


def make_stub_broker() -> StubBroker:
    """A broker in memory with the same middleware, for the demo and for tests."""
    return QuietStubBroker(middleware=house_middleware())


def outstanding(broker: dramatiq.Broker, queue: str) -> int:
    """How many doorbells wait in a queue, not counting those that workers hold.

    Blocks for a round trip, so call it from a thread that may; each thread keeps a connection of
    its own. Raises `ServerUnreachable` when the broker does not answer.
    """
    if isinstance(broker, BillingBroker):
        return _ready(broker, queue)
    waiting: int = broker.queues[queue].qsize()
    return waiting


def _ready(broker: BillingBroker, queue: str) -> int:
    try:
        broker.declare_queue(queue, ensure=True)
        declared = broker.channel.queue_declare(queue, passive=True)
    except (pika.exceptions.AMQPError, dramatiq.ConnectionClosed, OSError) as error:
        broker.queues_pending.add(queue)  # perhaps somebody deleted it
        with contextlib.suppress(pika.exceptions.AMQPError):
            del broker.connection
        said = f"RENEWD_AMQP_URL is {broker.url!r}: should be a broker that answers"
        raise ServerUnreachable(f"{said} ({_innermost(error)!r})") from error
    ready: int = declared.method.message_count
    return ready


def _innermost(error: BaseException) -> BaseException:
    """What pika and dramatiq wrapped, outermost first, in the arguments of their errors."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    return error


def _bounded(url: str, heartbeat_seconds: int) -> str:
    """The URL with an end to every wait, where its query does not say so itself."""
    waits = {
        "heartbeat": heartbeat_seconds,
        "blocked_connection_timeout": heartbeat_seconds,
        "socket_timeout": limits.CONNECT_TIMEOUT_SECONDS,
        "stack_timeout": 2 * limits.CONNECT_TIMEOUT_SECONDS,
    }
    parts = urlsplit(url)
    query = urlencode(waits | dict(parse_qsl(parts.query)))
    return urlunsplit(parts._replace(query=query))

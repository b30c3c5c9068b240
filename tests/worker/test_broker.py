"""Doorbells in memory and on a real RabbitMQ."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dramatiq
import pika
import pytest
from dramatiq.asyncio import get_event_loop_thread
from structlog.contextvars import get_contextvars

from lab.servers.process import wait_until
from worker import metrics
from worker.broker import (
    BillingBroker,
    DelayRefusedError,
    make_broker,
    make_stub_broker,
    outstanding,
)
from worker.errors import ServerUnreachable
from worker.settings import isolated_settings
from worker.settings_values import QueueType

SECONDS = 20


@contextmanager
def working(broker: dramatiq.Broker, threads: int = 2) -> Iterator[dramatiq.Worker]:
    worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=100)
    broker.emit_after("process_boot")
    worker.start()
    try:
        yield worker
    finally:
        worker.stop(timeout=5000)
        broker.close()


def rabbit(amqp_url: str, **more: Any) -> BillingBroker:
    return make_broker(isolated_settings(amqp_url=amqp_url, worker_threads=3, **more))


class Held:
    """The body of an actor: every call waits until it is let go."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, threading.Event]] = []
        self.ended: list[str] = []
        self.open = threading.Event()

    def run(self, name: str) -> None:
        gate = threading.Event()
        self.calls.append((name, gate))
        assert wait_until(lambda: gate.is_set() or self.open.is_set(), seconds=SECONDS)
        self.ended.append(name)

    def let_go(self, name: str) -> None:
        """The first call with this name."""
        next(gate for called, gate in self.calls if called == name).set()


def test_actors_run_in_one_uvloop_with_their_log_context() -> None:
    """An async actor runs in the daemon uvloop and its lines carry message and actor."""
    seen: dict[str, object] = {}
    broker = make_stub_broker()

    @dramatiq.actor(broker=broker, queue_name="charge")
    async def look() -> None:
        loop_thread = get_event_loop_thread()
        assert loop_thread is not None
        seen.update(get_contextvars(), loop=type(loop_thread.loop).__module__)
        seen["daemon"] = loop_thread.daemon

    with working(broker):
        message = look.send()
        broker.join("charge", timeout=SECONDS * 1000)
    assert seen == {
        "message_id": message.message_id,
        "actor": "look",
        "loop": "uvloop",
        "daemon": True,
    }


def test_failed_actor_is_not_repeated() -> None:
    """A doorbell whose actor fails is answered once, counted, and never retried."""
    calls: list[int] = []
    broker = make_stub_broker()

    @dramatiq.actor(broker=broker, queue_name="charge")
    async def fail_once() -> None:
        calls.append(1)
        raise RuntimeError("as planned")

    with working(broker):
        fail_once.send()
        broker.join("charge", timeout=SECONDS * 1000, fail_fast=False)
        assert outstanding(broker, "charge") == 0
    assert calls == [1]
    labels = {"actor": "fail_once", "result": "failed"}
    assert metrics.REGISTRY.get_sample_value("renewd_doorbells_total", labels) == 1


def test_stub_worker_has_no_delay_consumers() -> None:
    """In memory too, a worker consumes the declared queues and nothing else."""
    broker = make_stub_broker()
    broker.declare_queue("charge")
    with working(broker) as worker:
        assert list(worker.consumers) == ["charge"]


def test_delays_are_refused(amqp_url: str) -> None:
    """Nobody can put business time into the broker."""
    broker = rabbit(amqp_url)

    @dramatiq.actor(broker=broker, queue_name="refusing")
    def later() -> None: ...

    with pytest.raises(DelayRefusedError):
        later.send_with_options(delay=1000)


@pytest.mark.parametrize("queue_type", list(QueueType))
def test_doorbells_of_both_queue_types(amqp_url: str, queue_type: QueueType) -> None:
    """Doorbells are confirmed, counted and answered on classic and on quorum queues."""
    broker = rabbit(amqp_url, queue_type=queue_type)
    queue = f"of_{queue_type}"
    seen: list[int] = []
    done = threading.Event()

    @dramatiq.actor(broker=broker, queue_name=queue)
    async def ring(number: int) -> None:
        seen.append(number)
        if len(seen) == 20:
            done.set()

    for number in range(20):
        ring.send(number)
    assert wait_until(lambda: outstanding(broker, queue) == 20, seconds=SECONDS)
    with working(broker) as worker:
        assert done.wait(SECONDS)
        assert list(worker.consumers) == [queue]
    assert sorted(seen) == list(range(20))


def test_only_named_queues_are_declared(amqp_url: str) -> None:
    """A queue and its dead letters exist on the server; no delay queue does."""
    broker = rabbit(amqp_url)
    broker.declare_queue("plain", ensure=True)
    assert outstanding(broker, "plain") == 0
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        broker.channel.queue_declare("plain.DQ", passive=True)


def test_prefetch_is_bounded(amqp_url: str) -> None:
    """A worker holds as many doorbells of a queue as it has threads, whatever Dramatiq wants."""
    broker = rabbit(amqp_url)
    held = Held()

    @dramatiq.actor(broker=broker, queue_name="prefetched")
    def hold(name: str) -> None:
        held.run(name)

    for number in range(10):
        hold.send(str(number))
    with working(broker, threads=2):
        assert wait_until(lambda: outstanding(broker, "prefetched") == 7, seconds=SECONDS)
        held.open.set()
        assert wait_until(lambda: len(held.ended) == 10, seconds=SECONDS)


def test_stale_ack_loses_no_neighbour(amqp_url: str) -> None:
    """After a lost connection, the ack of an old delivery does not remove another message."""
    broker = rabbit(amqp_url)
    held = Held()

    @dramatiq.actor(broker=broker, queue_name="resetting")
    def hold(name: str) -> None:
        held.run(name)

    for name in ("a", "b", "c"):
        hold.send(name)
    before = metrics.STALE_ACKS._value.get()
    with working(broker, threads=3) as worker:
        assert wait_until(lambda: len(held.calls) == 3, seconds=SECONDS)
        consumer = worker.consumers["resetting"]
        first = consumer.consumer
        assert first is not None
        connection = first.connection  # type: ignore[attr-defined]
        connection.add_callback_threadsafe(connection.close)
        assert wait_until(lambda: consumer.consumer is not first, seconds=SECONDS)
        # The second consumer holds all three again, under the tags that the first one knew.
        known = consumer.consumer.known_tags  # type: ignore[union-attr]
        assert wait_until(lambda: known == {1, 2, 3}, seconds=SECONDS)
        held.let_go("b")
        assert wait_until(lambda: metrics.STALE_ACKS._value.get() > before, seconds=SECONDS)
        assert known == {1, 2, 3}
        held.open.set()
        assert wait_until(lambda: len(held.ended) == 6, seconds=SECONDS)
        assert wait_until(lambda: known == set(), seconds=SECONDS)
    assert sorted(held.ended) == ["a", "a", "b", "b", "c", "c"]


def test_unreachable_broker_is_named() -> None:
    """Counting doorbells at a broker that is away says which one, without its password."""
    broker = rabbit("amqp://someone:hunter2@127.0.0.1:1/vhost")
    with pytest.raises(ServerUnreachable) as raised:
        outstanding(broker, "charge")
    assert str(raised.value).startswith("RENEWD_AMQP_URL is 'amqp://someone:***@127.0.0.1:1/vhost'")
    assert raised.value.exit_code == 3
    assert "hunter2" not in str(raised.value)


def test_deleted_queue_is_declared_again(amqp_url: str) -> None:
    """A queue that somebody deleted comes back with the next count, which finds it empty."""
    broker = rabbit(amqp_url)
    assert outstanding(broker, "deleted") == 0
    broker.channel.queue_delete("deleted")
    with pytest.raises(ServerUnreachable):
        outstanding(broker, "deleted")
    assert outstanding(broker, "deleted") == 0

import asyncio
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import asyncpg
import pika
import pytest

from billing.messages import MessageType, OutboxRow, slot_of, unnumbered
from tests.worker.amqp import Listener, Proxy
from tests.worker.messages_out import (
    EACH,
    SUBSCRIPTIONS,
    add_people,
    everything,
    is_published,
    relaying,
    wait_until_published,
    write_all,
)
from tests.worker.people import NOW
from tests.worker.waiting import until
from worker.db import Pool
from worker.platform import relay
from worker.platform.relay import Relay, waves
from worker.platform.topology import declare_topology
from worker.settings import Settings, isolated_settings
from worker.store import outbox
from worker.store import relay as store
from worker.store.relay import Unpublished

INTERRUPT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'renewd relay'
"""


@pytest.fixture
def exchange(amqp_url: str) -> str:
    """A broker with exchange `billing`, as `renewd migrate` leaves it."""
    declare_topology(isolated_settings(amqp_url=amqp_url))
    return amqp_url


@pytest.fixture
def listener(exchange: str) -> Iterator[Listener]:
    listening = Listener(exchange, "platform.test")
    yield listening
    listening.close()


@pytest.fixture
async def settings(database_url: str, exchange: str) -> Settings:
    return isolated_settings(database_url=database_url, amqp_url=exchange, relay_batch=50)


def row(position: int, subject: str) -> Unpublished:
    return Unpublished(position, 0, "billing.subscription.renewed", "{}", subject, str(position))


def test_a_wave_never_holds_two_messages_of_one_subject() -> None:
    """Wave n has the n-th message of each subject, in the order of positions."""
    rows = [row(1, "a"), row(2, "b"), row(3, "a"), row(4, "c"), row(5, "a"), row(6, "b")]
    positions = [[each.position for each in wave] for wave in waves(rows)]
    assert positions == [[1, 2, 4], [3, 6], [5]]


async def test_order_under_concurrent_writers(
    pool: Pool, settings: Settings, listener: Listener
) -> None:
    """What is written by many transactions at once arrives in order and without gaps."""
    await add_people(pool)
    async with relaying(settings):
        await write_all(pool)
        await listener.wait_for(len(SUBSCRIPTIONS) * EACH)
        await wait_until_published(pool)
    assert listener.first_appearances() == everything()
    assert len(listener.bodies) == len(SUBSCRIPTIONS) * EACH


async def test_the_form_of_a_message(pool: Pool, settings: Settings, listener: Listener) -> None:
    """Routing key is the type, the id of the event is the message id, and messages are persistent."""
    refusal = unnumbered(MessageType.EVENT_REJECTED, subject="evt_1", fields={"field": "x"}, at=NOW)
    async with pool.acquire() as conn:
        await outbox.append(conn, [refusal])
    async with relaying(settings):
        await listener.wait_for(1)
    method, properties = listener.properties[0]
    body = listener.bodies[0]
    assert (method.exchange, method.routing_key) == ("billing", "billing.event.rejected")
    assert properties.content_type == "application/cloudevents+json"
    assert properties.delivery_mode == pika.DeliveryMode.Persistent.value
    assert properties.message_id == body["id"]
    assert body["type"] == "billing.event.rejected"


async def test_positions_that_commit_late_are_not_passed_over(
    pool: Pool, settings: Settings, listener: Listener
) -> None:
    """A row whose transaction began earlier but ended later is published too."""

    def of(subject: str) -> OutboxRow:
        return unnumbered(MessageType.EVENT_REJECTED, subject=subject, fields={}, at=NOW)

    first = next(f"evt_{n}" for n in range(1000) if slot_of(f"evt_{n}") == 7)
    second = next(f"evt_{n}" for n in range(1000, 2000) if slot_of(f"evt_{n}") == 7)
    async with relaying(settings), pool.acquire() as early, pool.acquire() as late:
        transaction = early.transaction()
        await transaction.start()
        await outbox.append(early, [of(first)])
        await outbox.append(late, [of(second)])
        await listener.wait_for(1)
        await transaction.commit()
        await listener.wait_for(2)
    assert [body["subject"] for body in listener.bodies] == [second, first]


async def test_refused_messages_are_not_overtaken(
    pool: Pool, settings: Settings, exchange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that is full refuses; its consumer still sees first appearances in order."""
    monkeypatch.setattr(relay, "REFUSED_SECONDS", 0.05)
    arguments = {"x-max-length": 15, "x-overflow": "reject-publish"}
    await add_people(pool)
    await write_all(pool)
    with closing(Listener(exchange, "platform.small", **arguments)) as small:
        async with relaying(settings), asyncio.timeout(60):
            while small.first_appearances() != everything():
                # Slower than the relay, so that it meets a full queue again and again.
                if not small.read(10):
                    await asyncio.sleep(0.02)
                assert in_order(small)
            await wait_until_published(pool)


def in_order(listener: Listener) -> bool:
    return all(
        sequences == list(range(1, len(sequences) + 1))
        for sequences in listener.first_appearances().values()
    )


async def test_a_connection_cut_in_the_middle_of_a_batch(
    pool: Pool,
    database_url: str,
    exchange: str,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After every cut it goes on from the first unconfirmed message; nothing is lost or reordered."""
    monkeypatch.setattr(relay, "BACKOFF_SECONDS", (0.05,))
    await add_people(pool)
    await write_all(pool)
    proxy = Proxy(exchange)
    url = await proxy.start()
    settings = isolated_settings(database_url=database_url, amqp_url=url, relay_batch=50)
    async with relaying(settings):
        for size in (3_000, 20_000, 9_000, 50_000, 30_000):
            await proxy.cut_in(size, or_when=partial(is_published, pool))
        await listener.wait_for(len(SUBSCRIPTIONS) * EACH)
        await wait_until_published(pool)
    await proxy.stop()
    assert listener.first_appearances() == everything()


async def test_a_broker_without_the_exchange(
    pool: Pool, settings: Settings, exchange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exchange that was deleted, or a new and empty broker, is set up again."""
    monkeypatch.setattr(relay, "BACKOFF_SECONDS", (0.05,))
    rows = [
        unnumbered(MessageType.EVENT_REJECTED, subject=f"evt_{n}", fields={}, at=NOW)
        for n in range(3)
    ]
    async with relaying(settings) as (each,):
        await until(partial(is_serving, each))
        connection = pika.BlockingConnection(pika.URLParameters(exchange))
        connection.channel().exchange_delete("billing")
        connection.close()
        async with pool.acquire() as conn:
            await outbox.append(conn, rows)
        await wait_until_published(pool)


async def is_serving(each: Relay) -> bool:
    return each.serving


async def test_a_lost_database_session_is_taken_up_again(
    pool: Pool, settings: Settings, listener: Listener
) -> None:
    """When Postgres ends the relay's session it stops, and goes on with a new one."""
    await add_people(pool)
    async with relaying(settings):
        writing = asyncio.create_task(write_all(pool))
        for _ in range(3):
            await until(partial(pool.fetchval, INTERRUPT))
        await writing
        await listener.wait_for(len(SUBSCRIPTIONS) * EACH)
        await wait_until_published(pool)
    assert listener.first_appearances() == everything()


async def test_a_crash_between_confirm_and_mark(
    pool: Pool, settings: Settings, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Confirmed messages that were not marked come twice; first appearances stay in order."""
    crashes = iter(range(5))
    mark_published = store.mark_published

    async def crash_at_first(
        conn: "asyncpg.Connection[asyncpg.Record]", rows: list[store.Unpublished]
    ) -> None:
        if next(crashes, None) is not None:
            raise ConnectionResetError
        await mark_published(conn, rows)

    monkeypatch.setattr(store, "mark_published", crash_at_first)
    monkeypatch.setattr(relay, "BACKOFF_SECONDS", (0.05,))
    await add_people(pool)
    await write_all(pool)
    async with relaying(settings):
        await wait_until_published(pool)
    listener.read()
    assert listener.first_appearances() == everything()
    assert len(listener.bodies) > len(SUBSCRIPTIONS) * EACH

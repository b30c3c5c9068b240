"""`renewd bench intake` and `relay`: messages a second in and out, beside a bare loop of the same rows."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pika

from billing.messages import Message, MessageType, OutboxRow, Party, numbered
from lab.bench import processes
from lab.bench.stage import GATEWAY, Stage
from lab.store import bench
from worker.platform.publisher import Publisher
from worker.platform.topology import declare_topology
from worker.settings import Settings, isolated_settings
from worker.store import inbox, outbox
from worker.store.relay import Unpublished

BATCH = 500
STALLED_SECONDS = 60

Say = Callable[[str], None]


async def bench_intake(stage: Stage, people: int, say: Say) -> dict[str, object]:
    """Three messages a person through RabbitMQ into rows, against the same bodies merely stored."""
    settings = _settings(stage)
    await asyncio.to_thread(declare_topology, settings)
    bodies = list(_sign_ups(people))
    say(f"publishing {len(bodies):,} messages")
    await asyncio.to_thread(_publish, settings, "platform", bodies)
    say("taking them in")
    since = datetime.now(UTC)
    with processes.stopping({"platform": [processes.start("platform", stage.environment)]}):
        seconds = await _until_taken(stage, since, len(bodies))
    say("the bare loop")
    bare = await _bare_intake(stage, settings, bodies)
    return _figures("messages_per_second", len(bodies) / seconds, len(bodies) / bare, len(bodies))


async def bench_relay(stage: Stage, count: int, say: Say) -> dict[str, object]:
    """Outbox rows of many subscriptions to RabbitMQ, against the same bodies merely published."""
    settings = _settings(stage)
    await asyncio.to_thread(declare_topology, settings)
    rows = _told(count)
    say(f"writing {len(rows):,} outbox rows")
    async with stage.pool.acquire() as conn:
        for n in range(0, len(rows), BATCH):
            await outbox.append(conn, rows[n : n + BATCH])
    say("publishing them")
    with processes.stopping({"platform": [processes.start("platform", stage.environment)]}):
        seconds = await _until_published(stage, len(rows))
    say("the bare loop")
    bare = await _bare_relay(settings, rows)
    return _figures("messages_per_second", len(rows) / seconds, len(rows) / bare, len(rows))


def _figures(name: str, ours: float, bare: float, messages: int) -> dict[str, object]:
    return {
        name: round(ours),
        f"bare_loop_{name}": round(bare),
        "ratio": round(ours / bare, 3),
        "messages": messages,
    }


def _settings(stage: Stage) -> Settings:
    environment = stage.environment
    return isolated_settings(
        database_url=environment["RENEWD_DATABASE_URL"],
        amqp_url=environment["RENEWD_AMQP_URL"],
        gateways=environment["RENEWD_GATEWAYS"],
    )


async def _until_taken(stage: Stage, since: datetime, wanted: int) -> float:
    """Wait until so many are taken in; returns the seconds from the first to the last of them.

    Raises `TimeoutError` when nothing moves any more.
    """
    done, seconds, moved_at = 0, 0.0, time.monotonic()
    while done < wanted:
        await asyncio.sleep(0.5)
        async with stage.pool.acquire() as conn:
            now_done, seconds = await bench.count_taken(conn, since)
        if now_done > done:
            done, moved_at = now_done, time.monotonic()
        elif time.monotonic() - moved_at > STALLED_SECONDS:
            raise TimeoutError(f"{done} of {wanted} messages, and nothing for {STALLED_SECONDS} s")
    return seconds


async def _until_published(stage: Stage, wanted: int) -> float:
    """Wait until no row is pending; returns the seconds since the first of them was confirmed."""
    started, left, moved_at = 0.0, wanted, time.monotonic()
    while left:
        await asyncio.sleep(0.02)
        async with stage.pool.acquire() as conn:
            now_left = await bench.count_unpublished(conn)
        if now_left < left:
            left, moved_at = now_left, time.monotonic()
            started = started or moved_at
        elif time.monotonic() - moved_at > STALLED_SECONDS:
            raise TimeoutError(f"{left} messages left, and nothing for {STALLED_SECONDS} s")
    return time.monotonic() - started


def _publish(settings: Settings, exchange: str, bodies: Sequence[bytes]) -> None:
    with pika.BlockingConnection(pika.URLParameters(str(settings.amqp_url))) as connection:
        channel = connection.channel()
        properties = pika.BasicProperties(delivery_mode=2)
        for body in bodies:
            channel.basic_publish(exchange, "platform.bench", body, properties)


async def _bare_intake(stage: Stage, settings: Settings, bodies: Sequence[bytes]) -> float:
    """Keys and bodies into the inbox in batches, one transaction each, from a queue of their own."""
    queue = await asyncio.to_thread(_bare_queue, settings, bodies)
    now = datetime.now(UTC)
    started = time.perf_counter()
    taken = 0
    with pika.BlockingConnection(pika.URLParameters(str(settings.amqp_url))) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=2 * BATCH)
        batch: list[bytes] = []
        for method, _, body in channel.consume(queue):
            batch.append(body)
            if len(batch) == BATCH or taken + len(batch) == len(bodies):
                keys = [inbox.Key("bare", str(taken + n)) for n in range(len(batch))]
                rows = [
                    inbox.InboxRow(key.source, key.event_id, "bench", now, "applied", body)
                    for key, body in zip(keys, batch, strict=True)
                ]
                async with stage.pool.acquire() as conn, conn.transaction():
                    await inbox.take_keys(conn, keys, now=now)
                    await inbox.insert_events(conn, rows, now=now)
                channel.basic_ack(method.delivery_tag, multiple=True)
                taken += len(batch)
                batch = []
            if taken == len(bodies):
                break
        channel.cancel()
    return time.perf_counter() - started


def _bare_queue(settings: Settings, bodies: Sequence[bytes]) -> str:
    name = "bare"
    with pika.BlockingConnection(pika.URLParameters(str(settings.amqp_url))) as connection:
        channel = connection.channel()
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
        for body in bodies:
            channel.basic_publish("", name, body, pika.BasicProperties(delivery_mode=2))
    return name


async def _bare_relay(settings: Settings, rows: Sequence[OutboxRow]) -> float:
    """The same bodies in batches with confirms: no rows read, none marked, no order kept."""
    publisher = await Publisher.open(settings)
    messages = [
        Unpublished(n, row.slot, row.type, row.body, str(n), str(n)) for n, row in enumerate(rows)
    ]
    started = time.perf_counter()
    for n in range(0, len(messages), BATCH):
        await publisher.publish(messages[n : n + BATCH])
    seconds = time.perf_counter() - started
    await publisher.close()
    return seconds


def _sign_ups(people: int) -> Iterator[bytes]:
    now = datetime.now(UTC)
    paid_through = (now + timedelta(days=20)).isoformat()
    for n in range(people):
        customer, method = f"new_{n}", f"pm_new_{n}"
        yield _event(
            "customer.upserted", n, {"customer_id": customer, "email": f"n{n}@example.com"}
        )
        attached = {"payment_method_id": method, "customer_id": customer, "gateway": GATEWAY}
        yield _event(
            "payment_method.attached", n, attached | {"token": f"tok_ok_{n}", "kind": "card"}
        )
        created = {"subscription_id": f"sub_new_{n}", "customer_id": customer, "plan_id": "plan_1"}
        yield _event(
            "subscription.created",
            n,
            created | {"payment_method_id": method, "paid_through": paid_through},
        )


def _event(kind: str, n: int, told: dict[str, str]) -> bytes:
    return json.dumps(
        {
            "specversion": "1.0",
            "id": f"{kind}-{n}",
            "source": "bench",
            "type": f"platform.{kind}",
            "time": datetime.now(UTC).isoformat(),
            "data": told,
        }
    ).encode()


def _told(count: int) -> list[OutboxRow]:
    now = datetime.now(UTC)
    told = []
    for n in range(count):
        party = Party(f"sub_{n}", f"cus_{n}", "sel_bench")
        message = Message(
            MessageType.INVOICE_PAID, party, {"amount_minor": 4900, "currency": "USD"}
        )
        told.append(numbered(message, sequence=1_000_000, at=now))
    return told

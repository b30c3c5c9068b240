"""Messages in by real processes on real servers, while these are killed and restarted."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pika
import pytest

from lab.servers import postgres, rabbitmq
from lab.servers.process import wait_until
from tests.database import SweptDatabase
from tests.system.book import Book
from tests.system.outside import malformed, publish
from tests.worker.waiting import until

ROOT = Path(__file__).resolve().parents[2]
RUN = (
    "from worker.platform.main import run_platform\n"
    "from worker.settings import load_settings\n"
    "raise SystemExit(run_platform(load_settings(env_file=None)))"
)
TOPOLOGY = (
    "from worker.platform.topology import declare_topology\n"
    "from worker.settings import load_settings\n"
    "declare_topology(load_settings(env_file=None))"
)
QUEUE = "renewd.platform"
PEOPLE = 500
UNIQUE = 1 + 5 + 3 * PEOPLE
ANONYMOUS = ("body", "a")
"""The fields of malformed messages that do not say whose they are."""

TABLES = (
    "customer",
    "payment_method",
    "subscription",
    "inbox_event",
    "inbox_key",
    "rejected_event",
)


class Stage:
    """A Postgres and a RabbitMQ that a test may break, and `renewd platform` between them."""

    def __init__(
        self, server: postgres.PostgresServer, url: str, rabbit: rabbitmq.RabbitServer
    ) -> None:
        self.postgres, self.database_url, self.rabbit = server, url, rabbit

    def run(self, code: str) -> "subprocess.Popen[bytes]":
        """A process with small batches, so that there is time to break something."""
        settings = {
            "RENEWD_DATABASE_URL": self.database_url,
            "RENEWD_AMQP_URL": self.rabbit.url,
            "RENEWD_METRICS_PORT": "0",
            "RENEWD_LOG_FORMAT": "json",
            "RENEWD_PLATFORM_BATCH": "10",
            "PYTHONPATH": str(ROOT),
        }
        return subprocess.Popen(
            [sys.executable, "-c", code], env=os.environ | settings, stderr=subprocess.PIPE
        )

    @contextmanager
    def platform(self) -> "Iterator[subprocess.Popen[bytes]]":
        """A `renewd platform` process, killed at the end; what it says is read away."""
        process = self.run(RUN)
        assert process.stderr is not None
        reader = asyncio.get_running_loop().run_in_executor(None, process.stderr.read)
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            reader.cancel()

    def declare(self) -> None:
        """The exchange and the queue, as `renewd migrate` makes them."""
        assert self.run(TOPOLOGY).wait(timeout=30) == 0

    async def count(self) -> dict[str, int]:
        """How many rows are in each table of the intake."""
        connection = await asyncpg.connect(self.database_url, timeout=5)
        try:
            return {
                table: await connection.fetchval(f"SELECT count(*) FROM {table}")
                for table in TABLES
            }
        finally:
            await connection.close()

    async def taken(self, at_least: int) -> None:
        """Wait until so many messages were taken."""

        async def enough() -> bool:
            return (await self.count())["inbox_key"] >= at_least

        await until(enough, seconds=90)

    async def drained(self, keys: int) -> None:
        """Wait until so many messages were taken and the queue holds nothing, acknowledged or not."""
        await self.taken(keys)

        async def nothing_left() -> bool:
            return not await asyncio.to_thread(self._left)

        await until(nothing_left, seconds=60)

    def _left(self) -> int:
        listed = self.rabbit.rabbitmqctl("list_queues", "-q", "name", "messages")
        return sum(
            int(line.split("\t")[1]) for line in listed.splitlines() if line.startswith(QUEUE)
        )


@pytest.fixture(scope="module")
def servers() -> "Iterator[tuple[postgres.PostgresServer, rabbitmq.RabbitServer]]":
    with postgres.private() as database, rabbitmq.private() as rabbit:
        yield database, rabbit


@pytest.fixture
async def stage(servers: tuple[postgres.PostgresServer, rabbitmq.RabbitServer], seed: int) -> Stage:
    """An empty database, and a queue that was not declared before."""
    database, rabbit = servers
    url = database.create_database(f"intake_{seed}")
    await SweptDatabase.load(url)
    with pika.BlockingConnection(pika.URLParameters(rabbit.url)) as connection:
        connection.channel().queue_delete(QUEUE)
    return Stage(database, url, rabbit)


def stream(rng: random.Random) -> tuple[list[bytes], Counter[str], int]:
    """Bodies with malformed ones in between, the fields of those, and how many have an id."""
    now = datetime.now(UTC).replace(microsecond=0)
    bodies = list(Book(PEOPLE, rng, now, due_from=now + timedelta(hours=6)).messages())
    bad = malformed(rng, now)
    for body, _ in bad:
        bodies.insert(rng.randrange(len(bodies)), body)
    fields = Counter(field for _, field in bad)
    return bodies, fields, UNIQUE + sum(n for field, n in fields.items() if field not in ANONYMOUS)


async def rejected_fields(stage: Stage, *, named: bool) -> Counter[str]:
    """The fields of rejected messages, of those that say whose they are or of the others."""
    connection = await asyncpg.connect(stage.database_url)
    rows = await connection.fetch(
        "SELECT field FROM rejected_event WHERE state = 'rejected' AND (event_id <> '') = $1", named
    )
    waiting = await connection.fetchval(
        "SELECT count(*) FROM rejected_event WHERE state = 'waiting'"
    )
    await connection.close()
    assert waiting == 0
    return Counter(row["field"] for row in rows)


@pytest.mark.timeout(300)
async def test_nothing_is_lost_or_counted_twice(stage: Stage, rng: random.Random) -> None:
    """Kills of the intake, restarts and kills of RabbitMQ and Postgres: every message counts once."""
    bodies, bad, keys = stream(rng)
    stage.declare()
    await asyncio.to_thread(publish, stage.rabbit.url, bodies)
    with stage.platform() as first, stage.platform():
        await stage.taken(150)
        first.kill()
        with stage.platform():
            faults: list[tuple[int, Callable[[], None]]] = [
                (400, stage.postgres.restart),
                (650, stage.rabbit.restart),
                (900, stage.postgres.kill),
                (0, stage.postgres.start),
                (1150, stage.rabbit.kill),
                (0, stage.rabbit.start),
            ]
            for after, fault in faults:
                if after:
                    await stage.taken(after)
                await asyncio.to_thread(fault)
            await stage.drained(keys)
    found = await stage.count()
    anonymous = Counter({field: n for field, n in bad.items() if field in ANONYMOUS})
    assert found | {"rejected_event": 0} == {
        "customer": PEOPLE,
        "payment_method": PEOPLE,
        "subscription": PEOPLE,
        "inbox_event": UNIQUE,
        "inbox_key": keys,
        "rejected_event": 0,
    }
    assert await rejected_fields(stage, named=True) == bad - anonymous
    # A crash between a commit and its acknowledgement may keep a message without an id twice.
    assert await rejected_fields(stage, named=False) >= anonymous


@pytest.mark.timeout(300)
async def test_a_stop_under_load_is_clean(stage: Stage, rng: random.Random) -> None:
    """SIGTERM in the middle: exit code 0 in time, and the next process goes on where it stopped."""
    bodies, bad, keys = stream(rng)
    stage.declare()
    await asyncio.to_thread(publish, stage.rabbit.url, bodies)
    with stage.platform() as process:
        await stage.taken(300)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(wait_until, lambda: process.poll() is not None, seconds=30)
        assert process.returncode == 0
    assert 300 <= (await stage.count())["inbox_key"] < UNIQUE
    with stage.platform():
        await stage.drained(keys)
    assert (await stage.count())["subscription"] == PEOPLE
    fields = await rejected_fields(stage, named=True) + await rejected_fields(stage, named=False)
    assert fields == bad


async def test_a_queue_with_other_arguments_is_named(stage: Stage) -> None:
    """The process ends with one line that says which queue it is and how it should be made."""
    with pika.BlockingConnection(pika.URLParameters(stage.rabbit.url)) as connection:
        connection.channel().queue_declare(QUEUE, durable=True)
    process = stage.run(RUN)
    _, said = await asyncio.to_thread(process.communicate, timeout=30)
    assert process.returncode == 1
    lines: list[dict[str, Any]] = [
        json.loads(line) for line in said.decode().splitlines() if line.startswith("{")
    ]
    assert "intake_connected" not in {line["event"] for line in lines}
    assert f"queue {QUEUE} exists with other arguments: should be durable" in said.decode()

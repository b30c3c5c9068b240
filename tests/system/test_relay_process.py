"""Messages out by real processes on real servers, while these are killed and restarted."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from billing.messages import Message, MessageType, Party
from lab.servers import postgres, rabbitmq
from lab.servers.process import wait_until
from tests.database import SweptDatabase
from tests.worker.amqp import Listener
from tests.worker.people import NOW, add_school, add_subscriptions
from tests.worker.waiting import until
from worker.db import TRANSIENT
from worker.platform.topology import declare_topology
from worker.settings import isolated_settings
from worker.store import outbox

ROOT = Path(__file__).resolve().parents[2]
RUN = (
    "from worker.platform.main import run_platform\n"
    "from worker.settings import load_settings\n"
    "raise SystemExit(run_platform(load_settings(env_file=None)))"
)
SUBSCRIPTIONS = [f"sub_{n}" for n in range(40)]
PUBLISHED = "SELECT (SELECT count(*) FROM outbox_event) - (SELECT count(*) FROM outbox_pending)"
UNPUBLISHED = "SELECT count(*) FROM outbox_pending"
SEQUENCES = "SELECT subscription_id, sequence FROM subscription"
IDLE_SECONDS = 5


class Servers:
    """A Postgres and a RabbitMQ that a test may break."""

    def __init__(
        self, postgres_server: postgres.PostgresServer, url: str, rabbit: rabbitmq.RabbitServer
    ) -> None:
        self.postgres = postgres_server
        self.database_url = url
        self.rabbit = rabbit

    def platform(self) -> subprocess.Popen[bytes]:
        """A `renewd platform` process."""
        settings = {
            "RENEWD_DATABASE_URL": self.database_url,
            "RENEWD_AMQP_URL": self.rabbit.url,
            "RENEWD_METRICS_PORT": "0",
            "RENEWD_LOG_FORMAT": "json",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-c", RUN]
        return subprocess.Popen(command, env=os.environ | settings, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def running() -> Iterator[Servers]:
    with postgres.private() as database, rabbitmq.private() as rabbit:
        url = database.create_database("renewd_relay")
        declare_topology(isolated_settings(amqp_url=rabbit.url))
        yield Servers(database, url, rabbit)


@pytest.fixture
async def servers(running: Servers) -> Servers:
    connection = await asyncpg.connect(running.database_url)
    if await connection.fetchval("SELECT to_regclass('subscription') IS NULL"):
        await SweptDatabase.load(running.database_url)
        await add_school(connection)
        await add_subscriptions(connection, *SUBSCRIPTIONS)
    await connection.close()
    return running


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Kill the process at the end, whatever happened, and show what it said if the test fails."""
    try:
        yield process
    finally:
        process.kill()
        sys.stderr.write(process.communicate()[1].decode())


async def write(url: str, rng: random.Random, done: asyncio.Event) -> None:
    """Messages about random subscriptions until `done`; what an outage broke off is done again."""
    while not done.is_set():
        with contextlib.suppress(*TRANSIENT):
            connection = await asyncpg.connect(url, timeout=2)
            try:
                while not done.is_set():
                    await write_some(connection, rng)
            finally:
                connection.terminate()
        await asyncio.sleep(0.05)


async def write_some(connection: "asyncpg.Connection[asyncpg.Record]", rng: random.Random) -> None:
    one = rng.choice(SUBSCRIPTIONS)
    message = Message(MessageType.RENEWED, Party(one, f"cus_{one}", "school"))
    async with connection.transaction():
        await outbox.tell(connection, [message] * 3, now=NOW)
    await asyncio.sleep(0.005)


async def progress(url: str) -> None:
    """Return once messages written from now on are published."""

    async def published() -> int:
        connection = await asyncpg.connect(url)
        try:
            return int(await connection.fetchval(PUBLISHED))
        finally:
            await connection.close()

    before = await published()

    async def more() -> bool:
        return await published() > before + 30

    await until(more, seconds=60)


async def is_published(url: str) -> bool:
    connection = await asyncpg.connect(url)
    try:
        return bool(await connection.fetchval(UNPUBLISHED) == 0)
    finally:
        await connection.close()


async def expected_sequences(url: str) -> dict[str, list[int]]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(SEQUENCES)
        return {row[0]: list(range(1, row[1] + 1)) for row in rows if row[1]}
    finally:
        await connection.close()


async def test_order_survives_every_restart(servers: Servers, rng: random.Random) -> None:
    """Kills of a relay, of RabbitMQ and of Postgres lose nothing and put nothing out of order."""
    url = servers.database_url
    Listener(servers.rabbit.url, "platform.test").disconnect()
    done = asyncio.Event()
    with ended(servers.platform()) as first, ended(servers.platform()):
        writing = asyncio.create_task(write(url, rng, done))
        await progress(url)
        first.kill()
        with ended(servers.platform()):
            for fault in (
                servers.postgres.restart,
                servers.rabbit.restart,
                servers.postgres.kill,
                servers.postgres.start,
                servers.rabbit.kill,
                servers.rabbit.start,
            ):
                if servers.postgres.pid and servers.rabbit.pid:
                    await progress(url)
                await asyncio.to_thread(fault)
            await progress(url)
            done.set()
            await writing
            await until(partial(is_published, url), seconds=60)
    listener = Listener(servers.rabbit.url, "platform.test")
    listener.read()
    assert listener.first_appearances() == await expected_sequences(url)
    listener.close()


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
        return str(answer.read().decode())


async def test_an_idle_process_costs_little_and_ends_cleanly(servers: Servers) -> None:
    """Idle, it uses less than 2 % of a core; on SIGTERM to it twice it ends with exit code 0."""
    with ended(servers.platform()) as process:
        assert process.stderr is not None
        lines = (json.loads(line) for line in process.stderr)
        seen: dict[str, dict[str, Any]] = {}
        while {"relay_connected", "intake_connected", "metrics_listening"} - seen.keys():
            line = next(lines)
            seen[line["event"]] = line
        port = seen["metrics_listening"]["port"]
        await asyncio.to_thread(time.sleep, 2)
        usage = psutil.Process(process.pid)
        before = sum(usage.cpu_times()[:2])
        await asyncio.to_thread(time.sleep, IDLE_SECONDS)
        assert sum(usage.cpu_times()[:2]) - before < 0.02 * IDLE_SECONDS
        assert "renewd_outbox_age_seconds 0.0" in await asyncio.to_thread(get, port, "metrics")
        assert '"healthy": true' in await asyncio.to_thread(get, port, "healthz")
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
        assert wait_until(lambda: process.poll() is not None, seconds=30)
        assert process.returncode == 0


async def test_it_ends_cleanly_while_the_servers_are_away(servers: Servers) -> None:
    """Without Postgres or RabbitMQ it waits, and SIGTERM still ends it with exit code 0."""
    with ended(servers.platform()) as process:
        assert process.stderr is not None
        lines = (json.loads(line)["event"] for line in process.stderr)
        next(event for event in lines if event == "relay_connected")
        try:
            await asyncio.to_thread(servers.rabbit.kill)
            await asyncio.to_thread(servers.postgres.kill)
            next(event for event in lines if event == "relay_interrupted")
            process.send_signal(signal.SIGTERM)
            assert wait_until(lambda: process.poll() is not None, seconds=30)
        finally:
            await asyncio.to_thread(servers.postgres.start)
            await asyncio.to_thread(servers.rabbit.start)
        assert process.returncode == 0

"""The stage of a benchmark: private servers, a database with a book in it, the fleet of processes."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psutil

from lab.bench import processes
from lab.bench.processes import Fleet
from lab.servers import postgres, rabbitmq
from lab.servers.process import free_port
from lab.store import bench
from worker.db import Pool, create_pool
from worker.gateways import Gateway, open_gateways
from worker.migrations import load, migrate
from worker.settings import isolated_settings

GATEWAY, API_KEY = "bench", "sk_test_bench"
SERVER = ("shared_buffers=1GB", "max_wal_size=4GB", "checkpoint_timeout=15min")
"""What every operator of such a database sets first; fsync and synchronous_commit stay on."""

MAX_PER_SECOND = 100_000
"""No pace: what is measured is renewd."""


@dataclass
class Stage:
    """Everything that runs; `fleet` is what its CPU is counted of."""

    pool: Pool
    gateway: Gateway
    database_url: str
    environment: dict[str, str]
    fleet: Fleet


@dataclass(frozen=True, slots=True)
class Size:
    """How large a book, how many of it due, and how slow the gateway answers."""

    subscriptions: int
    due: int
    latency_ms: int = 200


@asynccontextmanager
async def set_stage(size: Size, say: Callable[[str], None]) -> AsyncIterator[Stage]:
    """Start the servers and make the book; no process of renewd runs yet."""
    with postgres.private(durable=True, settings=SERVER) as database, rabbitmq.private() as broker:
        url = database.create_database("renewd_bench")
        amqp = broker.create_vhost("bench")
        port = free_port()
        environment = _environment(url, amqp, port)
        pool = await create_pool(url, size=4, application_name="renewd bench")
        sandbox = processes.start_sandbox(key=API_KEY, port=port, latency_ms=size.latency_ms)
        gateway = open_gateways(isolated_settings(gateways=_gateways(port)))[GATEWAY]
        try:
            with processes.stopping({"sandbox": [sandbox]}):
                await _load(pool, size, say)
                await until(gateway.is_healthy, seconds=20)
                fleet = Fleet(
                    {
                        "postgres": [psutil.Process(database.pid)],
                        "rabbitmq": [psutil.Process(broker.pid)],
                        "sandbox": [psutil.Process(sandbox.pid)],
                    }
                )
                yield Stage(pool, gateway, url, environment, fleet)
        finally:
            await gateway.close()
            await pool.close()


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float) -> None:
    """Wait for a condition. Raises `TimeoutError`."""
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {condition.__name__}")
        await asyncio.sleep(0.05)


async def _load(pool: Pool, size: Size, say: Callable[[str], None]) -> None:
    async with pool.acquire() as conn:
        say("loading the schema")
        await migrate(conn, load())
        say(f"making {size.subscriptions:,} subscriptions, {size.due:,} of them due")
        now = datetime.now(UTC)
        await bench.make_book(
            conn, subscriptions=size.subscriptions, due=size.due, now=now - timedelta(minutes=5)
        )


def _gateways(port: int) -> dict[str, dict[str, object]]:
    return {
        GATEWAY: {
            "adapter": "sandbox",
            "base_url": f"http://127.0.0.1:{port}",
            "api_key": API_KEY,
            "max_per_second": MAX_PER_SECOND,
        }
    }


def _environment(database_url: str, amqp_url: str, port: int) -> dict[str, str]:
    return {
        "RENEWD_DATABASE_URL": database_url,
        "RENEWD_AMQP_URL": amqp_url,
        "RENEWD_GATEWAYS": json.dumps(_gateways(port)),
        "RENEWD_METRICS_PORT": "0",
        "RENEWD_LOG_LEVEL": "WARNING",
        "RENEWD_LOG_FORMAT": "json",
    }

"""A world with a scheduler's connection, and bells that only note how they were rung."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from lab.sandbox import RunningSandbox, SandboxConfig, serve
from tests.database import SweptDatabase
from tests.scheduler.bells import Bells
from tests.scheduler.healthy import Healthy, furnish
from tests.world import API_KEY, World
from worker import db
from worker.db import Connection, Pool


@pytest.fixture
async def sandbox() -> AsyncIterator[RunningSandbox]:
    """A sandbox gateway of its own, in memory."""
    running = await serve(SandboxConfig(api_key=API_KEY, seed=1))
    yield running
    await running.close()


@pytest.fixture
async def world(pool: Pool, sandbox: RunningSandbox) -> AsyncIterator[World]:
    """An empty world at its start."""
    made = await World.create(pool, sandbox)
    yield made
    await made.close()


@pytest.fixture
async def claiming(database_url: str) -> AsyncIterator[Connection]:
    """A connection that plans each claim anew, as a scheduler's does."""
    conn = await db.connect(database_url, application_name="renewd-test", claims=True)
    yield conn
    await conn.close()


@pytest.fixture
def bells() -> Bells:
    """Nobody has rung yet."""
    return Bells()


@pytest.fixture(scope="module")
async def furnished(
    session_pool: Pool, swept_database: SweptDatabase
) -> AsyncIterator[dict[str, UUID]]:
    """A healthy world, made once; whoever breaks it does so in a transaction of his own."""
    await swept_database.sweep()
    sandbox = await serve(SandboxConfig(api_key=API_KEY, seed=1))
    world = await World.create(session_pool, sandbox)
    yield await furnish(world)
    await world.close()
    await sandbox.close()
    await swept_database.sweep()


@pytest.fixture
async def healthy(furnished: dict[str, UUID], session_pool: Pool) -> AsyncIterator[Healthy]:
    """The healthy world in a transaction that is rolled back."""
    async with session_pool.acquire() as conn:
        transaction = conn.transaction(isolation="repeatable_read")
        await transaction.start()
        yield Healthy(conn, furnished)
        await transaction.rollback()

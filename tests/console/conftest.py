"""The settings of a command line, and a world for it to look at: see tests/world.py."""

import json
import secrets
from collections.abc import AsyncIterator

import pytest

from lab.sandbox import RunningSandbox, SandboxConfig, serve
from lab.servers import postgres
from tests.world import API_KEY, GATEWAY, World
from worker.db import Pool


@pytest.fixture
def database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """RENEWD_DATABASE_URL names an empty database of this version."""
    monkeypatch.setenv("RENEWD_DATABASE_URL", database_url)
    monkeypatch.setenv("USER", "ana")
    return database_url


@pytest.fixture
async def sandbox(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningSandbox]:
    """RENEWD_GATEWAYS names a sandbox gateway of its own, in memory."""
    running = await serve(SandboxConfig(api_key=API_KEY, seed=1))
    gateway = {"adapter": "sandbox", "base_url": running.url, "api_key": API_KEY}
    monkeypatch.setenv("RENEWD_GATEWAYS", json.dumps({GATEWAY: gateway}))
    yield running
    await running.close()


@pytest.fixture
async def world(database: str, pool: Pool, sandbox: RunningSandbox) -> AsyncIterator[World]:
    """An empty world at its start."""
    made = await World.create(pool, sandbox)
    yield made
    await made.close()


@pytest.fixture
async def empty(
    postgres_server: postgres.Databases, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[str]:
    """RENEWD_DATABASE_URL names a database without any table."""
    name = f"renewd_test_{secrets.token_hex(6)}"
    url = postgres_server.create_database(name)
    monkeypatch.setenv("RENEWD_DATABASE_URL", url)
    yield url
    postgres_server.drop_database(name)

"""A world for every test of this room: see tests/world.py."""

from collections.abc import AsyncIterator

import pytest

from lab.sandbox import RunningSandbox, SandboxConfig, serve
from tests.world import API_KEY, World
from worker.db import Pool


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

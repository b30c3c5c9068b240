"""A world for every test of this room: see tests/world.py."""

from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

from lab.sandbox import RunningSandbox, SandboxConfig, serve
from tests.world import API_KEY, World
from worker.db import Pool


@pytest.fixture(autouse=True)
def plain_tracebacks() -> Iterator[None]:
    """Drawing a traceback with all its locals takes seconds, and send windows go by meanwhile."""
    before = structlog.get_config()
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])
    yield
    structlog.configure(**before)


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

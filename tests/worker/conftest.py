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
    # In place: loggers that are cached hold on to this very list.
    processors = structlog.get_config()["processors"]
    before = list(processors)
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    processors[:] = [
        plain if isinstance(one, structlog.dev.ConsoleRenderer) else one for one in before
    ]
    yield
    processors[:] = before


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

"""Sandboxes that are really served, and a client for each."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from lab.sandbox import SandboxConfig, serve
from tests.lab.bank import API_KEY, Bank

OpenBank = Callable[..., Awaitable[Bank]]


@pytest.fixture
async def open_bank() -> AsyncIterator[OpenBank]:
    """Starts a sandbox with these settings; `ledger_path` keeps its ledger in a file."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def open_one(*, ledger_path: Path | None = None, **settings: Any) -> Bank:
            config = SandboxConfig.model_validate({"api_key": API_KEY, **settings})
            sandbox = await serve(config, ledger_path=ledger_path)
            stack.push_async_callback(sandbox.close)
            return Bank(sandbox, session)

        yield open_one


@pytest.fixture
async def bank(open_bank: OpenBank) -> Bank:
    """A sandbox with the defaults, in memory."""
    return await open_bank()

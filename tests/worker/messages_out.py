"""What the tests of the relay share: subscriptions that are written about, and relays that run."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from billing.messages import Message, MessageType, Party
from tests.worker.people import NOW, add_school, add_subscriptions
from tests.worker.waiting import until
from worker.db import Pool
from worker.platform.relay import Relay
from worker.settings import Settings
from worker.store import outbox

SUBSCRIPTIONS = [f"sub_{n}" for n in range(12)]
EACH = 30
UNPUBLISHED = "SELECT count(*) FROM outbox_pending"


@asynccontextmanager
async def relaying(*settings: Settings) -> AsyncIterator[list[Relay]]:
    """One relay for each of the settings, stopped at the end."""
    stop = asyncio.Event()
    relays = [Relay(each) for each in settings]
    async with asyncio.TaskGroup() as group:
        for each in relays:
            group.create_task(each.run(stop))
        yield relays
        stop.set()


async def write(pool: Pool, subscription_id: str, count: int) -> None:
    """Messages about one subscription, in transactions of one or two as charges write them."""
    party = Party(subscription_id, f"cus_{subscription_id}", "school")
    left = count
    while left:
        size = min(left, 1 + left % 3 % 2)
        messages = [Message(MessageType.RENEWED, party)] * size
        async with pool.acquire() as conn, conn.transaction():
            await outbox.tell(conn, messages, now=NOW)
        left -= size


async def write_all(pool: Pool) -> None:
    async with asyncio.TaskGroup() as group:
        for subscription_id in SUBSCRIPTIONS:
            group.create_task(write(pool, subscription_id, EACH))


async def add_people(pool: Pool) -> None:
    async with pool.acquire() as conn:
        await add_school(conn)
        await add_subscriptions(conn, *SUBSCRIPTIONS)


def everything() -> dict[str, list[int]]:
    return {subscription_id: list(range(1, EACH + 1)) for subscription_id in SUBSCRIPTIONS}


async def is_published(pool: Pool) -> bool:
    return bool(await pool.fetchval(UNPUBLISHED) == 0)


async def wait_until_published(pool: Pool) -> None:
    await until(partial(is_published, pool))

from contextlib import closing
from functools import partial

import asyncpg
import pytest

from billing.messages import SLOTS, MessageType, unnumbered
from tests.worker.amqp import Listener
from tests.worker.messages_out import (
    EACH,
    SUBSCRIPTIONS,
    add_people,
    everything,
    relaying,
    wait_until_published,
    write_all,
)
from tests.worker.people import NOW
from tests.worker.waiting import until
from worker.db import Pool
from worker.platform import relay
from worker.platform.slots import Slots
from worker.platform.topology import declare_topology
from worker.settings import isolated_settings
from worker.store import outbox
from worker.store import relay as store


async def test_two_relays_share_the_slots(
    pool: Pool, database_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of two relays owns half of the slots, and what they publish together is in order."""
    settings = isolated_settings(database_url=database_url, amqp_url=amqp_url, relay_batch=50)
    declare_topology(settings)
    monkeypatch.setattr(relay, "REBALANCE_SECONDS", 0.1)
    await add_people(pool)
    with closing(Listener(amqp_url, "platform.test")) as listener:
        async with relaying(settings, settings):
            await until(partial(is_shared_by_two, pool))
            await write_all(pool)
            await listener.wait_for(len(SUBSCRIPTIONS) * EACH)
            await wait_until_published(pool)
        assert listener.first_appearances() == everything()
    assert await owned_by_session(pool) == []


async def is_shared_by_two(pool: Pool) -> bool:
    return await owned_by_session(pool) == [SLOTS // 2, SLOTS // 2]


async def owned_by_session(pool: Pool) -> list[int]:
    rows = await pool.fetch(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid::bigint = $1 "
        "GROUP BY pid",
        store.SLOT_LOCK,
    )
    return [found[0] for found in rows]


async def test_the_slots_of_a_dead_relay_are_taken_over(database_url: str) -> None:
    """Relays converge on fair shares whoever comes and goes, and never own a slot twice."""
    sessions = [await asyncpg.connect(database_url) for _ in range(3)]
    relays = [Slots(session) for session in sessions]

    async def settle(alive: list[Slots]) -> list[int]:
        for _ in range(4):
            for slots in alive:
                await slots.rebalance(busy=())
        owned = [slot for slots in alive for slot in slots.owned]
        assert sorted(owned) == list(range(SLOTS))
        return [len(slots.owned) for slots in alive]

    await store.join(sessions[0])
    assert await settle(relays[:1]) == [64]
    for session in sessions[1:]:
        await store.join(session)
    assert sorted(await settle(relays)) == [20, 22, 22]
    await sessions[0].close()
    assert sorted(await settle(relays[1:])) == [32, 32]
    for session in sessions[1:]:
        await session.close()


async def test_a_busy_slot_is_not_given_away(database_url: str) -> None:
    """A slot whose messages are on the wire stays with its relay until they are confirmed."""
    first, second = [await asyncpg.connect(database_url) for _ in range(2)]
    slots = Slots(first)
    await store.join(first)
    await slots.rebalance(busy=())
    await store.join(second)
    await slots.rebalance(busy=range(60))
    assert sorted(slots.owned) == list(range(60))
    await first.close()
    await second.close()


async def test_the_age_of_the_outbox(pool: Pool) -> None:
    """It is the age of the oldest unpublished message, and 0 when everything is published."""
    async with pool.acquire() as conn:
        every = list(range(SLOTS))
        assert await store.read_age_seconds(conn, every) == 0
        rows = [
            unnumbered(MessageType.EVENT_REJECTED, subject=str(n), fields={}, at=NOW)
            for n in range(2)
        ]
        await outbox.append(conn, rows)
        await conn.execute(
            "UPDATE outbox_event SET created_at = clock_timestamp() - interval '90 s' "
            "WHERE position = 1"
        )
        assert round(await store.read_age_seconds(conn, every)) == 90
        await store.mark_published(conn, await store.read_unpublished(conn, every, limit=9))
        assert await store.read_age_seconds(conn, every) == 0

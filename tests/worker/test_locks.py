"""Who waits for whom: the kill switch, the row of a subscription, the seats of a worker."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta

from tests.worker.waiting import until
from tests.world import START, World
from worker.seats import Seats
from worker.store import control, facts

WAITING_FOR_A_LOCK = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def starting(world: World, work: Awaitable[None]) -> "asyncio.Future[None]":
    """Work that has begun and waits for a lock."""
    task = asyncio.ensure_future(work)
    await until(lambda: world.value(WAITING_FOR_A_LOCK))
    return task


async def test_a_kill_switch_that_is_being_turned_lets_nothing_pass(world: World) -> None:
    """Who comes while it is turned waits, and then sees it on."""
    sub = await world.subscribe()
    async with world.pool.acquire() as conn, conn.transaction():
        await control.pause(conn, scope="global", scope_id="", reason="test", who="me")
        renewing = await starting(world, world.renew(sub))
    await renewing
    assert await world.value("SELECT count(*) FROM attempt") == 0
    assert world.sandbox.charges() == []


async def test_a_kill_switch_waits_for_what_is_being_committed(world: World) -> None:
    """A charge whose transaction is open is let through; it is in the book when the switch is on."""
    sub = await world.subscribe()
    async with world.pool.acquire() as conn, conn.transaction():
        await facts.lock_subscriptions(conn, [sub])
        renewing = await starting(world, world.renew(sub))
        pausing = asyncio.ensure_future(world.pause())
        two = f"SELECT ({WAITING_FOR_A_LOCK}) = 2"
        await until(lambda: world.value(two))
    await asyncio.gather(renewing, pausing)
    assert len(world.sandbox.charges()) == 1
    assert await world.broken() == []


async def test_an_attempt_is_stamped_after_what_it_waited_for(world: World) -> None:
    """On a real clock: what changed the row before is older than the attempt that saw the change."""
    sub = await world.subscribe()
    await world.execute("UPDATE control SET clock_now = NULL")
    world.sandbox.set_clock(None)
    async with world.pool.acquire() as conn, conn.transaction():
        await facts.lock_subscriptions(conn, [sub])
        renewing = await starting(world, world.renew(sub))
        changed_at = await conn.fetchval("SELECT clock_timestamp()")
    await renewing
    attempt = await world.row("attempt")
    assert changed_at < attempt["claimed_at"] <= attempt["resolved_at"]
    assert attempt["claimed_at"] - START > timedelta()


async def test_a_seat_is_free_again_after_the_batch(world: World) -> None:
    """Whether it went well or not."""
    seats = world.context.seats
    for token in ("tok_ok_1", "tok_decline_do_not_honor_1"):
        await world.renew(await world.subscribe(token))
    await world.renew("sub_unheard_of")
    taken = 0
    while seats.take("sandbox"):
        taken += 1
    assert taken == world.context.settings.worker_threads


def test_a_gateway_has_half_of_the_seats_when_there_are_others() -> None:
    """A slow one cannot hold them all; alone it may."""
    shared, alone = Seats(slots=5, gateways=2), Seats(slots=5, gateways=1)
    assert [shared.take("a") for _ in range(3)] == [True, True, False]
    assert shared.take("b")
    shared.leave("a")
    assert shared.take("a")
    assert [alone.take("a") for _ in range(6)] == [True] * 5 + [False]
    assert Seats(slots=1, gateways=3).take("a")

"""The pace of a gateway: sends are spread over its time, whoever reserves it, and a 429 is heeded."""

import asyncio

import pytest

from lab.sandbox import RunningSandbox
from tests.world import World
from worker import charges
from worker.charges import PaceExceededError
from worker.clock import machine_now
from worker.db import Connection, Pool
from worker.store import pace

BUSY = "SELECT extract(epoch FROM free_at - clock_timestamp())::float8 FROM gateway_state"


@pytest.fixture
async def gateway(conn: Connection) -> str:
    """A gateway that takes ten charges a second, and has nothing to do."""
    await pace.declare(conn, {"slow": 10})
    return "slow"


async def test_each_batch_gets_the_next_free_stretch(conn: Connection, gateway: str) -> None:
    """A hundred charges at ten a second fill ten seconds; the next ones begin when they are over."""
    begins = [await pace.reserve(conn, gateway, charges=100, per_second=10) for _ in range(3)]
    assert begins == [pytest.approx(10 * n, abs=4) for n in range(3)]


async def test_no_two_reservations_overlap(pool: Pool, gateway: str) -> None:
    """Ten workers at once get ten stretches one after the other."""

    async def reserve() -> float:
        async with pool.acquire() as conn:
            return await pace.reserve(conn, gateway, charges=100, per_second=10)

    begins = sorted(await asyncio.gather(*(reserve() for _ in range(10))))
    assert begins == [pytest.approx(10 * n, abs=4) for n in range(10)]


async def test_idle_time_is_not_saved_up(conn: Connection, gateway: str) -> None:
    """A gateway that had nothing to do for hours takes no burst now."""
    await conn.execute("UPDATE gateway_state SET free_at = clock_timestamp() - interval '3 hours'")
    assert await pace.reserve(conn, gateway, charges=200, per_second=10) == 0
    assert await conn.fetchval(BUSY) == pytest.approx(20, abs=4)


async def test_a_batch_that_ends_too_late_to_send_is_refused(
    conn: Connection, gateway: str
) -> None:
    """The last try of a batch must begin in its send window, or nothing of it is committed."""
    with pytest.raises(PaceExceededError):
        async with conn.transaction():
            await charges.reserve_pace(conn, gateway, charges=111, per_second=10)
    assert await conn.fetchval("SELECT free_at = '-infinity' FROM gateway_state")
    begins_at = await charges.reserve_pace(conn, gateway, charges=109, per_second=10)
    assert begins_at <= machine_now()


async def test_a_rest_is_never_made_shorter(conn: Connection, gateway: str) -> None:
    """Two answers ask for rest: the longer one counts."""
    await pace.rest(conn, gateway, seconds=300)
    await pace.rest(conn, gateway, seconds=5)
    left = "SELECT extract(epoch FROM resting_until - clock_timestamp())::float8 FROM gateway_state"
    assert await conn.fetchval(left) == pytest.approx(300, abs=5)


async def test_a_pace_that_is_configured_anew_is_written_down(conn: Connection) -> None:
    """The table says what the settings say; what is reserved stays reserved."""
    await pace.declare(conn, {"one": 10, "two": 20})
    await pace.reserve(conn, "two", charges=400, per_second=20)
    await pace.declare(conn, {"two": 5})
    rows = await conn.fetch("SELECT gateway, max_per_second FROM gateway_state ORDER BY 1")
    assert [tuple(row) for row in rows] == [("one", 10), ("two", 5)]
    busy = await conn.fetchval(f"{BUSY} WHERE gateway = 'two'")
    assert busy == pytest.approx(20, abs=4)


async def test_sends_are_spread_at_the_pace(pool: Pool, sandbox: RunningSandbox) -> None:
    """The nth of a batch is never sent before its turn, and so are resends."""
    world = await World.create(pool, sandbox, gateway={"max_per_second": 20})
    subs = [await world.subscribe(f"tok_ok_{n}") for n in range(8)]
    loop = asyncio.get_running_loop()
    gateway = world.context.gateways["sandbox"]
    charge, sent_at = gateway.charge, []

    async def noted(*, request: bytes, key: str) -> object:
        sent_at.append(loop.time())
        return await charge(request=request, key=key)

    gateway.charge = noted  # type: ignore[method-assign, assignment]
    began_at = loop.time()
    await world.renew(*subs)
    await world.execute(
        "UPDATE attempt SET state = 'unknown', resolved_at = NULL, check_due_at = claimed_at"
    )
    await world.execute("UPDATE invoice SET status = 'open', paid_at = NULL, closed_at = NULL")
    again_at = loop.time()
    await world.reconcile()
    assert len(sent_at) == 16
    assert all(at - began_at >= n / 20 for n, at in enumerate(sent_at[:8]))
    assert all(at - again_at >= n / 20 - 0.01 for n, at in enumerate(sent_at[8:]))
    await world.close()


async def test_a_reconciler_waits_for_a_busy_gateway(world: World) -> None:
    """With no room in its send window it sends nothing and stamps nothing: the lease brings it back."""
    sub = await world.subscribe()
    await world.renew(sub)
    await world.execute(
        "UPDATE attempt SET state = 'unknown', resolved_at = NULL, check_due_at = claimed_at"
    )
    before = await world.row("attempt")
    await world.execute("UPDATE gateway_state SET free_at = clock_timestamp() + interval '30 s'")
    await world.reconcile()
    after = await world.row("attempt")
    assert (after["state"], after["checks"]) == ("unknown", 0)
    assert after["sent_at"] == before["sent_at"]

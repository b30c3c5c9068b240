"""Sweeps: what is due is claimed once, in pages, for whoever may be charged, and rung."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

from lab.sandbox import Fault
from scheduler.sweeps import SWEEPS, Ringer, run_sweep
from tests.scheduler.bells import SWEEP, Bells, subscribe
from tests.world import START, World
from worker import db
from worker.actors import declare_actors
from worker.db import Connection
from worker.errors import ServerUnreachable

DAY = timedelta(days=1)
NOTICE = """
INSERT INTO notice (notice_id, subscription_id, kind, target_date, send_at, state, claimed_until,
                    created_at)
VALUES ($1, $2, 'upcoming_renewal', $3, $4, $5, $6, $4)
"""
WAITING = """
INSERT INTO rejected_event (source, event_id, type, state, field, error, waits_for, expires_at, body,
                            received_at)
VALUES ('s', 'e', 't', 'waiting', 'f', 'e', 'plan:x', $1, '', $1) RETURNING rejected_id
"""


async def sweep(world: World, conn: Connection, bells: Bells, name: str, **settings: Any) -> int:
    """One round of one sweep with these settings."""
    changed = world.context.settings.model_copy(update=settings)
    return await run_sweep(conn, bells, changed, SWEEP[name])


async def forget_leases(world: World) -> None:
    """Every lease runs out now."""
    for table in ("subscription", "invoice"):
        past = (
            f"UPDATE {table} SET claimed_until = clock_timestamp() WHERE claimed_until IS NOT NULL"
        )
        await world.execute(past)


async def make_due(world: World, name: str, sub: str) -> str:
    """Make something due now for this sweep; returns its id as doorbells have it."""
    column = {"cancels": "cancel_at", "grace": "access_ends_at"}
    match name:
        case "renewals":
            return sub
        case "cancels" | "grace":
            status = "past_due" if name == "grace" else "active"
            await world.execute(
                f"UPDATE subscription SET {column[name]} = $2, status = $3,"
                " cancel_origin = 'customer' WHERE subscription_id = $1",
                sub,
                START,
                status,
            )
            return sub
        case "collections" | "unsettled":
            world.break_gateway(Fault.RESET)
            await world.renew(sub)
            invoice_id: UUID = (await world.row("invoice"))["invoice_id"]
            if name == "collections":
                await world.ask(sub, "manual")
                await world.execute(
                    "UPDATE invoice SET attempt_due_at = $1, attempt_source = 'manual'", START
                )
                return str(invoice_id)
            await world.execute(
                "UPDATE attempt SET retake_at = '-infinity', send_deadline = clock_timestamp()"
            )
            return f"{invoice_id}:1"
        case "notices" | "half_sent":
            notice_id = uuid4()
            sending = name == "half_sent"
            state = ("sending", START) if sending else ("scheduled", None)
            await world.execute(NOTICE, notice_id, sub, START.date(), START, *state)
            return str(notice_id)
        case "waiting":
            return str(await world.value(WAITING, START))
        case _:
            raise AssertionError(f"the sweep {name} has no test")


@pytest.mark.parametrize("name", [sweep.name for sweep in SWEEPS])
async def test_each_sweep_rings_for_what_is_due_and_nothing_else(
    world: World, claiming: Connection, bells: Bells, name: str
) -> None:
    """Nothing before its time; then its id to its actor, and not again while the lease runs."""
    sub = await world.subscribe()
    due = await make_due(world, name, sub)
    await world.set_now(START - timedelta(seconds=1))
    assert await sweep(world, claiming, bells, name) == 0
    await world.set_now(START)
    assert await sweep(world, claiming, bells, name) == 1
    gateway = "sandbox" if SWEEP[name].per_gateway else None
    assert bells.rung == [(SWEEP[name].actor, gateway, [due])]
    if name != "half_sent":  # nothing claims these: their time is the lease of their sender
        assert await sweep(world, claiming, bells, name) == 0


async def test_a_round_pages_by_key(world: World, claiming: Connection, bells: Bells) -> None:
    """55 rows of three due times in pages of ten: each once, the oldest first."""
    plan = await world.plan()
    subs = [
        *await subscribe(world, 20, plan=plan, due=START - DAY),
    ]
    subs += [
        await world.subscribe(
            f"tok_ok_{n}", plan=plan, name=f"later_{n % 7}_{n}", due=START - DAY / 2
        )
        for n in range(35)
    ]
    assert await sweep(world, claiming, bells, "renewals", batch_size=10) == 55
    assert [len(ids) for _, _, ids in bells.rung] == [10, 10, 10, 10, 10, 5]
    assert sorted(bells.ids) == sorted(subs)
    assert set(bells.ids[:20]) == set(subs[:20])


@pytest.mark.parametrize("schedulers", [2, 5])
async def test_many_schedulers_claim_each_row_once(
    world: World, database_url: str, schedulers: int
) -> None:
    """Side by side, in small pages, again and again: no row is rung twice within its lease."""
    subs = await subscribe(world, 60)
    belfries = [Bells() for _ in range(schedulers)]
    conns = [
        await db.connect(database_url, application_name="renewd-test", claims=True)
        for _ in range(schedulers)
    ]
    pairs = list(zip(conns, belfries, strict=True))
    while len([id_ for bells in belfries for id_ in bells.ids]) < len(subs):
        await asyncio.gather(
            *(sweep(world, conn, bells, "renewals", batch_size=7) for conn, bells in pairs)
        )
    assert sorted(id_ for bells in belfries for id_ in bells.ids) == subs
    for conn in conns:
        await conn.close()


async def test_a_lease_that_ran_out_counts_only_if_no_doorbell_waits(
    world: World, claiming: Connection
) -> None:
    """Behind a full queue nobody is to blame; with an empty one the row is."""
    await subscribe(world, 3)
    for queued, claims in ((0, 0), (1, 0), (0, 1), (1, 1), (0, 2)):
        bells = Bells(queued=queued)
        assert await sweep(world, claiming, bells, "renewals") == 3
        counted = await world.fetch("SELECT DISTINCT claims FROM subscription")
        assert [row["claims"] for row in counted] == [claims]
        await forget_leases(world)


async def test_rows_that_were_claimed_again_and_again_are_rung_alone(
    world: World, claiming: Connection, bells: Bells
) -> None:
    """A row that may take its batch down does so alone; the others go on together."""
    subs = await subscribe(world, 5)
    bad = [subs[1], subs[3]]
    await world.execute("UPDATE subscription SET claims = 2 WHERE subscription_id = ANY($1)", bad)
    await sweep(world, claiming, bells, "renewals")
    assert [ids for _, _, ids in bells.rung] == [[subs[0], subs[2], subs[4]], [bad[0]], [bad[1]]]


async def test_no_more_is_outstanding_than_allowed(world: World, claiming: Connection) -> None:
    """Three doorbells wait, five may: two pages are claimed, the rest stays unclaimed."""
    await subscribe(world, 30)
    bells = Bells(queued=3)
    assert await sweep(world, claiming, bells, "renewals", batch_size=5, max_outstanding=5) == 10
    unclaimed = "SELECT count(*) FROM subscription WHERE claimed_until IS NULL"
    assert await world.value(unclaimed) == 20
    full = Bells(queued=5)
    assert await sweep(world, claiming, full, "renewals", batch_size=5, max_outstanding=5) == 0


async def test_a_broker_that_refuses_costs_one_lease(world: World, claiming: Connection) -> None:
    """What could not be rung comes back when its lease runs out; what was rung is not lost."""
    subs = await subscribe(world, 20)
    bells = Bells(breaks_after=1)
    with pytest.raises(ServerUnreachable):
        await sweep(world, claiming, bells, "renewals", batch_size=5)
    later = Bells()
    await sweep(world, claiming, later, "renewals", batch_size=5)
    await forget_leases(world)
    await sweep(world, claiming, later, "renewals", batch_size=5)
    assert set(later.ids) == set(subs)


@pytest.mark.parametrize(
    "scope", [("global", ""), ("gateway", "sandbox"), ("seller", "sel_1"), ("plan", "plan_1")]
)
async def test_what_a_kill_switch_stops_is_not_claimed(
    world: World, claiming: Connection, bells: Bells, scope: tuple[str, str]
) -> None:
    """No new money in its scope; what hangs is still looked at."""
    first, other = await world.plan(), await world.plan()
    stopped = await subscribe(world, 2, plan=first)
    free = await subscribe(world, 2, plan=other)
    world.break_gateway(Fault.RESET)
    await world.renew(stopped[0], free[0])
    await world.execute("UPDATE invoice SET attempt_due_at = $1, attempt_source = 'manual'", START)
    await world.execute(
        "UPDATE attempt SET retake_at = '-infinity', send_deadline = clock_timestamp()"
    )
    await world.pause(*scope)
    left = 1 if scope[0] == "plan" else 0
    assert await sweep(world, claiming, bells, "renewals") == left
    assert await sweep(world, claiming, bells, "collections") == left
    assert await sweep(world, claiming, bells, "unsettled") == 2


async def test_parked_and_frozen_rows_are_not_claimed(
    world: World, claiming: Connection, bells: Bells
) -> None:
    """What waits for a person waits, whatever the time."""
    bad = await world.subscribe(plan=await world.plan(amount_minor=9000, ceiling_minor=5000))
    frozen = await world.subscribe("tok_ok_2", plan=await world.plan())
    world.break_gateway(Fault.RESET)
    await world.renew(bad, frozen)
    await world.execute(
        "UPDATE attempt SET needs_human = 'look', check_due_at = NULL, retake_at = '-infinity',"
        " send_deadline = clock_timestamp()"
    )
    await world.set_now(START + DAY)
    assert await sweep(world, claiming, bells, "renewals") == 0
    assert await sweep(world, claiming, bells, "unsettled") == 0


async def test_a_doorbell_is_a_message_of_its_actor() -> None:
    """On a real broker the message has the actor's name and queue, the gateway and the ids."""
    broker = StubBroker()
    ringer = Ringer(broker, declare_actors(broker, None))
    await ringer.ring("renew", "sandbox", ["sub_1", "sub_2"])
    await ringer.ring("cancel_due", ["sub_3"])
    assert await ringer.waiting("charge") == 1
    assert await ringer.waiting("maintenance") == 1
    assert await ringer.waiting("notify") == 0
    message = dramatiq.Message.decode(broker.queues["charge"].get(timeout=1))
    assert (message.actor_name, message.args) == ("renew", ("sandbox", ["sub_1", "sub_2"]))
    ringer.close()

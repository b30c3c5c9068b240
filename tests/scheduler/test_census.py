"""The census: gauges that say what is there, and forget what is there no more."""

from datetime import timedelta

import pytest

from lab.sandbox import Fault
from scheduler.census import count_subscriptions, take_census
from tests.world import START, World
from worker.db import Connection
from worker.metrics import REGISTRY

HOUR = timedelta(hours=1)


def gauge(name: str, **labels: str) -> float | None:
    """What a gauge shows now; None if it is not shown."""
    return REGISTRY.get_sample_value(f"renewd_{name}", labels)


async def test_an_empty_book_is_all_zero(world: World, conn: Connection) -> None:
    """Nothing is due, open or parked; every sweep has a lag of nothing."""
    await take_census(conn)
    assert gauge("rows_parked") == gauge("charging_paused") == gauge("outbox_age_seconds") == 0
    for sweep in ("renewals", "collections", "unsettled", "cancels", "grace", "notices", "waiting"):
        assert gauge("due_lag_seconds", sweep=sweep) == 0
    assert gauge("attempts_unsettled", state="unknown") is None


async def test_what_is_due_lags_until_somebody_claims_it(world: World, conn: Connection) -> None:
    """The oldest row that no lease holds, in business time."""
    await world.subscribe("tok_ok_1", due=START - HOUR)
    await world.subscribe("tok_ok_2", due=START - 2 * HOUR)
    await world.subscribe("tok_ok_3", due=START + HOUR)
    await take_census(conn)
    assert gauge("due_lag_seconds", sweep="renewals") == 7200
    claim = "UPDATE subscription SET claimed_until = clock_timestamp() + interval '{}'"
    await world.execute(claim.format("1 minute") + " WHERE next_renewal_at < $1", START - HOUR)
    await take_census(conn)
    assert gauge("due_lag_seconds", sweep="renewals") == 3600
    await world.execute(claim.format("-1 minute"))
    await take_census(conn)
    assert gauge("due_lag_seconds", sweep="renewals") == 7200


async def test_debts_are_counted_by_currency(world: World, conn: Connection) -> None:
    """Open invoices with a first decline, and their money; paid ones go away."""
    for n in range(3):
        await world.subscribe(f"tok_seq_insufficient_funds-ok_{n}")
    subs = await world.fetch("SELECT subscription_id AS id FROM subscription")
    await world.renew(*(row["id"] for row in subs))
    await take_census(conn)
    assert gauge("invoices_past_due", currency="USD") == 3
    assert gauge("invoices_past_due_amount_minor", currency="USD") == 3 * 4900
    await world.set_now(START + timedelta(days=1))
    await world.collect_due()
    await take_census(conn)
    assert gauge("invoices_past_due", currency="USD") is None


async def test_unsettled_attempts_are_counted_by_state(world: World, conn: Connection) -> None:
    """How many have no final word, and the age of the oldest in business time."""
    world.break_gateway(Fault.RESET)
    await world.renew(await world.subscribe("tok_ok_1"), await world.subscribe("tok_ok_2"))
    world.heal_gateway()
    await world.renew(await world.subscribe("tok_pending_ok_1"))
    await world.set_now(START + HOUR)
    await take_census(conn)
    assert gauge("attempts_unsettled", state="unknown") == 2
    assert gauge("attempts_unsettled", state="pending") == 1
    assert gauge("attempts_unsettled_oldest_seconds", state="unknown") == 3600
    await world.walk()
    await take_census(conn)
    assert gauge("attempts_unsettled", state="unknown") is None


async def test_what_waits_for_a_person_and_what_is_switched_off(
    world: World, conn: Connection
) -> None:
    """Parked rows and frozen attempts together; kill switches by number."""
    bad = await world.subscribe(plan=await world.plan(amount_minor=9000, ceiling_minor=5000))
    frozen = await world.subscribe("tok_ok_2", plan=await world.plan())
    world.break_gateway(Fault.RESET)
    await world.renew(bad, frozen)
    await world.execute("UPDATE attempt SET needs_human = 'look', check_due_at = NULL")
    await world.pause("plan", "plan_1")
    await world.pause("global")
    await take_census(conn)
    assert (gauge("rows_parked"), gauge("charging_paused")) == (2, 2)


async def test_messages_that_nobody_publishes_grow_old(world: World, conn: Connection) -> None:
    """Machine time since the oldest unpublished message was written."""
    await world.renew(await world.subscribe())
    old = "UPDATE outbox_event SET created_at = clock_timestamp() - interval '100 s'"
    await world.execute(f"{old} WHERE sequence = 1")
    await take_census(conn)
    assert gauge("outbox_age_seconds") == pytest.approx(100, abs=10)
    await world.execute("DELETE FROM outbox_pending")
    await take_census(conn)
    assert gauge("outbox_age_seconds") == 0


async def test_subscriptions_are_counted_by_status(world: World, conn: Connection) -> None:
    """Every status that somebody is in, and no other."""
    await world.subscribe("tok_ok_1")
    await world.subscribe("tok_ok_2", status="pending")
    await count_subscriptions(conn)
    assert gauge("subscriptions", status="active") == 1
    assert gauge("subscriptions", status="pending") == 1
    assert gauge("subscriptions", status="canceled") is None

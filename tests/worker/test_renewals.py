"""Renewals: due subscriptions are invoiced once and charged once, whatever rings how often."""

import asyncio
from datetime import UTC, datetime, timedelta

from tests.world import START, World
from worker.store import control

FEBRUARY = datetime(2026, 2, 28, 10, 0, tzinfo=UTC)


async def test_a_due_subscription_is_charged_once_and_moves_on(world: World) -> None:
    """One ring charges the period, pays the invoice, moves the date and tells the platform."""
    sub = await world.subscribe()
    await world.renew(sub)
    row = await world.row("subscription", subscription_id=sub)
    assert (row["status"], row["next_renewal_at"], row["next_period"]) == ("active", FEBRUARY, 1)
    assert (row["current_period_start"], row["current_period_end"]) == (START, FEBRUARY)
    invoice = await world.row("invoice", subscription_id=sub)
    assert (invoice["status"], invoice["amount_minor"], invoice["paid_at"]) == ("paid", 4900, START)
    assert await world.told(sub) == ["invoice.paid", "subscription.renewed"]
    charges = world.sandbox.charges()
    assert [(c["amount_minor"], c["currency"], c["reference"]) for c in charges] == [
        (4900, "USD", str(invoice["invoice_id"]))
    ]
    assert await world.broken() == []


async def test_ringing_again_and_at_once_charges_nothing_more(world: World) -> None:
    """Ten doorbells for the same ids, side by side, lead to one charge each."""
    subs = [await world.subscribe(f"tok_ok_{n}") for n in range(20)]
    await asyncio.gather(*(world.renew(*subs) for _ in range(10)))
    await world.renew(*reversed(subs))
    assert len(world.sandbox.charges()) == 20
    assert await world.broken() == []


async def test_a_first_period_that_is_paid_activates(world: World) -> None:
    """A pending subscription becomes active with its first money, and is told so."""
    sub = await world.subscribe(status="pending")
    await world.renew(sub)
    assert (await world.row("subscription", subscription_id=sub))["status"] == "active"
    assert await world.told(sub) == ["invoice.paid", "subscription.activated"]


async def test_a_first_period_that_is_declined_stays_pending(world: World) -> None:
    """It never becomes past due; it is retried on the schedule."""
    sub = await world.subscribe("tok_decline_insufficient_funds_1", status="pending")
    await world.renew(sub)
    row = await world.row("subscription", subscription_id=sub)
    assert (row["status"], row["next_renewal_at"]) == ("pending", None)
    assert (await world.row("invoice"))["attempt_due_at"] == START + timedelta(days=1)
    assert await world.told(sub) == ["payment.failed"]
    assert await world.broken() == []


async def test_missed_periods_are_skipped_with_a_reason(world: World) -> None:
    """After three months of downtime only the running period is billed."""
    sub = await world.subscribe()
    await world.set_now(datetime(2026, 4, 10, tzinfo=UTC))
    await world.renew(sub)
    invoice = await world.row("invoice", subscription_id=sub)
    assert (invoice["period_index"], invoice["period_start"]) == (
        2,
        datetime(2026, 3, 31, 10, tzinfo=UTC),
    )
    skipped = await world.fetch("SELECT period_index FROM period_skip ORDER BY 1")
    assert [row["period_index"] for row in skipped] == [0, 1]
    assert await world.broken() == []


async def test_nothing_to_pay_is_paid_without_a_charge(world: World) -> None:
    """A free plan renews without a request to the gateway."""
    sub = await world.subscribe(plan=await world.plan(amount_minor=0))
    await world.renew(sub)
    assert world.sandbox.charges() == []
    assert await world.told(sub) == ["invoice.paid", "subscription.renewed"]
    assert await world.broken() == []


async def test_an_amount_above_the_ceiling_is_parked_and_its_neighbours_are_charged(
    world: World,
) -> None:
    """One bad row of a batch is taken out with its reason; every other one is charged once."""
    bad_plan = await world.plan(amount_minor=9000, ceiling_minor=5000)
    good_plan = await world.plan()
    good = [await world.subscribe(f"tok_ok_{n}", plan=good_plan) for n in range(9)]
    bad = await world.subscribe("tok_ok_bad", plan=bad_plan)
    await world.renew(*good, bad)
    parked = await world.row("parked")
    assert (parked["kind"], parked["id"], parked["due_at"]) == ("renewal", bad, START)
    assert "ceiling" in parked["reason"]
    assert len(world.sandbox.charges()) == 9
    assert await world.broken() == []


async def test_a_kill_switch_stops_what_is_not_committed(world: World) -> None:
    """While charging is paused nothing is invoiced; afterwards the same ring charges."""
    sub = await world.subscribe()
    async with world.pool.acquire() as conn, conn.transaction():
        await control.pause(conn, scope="seller", scope_id="sel_1", reason="test", who="me")
    await world.renew(sub)
    assert await world.value("SELECT count(*) FROM invoice") == 0
    async with world.pool.acquire() as conn, conn.transaction():
        await control.resume(conn, scope="seller", scope_id="sel_1", reason="test", who="me")
    await world.renew(sub)
    assert len(world.sandbox.charges()) == 1


async def test_a_removed_method_starts_dunning_without_a_charge(world: World) -> None:
    """There is nothing to charge: the invoice waits for the customer until the window ends."""
    sub = await world.subscribe()
    await world.value("UPDATE payment_method SET removed_at = $1 RETURNING 1", START)
    await world.renew(sub)
    assert world.sandbox.charges() == []
    assert (await world.row("subscription", subscription_id=sub))["status"] == "past_due"
    assert await world.told(sub) == ["payment.failed", "subscription.past_due"]
    assert (await world.row("invoice"))["attempt_due_at"] == START + timedelta(days=28)
    assert await world.broken() == []


async def test_a_finite_plan_expires_after_its_last_period(world: World) -> None:
    """Two cycles: two charges, then expired, and nothing more is due."""
    sub = await world.subscribe(plan=await world.plan(cycles=2))
    for now in (START, FEBRUARY, datetime(2026, 3, 31, 10, tzinfo=UTC)):
        await world.set_now(now)
        await world.renew(sub)
    row = await world.row("subscription", subscription_id=sub)
    assert (row["status"], row["next_renewal_at"]) == ("expired", None)
    assert len(world.sandbox.charges()) == 2
    assert (await world.told(sub))[-1] == "subscription.expired"
    assert await world.broken() == []

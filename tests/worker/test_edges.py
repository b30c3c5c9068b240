"""Where two rules meet: each of these was once decided by the wrong one of them."""

from datetime import UTC, datetime, timedelta

from lab.sandbox import Fault
from scheduler.store import claims
from scheduler.store.claims import PageKey
from tests.world import START, World

NOON = START + timedelta(hours=2)
WINDOW = {"charging_window": {"from": "12:00", "to": "14:00"}}


async def test_a_card_removed_before_the_window_opens_starts_dunning(world: World) -> None:
    """The first attempt waited for its window; at the opening there is nothing to charge."""
    sub = await world.subscribe(plan=await world.plan(retry_policy=WINDOW))
    await world.renew(sub)
    invoice = await world.row("invoice")
    assert invoice["attempt_due_at"] == NOON
    await world.execute("UPDATE payment_method SET removed_at = $1", START)
    await world.set_now(NOON)
    await world.collect(invoice["invoice_id"])
    assert (await world.row("subscription", subscription_id=sub))["status"] == "past_due"
    assert await world.told(sub) == ["payment.failed", "subscription.past_due"]
    assert world.sandbox.charges() == []


async def test_a_finite_plan_is_never_billed_past_its_end(world: World) -> None:
    """After half a year of downtime a plan of three periods expires; what was missed is recorded."""
    sub = await world.subscribe(plan=await world.plan(cycles=3))
    await world.set_now(datetime(2026, 8, 10, tzinfo=UTC))
    await world.renew(sub)
    assert (await world.row("subscription", subscription_id=sub))["status"] == "expired"
    skipped = await world.fetch("SELECT period_index FROM period_skip ORDER BY 1")
    assert [row["period_index"] for row in skipped] == [0, 1, 2]
    assert world.sandbox.charges() == []
    assert await world.broken() == []


async def test_a_parked_cancel_still_stops_the_renewal(world: World) -> None:
    """It waits for a person; meanwhile nothing is charged that it would have prevented."""
    sub = await world.subscribe()
    await world.execute("UPDATE subscription SET cancel_at = $1, cancel_origin = 'customer'", START)
    await world.execute(
        "INSERT INTO parked (kind, id, subscription_id, reason, due_at, at)"
        " VALUES ('cancel', $1, $1, 'test', $2, $2)",
        sub,
        START,
    )
    await world.renew(sub)
    assert world.sandbox.charges() == []
    async with world.pool.acquire() as conn:
        nobody = await claims.claim(
            conn,
            claims.CLAIM_CANCELS,
            gateway=None,
            now=START,
            after=PageKey(datetime.min.replace(tzinfo=UTC), ""),
            size=10,
            lease_seconds=40,
            counts=True,
        )
    assert nobody == []


async def test_a_retry_waits_for_a_cancel_that_is_due(world: World) -> None:
    """Both are due: the cancel comes first, whichever doorbell rings first."""
    sub = await world.subscribe("tok_seq_insufficient_funds-ok_1")
    await world.renew(sub)
    invoice = await world.row("invoice")
    await world.execute(
        "UPDATE subscription SET cancel_at = $1, cancel_origin = 'customer'", START + timedelta(1)
    )
    await world.set_now(invoice["attempt_due_at"])
    await world.collect(invoice["invoice_id"])
    assert await world.value("SELECT count(*) FROM attempt") == 1


async def test_a_removed_card_is_not_charged_by_a_resend(world: World) -> None:
    """The first request was refused unread; its key is only looked up once the card is gone."""
    sub = await world.subscribe()
    world.break_gateway(Fault.RATE_LIMITED)
    await world.renew(sub)
    world.heal_gateway()
    await world.execute("UPDATE payment_method SET removed_at = $1", START)
    await world.reconcile()
    assert world.sandbox.charges() == []
    assert (await world.row("attempt", subscription_id=sub))["not_found_at"] is not None


async def test_a_ceiling_is_asked_again_before_each_retry(world: World) -> None:
    """The plan's ceiling came down after the first decline: a person has to look."""
    await world.renew(await world.subscribe("tok_decline_insufficient_funds_1"))
    await world.execute("UPDATE plan SET ceiling_minor = 100")
    invoice = await world.row("invoice")
    await world.set_now(invoice["attempt_due_at"])
    await world.collect(invoice["invoice_id"])
    parked = await world.row("parked")
    assert (parked["kind"], parked["id"]) == ("collection", str(invoice["invoice_id"]))
    assert await world.value("SELECT count(*) FROM attempt") == 1


async def test_the_end_of_a_finite_plan_is_not_announced(world: World) -> None:
    """After the last period nothing is charged, so no mail says it will be."""
    sub = await world.subscribe(plan=await world.plan(cycles=1))
    await world.execute("UPDATE plan SET reminders = '[{\"days_before\": 3}]'")
    await world.renew(sub)
    assert (await world.row("invoice"))["status"] == "paid"
    assert await world.value("SELECT count(*) FROM notice") == 0

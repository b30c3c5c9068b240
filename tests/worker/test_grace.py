"""The end of grace: access ends in time, the debt stays, and a payment takes it all back."""

from datetime import timedelta

from tests.world import START, World
from worker import grace

POLICY = {"grace_days": 2, "schedule": [1, 3, 5], "max_retries": 3}
OVER = START + timedelta(days=2)


async def past_due(world: World, token: str = "tok_decline_insufficient_funds_1") -> str:
    """A subscription whose renewal was declined at the start."""
    plan = min(world.plans) if world.plans else await world.plan(retry_policy=POLICY)
    sub = await world.subscribe(token, plan=plan)
    await world.renew(sub)
    return sub


async def test_access_ends_with_the_grace_and_retries_go_on(world: World) -> None:
    """Unpaid and told so after two days; the retry of the third day recovers it."""
    sub = await past_due(world, "tok_seq_insufficient_funds-insufficient_funds-ok_1")
    assert (await world.row("subscription"))["access_ends_at"] == OVER
    await world.set_now(OVER)
    await world.collect_due()
    await grace.end_grace(world.context, ids=[sub])
    row = await world.row("subscription")
    assert (row["status"], row["access_ends_at"]) == ("unpaid", None)
    assert (await world.told(sub))[-1] == "subscription.unpaid"
    assert await world.broken() == []
    await world.set_now(START + timedelta(days=3))
    await world.collect_due()
    assert (await world.row("subscription"))["status"] == "active"
    assert (await world.told(sub))[-3:] == [
        "invoice.paid",
        "subscription.recovered",
        "subscription.renewed",
    ]
    assert await world.broken() == []


async def test_nothing_ends_early_or_twice(world: World) -> None:
    """A doorbell too early or rung again does nothing."""
    sub = await past_due(world)
    await world.set_now(OVER - timedelta(seconds=1))
    await grace.end_grace(world.context, ids=[sub])
    assert (await world.row("subscription"))["status"] == "past_due"
    await world.set_now(OVER)
    for _ in range(3):
        await grace.end_grace(world.context, ids=[sub])
    assert (await world.told(sub)).count("subscription.unpaid") == 1


async def test_who_paid_in_time_keeps_access(world: World) -> None:
    """The grace was over for nobody: a stale doorbell finds an active subscription."""
    sub = await past_due(world, "tok_seq_insufficient_funds-ok_1")
    await world.set_now(START + timedelta(days=1))
    await world.collect_due()
    await world.set_now(OVER)
    await grace.end_grace(world.context, ids=[sub])
    row = await world.row("subscription")
    assert (row["status"], row["access_ends_at"]) == ("active", None)


async def test_one_bad_row_is_parked_and_the_others_lapse(world: World) -> None:
    """A subscription that breaks its batch is set aside with the reason and its due time."""
    subs = [await past_due(world, f"tok_decline_do_not_honor_{n}") for n in range(5)]
    bad = subs[2]
    await world.execute("UPDATE subscription SET sequence = 0 WHERE subscription_id = $1", bad)
    await world.set_now(OVER)
    await grace.end_grace(world.context, ids=subs)
    parked = await world.row("parked")
    assert (parked["kind"], parked["id"], parked["due_at"]) == ("grace", bad, OVER)
    assert "outbox_sequence" in parked["reason"]
    states = await world.fetch("SELECT status, access_ends_at FROM subscription ORDER BY status")
    assert [tuple(row.values()) for row in states] == [("past_due", None), *[("unpaid", None)] * 4]

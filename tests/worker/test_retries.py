"""Retries: the days of the schedule, one attempt at a time, until paid or given up."""

from datetime import timedelta
from uuid import UUID

from tests.world import START, World


async def invoice_id(world: World) -> UUID:
    """The id of the only invoice."""
    found: UUID = (await world.row("invoice"))["invoice_id"]
    return found


async def live_through(world: World, days: int) -> None:
    """Ring the invoice whenever its attempt is due, up to `days` after the start."""
    for _ in range(40):
        row = await world.row("invoice")
        due = row["attempt_due_at"]
        if due is None or due > START + timedelta(days=days):
            return
        await world.set_now(max(due, START))
        await world.collect(row["invoice_id"])


async def test_a_soft_decline_goes_past_due_and_is_recovered_on_its_day(world: World) -> None:
    """Declined, declined on day 1, paid on day 3: recovered, renewed, and the date moves on."""
    sub = await world.subscribe("tok_seq_insufficient_funds-do_not_honor-ok_1")
    await world.renew(sub)
    row = await world.row("subscription", subscription_id=sub)
    assert (row["status"], row["next_renewal_at"]) == ("past_due", None)
    await live_through(world, 4)
    attempts = await world.fetch("SELECT * FROM attempt ORDER BY ordinal")
    assert [(a["ordinal"], a["state"], a["source"]) for a in attempts] == [
        (1, "declined", "renewal"),
        (2, "declined", "retry"),
        (3, "succeeded", "retry"),
    ]
    assert [(a["claimed_at"] - START).days for a in attempts] == [0, 1, 3]
    assert await world.told(sub) == [
        "payment.failed",
        "subscription.past_due",
        "payment.failed",
        "invoice.paid",
        "subscription.recovered",
        "subscription.renewed",
    ]
    assert (await world.row("invoice"))["recovered_by"] == "retry"
    assert (await world.row("subscription"))["next_renewal_at"] is not None
    assert await world.broken() == []


async def test_an_invoice_that_is_never_paid_ends_the_subscription(world: World) -> None:
    """Eight retries, one fresh attempt at the window's end, then canceled and uncollectible."""
    sub = await world.subscribe("tok_decline_insufficient_funds_1")
    await world.renew(sub)
    await live_through(world, 60)
    attempts = await world.fetch("SELECT * FROM attempt ORDER BY ordinal")
    assert [(a["claimed_at"] - START).days for a in attempts] == [0, 1, 3, 5, 8, 11, 15, 20, 26, 28]
    assert attempts[-1]["source"] == "final"
    row = await world.row("subscription", subscription_id=sub)
    assert (row["status"], row["cancel_origin"]) == ("canceled", "involuntary")
    assert (await world.row("invoice"))["status"] == "uncollectible"
    assert (await world.told(sub))[-2:] == ["invoice.uncollectible", "subscription.canceled"]
    assert await world.broken() == []


async def test_a_hard_decline_is_never_tried_again(world: World) -> None:
    """The method is marked; the invoice waits, and at the window's end the subscription is over."""
    sub = await world.subscribe("tok_decline_stolen_card_1")
    await world.renew(sub)
    assert (await world.row("payment_method"))["hard_decline_code"] == "stolen_card"
    await live_through(world, 60)
    assert await world.value("SELECT count(*) FROM attempt") == 1
    assert (await world.row("subscription", subscription_id=sub))["status"] == "canceled"
    assert await world.broken() == []


async def test_unpaid_keeps_the_invoice_collectable_and_a_payment_revives(world: World) -> None:
    """`on_exhausted: unpaid`; a person's attempt after it makes the subscription active again."""
    plan = await world.plan(
        retry_policy={"max_retries": 1, "window_days": 3, "schedule": [1], "on_exhausted": "unpaid"}
    )
    declines = "insufficient_funds-" * 3
    sub = await world.subscribe(f"tok_seq_{declines}ok_1", plan=plan)
    await world.renew(sub)
    await live_through(world, 10)
    assert (await world.row("subscription", subscription_id=sub))["status"] == "unpaid"
    invoice = await world.row("invoice")
    assert (invoice["status"], invoice["attempt_due_at"]) == ("open", None)
    assert await world.broken() == []
    await world.value(
        "UPDATE invoice SET attempt_due_at = $1, attempt_source = 'manual',"
        " requested_source = 'manual' RETURNING 1",
        START,
    )
    await world.collect(invoice["invoice_id"])
    assert (await world.row("subscription", subscription_id=sub))["status"] == "active"
    assert (await world.row("invoice"))["recovered_by"] == "manual"
    assert await world.broken() == []


async def test_a_technical_decline_is_tried_after_one_and_six_hours(world: World) -> None:
    """Outside the schedule: the ladder's first day is still there."""
    sub = await world.subscribe("tok_seq_processing_error-processing_error-processing_error-ok_1")
    await world.renew(sub)
    await live_through(world, 2)
    attempts = await world.fetch("SELECT * FROM attempt ORDER BY ordinal")
    hours = [(a["claimed_at"] - START) // timedelta(hours=1) for a in attempts]
    assert hours == [0, 1, 6, 24]
    assert (await world.row("subscription", subscription_id=sub))["status"] == "active"


async def test_ringing_an_invoice_that_is_not_due_does_nothing(world: World) -> None:
    """The schedule decides, not the doorbell."""
    sub = await world.subscribe("tok_decline_insufficient_funds_1")
    await world.renew(sub)
    await world.collect(await invoice_id(world))
    assert await world.value("SELECT count(*) FROM attempt") == 1

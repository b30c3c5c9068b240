"""`while_past_due: bill`: several open invoices of one subscription, each with its own dunning."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.world import START, World

FEBRUARY = datetime(2026, 2, 28, 10, 0, tzinfo=UTC)
MARCH = datetime(2026, 3, 31, 10, 0, tzinfo=UTC)
LONG = {"max_retries": 1, "window_days": 100, "schedule": [90]}


async def two_open(world: World, token: str, policy: dict[str, Any], **plan: Any) -> str:
    """A subscription whose first two periods were invoiced and declined."""
    plan_id = await world.plan(retry_policy=policy, while_past_due="bill", **plan)
    sub = await world.subscribe(token, plan=plan_id)
    await world.renew(sub)
    await world.set_now(FEBRUARY)
    await world.renew(sub)
    rows = await world.fetch("SELECT status FROM invoice")
    assert [row["status"] for row in rows] == ["open", "open"]
    return sub


async def test_a_past_due_subscription_is_invoiced_on(world: World) -> None:
    """The second period is invoiced and declined too; the messages are numbered in one row."""
    sub = await two_open(world, "tok_decline_insufficient_funds_1", LONG)
    assert await world.told(sub) == [
        "payment.failed",
        "subscription.past_due",
        "payment.failed",
    ]
    assert (await world.row("subscription"))["next_renewal_at"] == MARCH
    assert await world.broken() == []


async def test_both_are_collected_in_one_batch(world: World) -> None:
    """Two attempts of one subscription in one transaction and one settle group: both are paid."""
    declines = "insufficient_funds-" * 2
    sub = await two_open(world, f"tok_seq_{declines}ok_1", LONG)
    await world.ask(sub, "manual")
    await world.collect_due()
    assert sorted(world.taken().values()) == [1, 1]
    row = await world.row("subscription")
    assert (row["status"], row["next_renewal_at"]) == ("active", MARCH)
    assert (row["current_period_start"], row["current_period_end"]) == (FEBRUARY, MARCH)
    assert sorted((await world.told(sub))[3:]) == sorted(
        ["invoice.paid", "subscription.recovered", "subscription.renewed"] * 2
    )
    assert await world.broken() == []


async def test_paying_the_older_period_later_takes_no_time_away(world: World) -> None:
    """The newer invoice is paid first; the paid period never moves backwards."""
    sub = await two_open(world, "tok_seq_insufficient_funds-insufficient_funds-ok_1", LONG)
    older, newer = await world.fetch("SELECT * FROM invoice ORDER BY period_index")
    await world.ask(sub, "manual")
    await world.collect(newer["invoice_id"])
    assert (await world.row("subscription"))["current_period_end"] == MARCH
    await world.collect(older["invoice_id"])
    row = await world.row("subscription")
    assert (row["current_period_start"], row["current_period_end"]) == (FEBRUARY, MARCH)
    assert await world.broken() == []


async def test_a_debt_that_goes_on_after_a_payment_is_past_due_again(world: World) -> None:
    """The newer period is paid, the older one declined once more: past due, told again."""
    token = "tok_seq_insufficient_funds-insufficient_funds-ok-insufficient_funds_1"
    sub = await two_open(world, token, LONG)
    older, newer = await world.fetch("SELECT * FROM invoice ORDER BY period_index")
    await world.ask(sub, "manual")
    await world.collect(newer["invoice_id"])
    assert (await world.row("subscription"))["status"] == "active"
    await world.collect(older["invoice_id"])
    assert (await world.row("subscription"))["status"] == "past_due"
    assert (await world.told(sub))[-2:] == ["payment.failed", "subscription.past_due"]
    assert await world.broken() == []


async def test_giving_one_up_ends_the_other(world: World) -> None:
    """The end of one dunning cancels the subscription: nothing more is charged for the other."""
    policy = {"max_retries": 0, "window_days": 30, "schedule": []}
    await two_open(world, "tok_decline_insufficient_funds_1", policy)
    await world.set_now(START + timedelta(days=30))
    await world.collect_due()
    assert len(world.sandbox.charges()) == 3
    # The fresh attempt was declined; now both are due in one batch.
    await world.execute("UPDATE invoice SET attempt_due_at = $1 WHERE status = 'open'", START)
    await world.collect_due()
    assert len(world.sandbox.charges()) == 3
    statuses = await world.fetch("SELECT status FROM invoice ORDER BY period_index")
    assert [row["status"] for row in statuses] == ["uncollectible", "void"]
    assert (await world.row("subscription"))["status"] == "canceled"
    assert await world.broken() == []


async def test_giving_one_up_drops_what_was_drafted_beside_it(world: World) -> None:
    """The older one is about to be charged when the newer one's end takes the subscription along."""
    policy = {"max_retries": 0, "window_days": 3, "schedule": []}
    sub = await two_open(world, "tok_decline_insufficient_funds_1", policy)
    older, newer = await world.fetch("SELECT * FROM invoice ORDER BY period_index")
    tried = "UPDATE attempt SET source = 'final' WHERE invoice_id = $1"
    await world.execute(tried, newer["invoice_id"])
    await world.ask(sub, "manual")
    no_wish = "UPDATE invoice SET requested_source = NULL, attempt_source = 'final'"
    await world.execute(f"{no_wish} WHERE invoice_id = $1", newer["invoice_id"])
    await world.set_now(FEBRUARY + timedelta(days=3))
    await world.collect(newer["invoice_id"], older["invoice_id"])
    assert len(world.sandbox.charges()) == 2
    assert (await world.row("subscription"))["status"] == "canceled"
    statuses = await world.fetch("SELECT status FROM invoice ORDER BY period_index")
    assert [row["status"] for row in statuses] == ["void", "uncollectible"]
    assert await world.broken() == []


async def test_unpaid_after_another_period_was_paid(world: World) -> None:
    """Active for the newer period, given up for the older one: unpaid, and nothing is forgotten."""
    policy = {"max_retries": 0, "window_days": 30, "schedule": [], "on_exhausted": "unpaid"}
    sub = await two_open(world, "tok_seq_insufficient_funds-insufficient_funds-ok_1", policy)
    older, newer = await world.fetch("SELECT * FROM invoice ORDER BY period_index")
    await world.ask(sub, "manual")
    await world.collect(newer["invoice_id"])
    await world.execute("UPDATE invoice SET requested_source = NULL, attempt_source = 'final'")
    await world.execute("UPDATE payment_method SET removed_at = $1", FEBRUARY)
    await world.set_now(START + timedelta(days=30))
    await world.collect(older["invoice_id"])
    row = await world.row("subscription")
    assert (row["status"], row["next_renewal_at"]) == ("unpaid", None)
    assert (await world.told(sub))[-1] == "subscription.unpaid"
    assert await world.broken() == []


async def test_a_finite_plan_waits_for_its_last_debt(world: World) -> None:
    """All periods are invoiced, one is not paid: it expires only when that one is."""
    declines = "insufficient_funds-" * 2
    sub = await two_open(world, f"tok_seq_{declines}ok_1", LONG, cycles=2)
    await world.set_now(MARCH)
    await world.renew(sub)
    row = await world.row("subscription")
    assert (row["status"], row["next_renewal_at"]) == ("past_due", None)
    assert await world.broken() == []
    await world.ask(sub, "manual")
    await world.collect_due()
    await world.renew(sub)
    assert (await world.row("subscription"))["status"] == "expired"
    assert await world.broken() == []

"""Attempts that somebody asked for: what is in their way, where they go, and when they are refused."""

from datetime import timedelta
from typing import Any

import pytest

from lab.sandbox import Fault
from tests.world import START, World

DUE = (
    "UPDATE invoice SET attempt_due_at = $1, attempt_source = 'manual', requested_source = 'manual'"
)


async def under_way(world: World, state: str) -> dict[str, Any]:
    """The invoice of a renewal whose attempt is in that state, and asked for once more."""
    await world.subscribe({"pending": "tok_pending_ok_1"}.get(state, "tok_action_ok_1"))
    if state == "unknown":
        world.break_gateway(Fault.RESET)
    await world.renew(*(row["subscription_id"] for row in await world.fetch("TABLE subscription")))
    world.heal_gateway()
    assert (await world.row("attempt"))["state"] == state
    await world.execute(DUE, START)
    return await world.row("invoice")


@pytest.mark.parametrize("state", ["unknown", "pending", "action_required"])
async def test_nothing_is_charged_beside_an_attempt_under_way(world: World, state: str) -> None:
    """The wish waits; what can be ended at the gateway is looked at now, the unknown in its time."""
    invoice = await under_way(world, state)
    await world.set_now(START + timedelta(minutes=1))
    before = await world.row("attempt")
    await world.collect(invoice["invoice_id"])
    row = await world.row("invoice")
    assert (row["attempt_due_at"], row["requested_source"]) == (None, "manual")
    after = await world.row("attempt")
    ends = state != "unknown"
    assert after["check_due_at"] == (START + timedelta(minutes=1) if ends else START)
    assert (after["retake_at"] > before["retake_at"]) is ends
    assert await world.broken() == []
    await world.walk()
    await world.collect_due()
    first, second = world.sandbox.charges()
    assert (first["status"], (await world.row("attempt", ordinal=2))["source"]) == (
        "canceled",
        "manual",
    )
    assert second["status"] != "succeeded"


async def test_a_frozen_attempt_stays_frozen_whatever_is_asked(world: World) -> None:
    """It waits for a person, and so does the wish."""
    invoice = await under_way(world, "pending")
    await world.execute("UPDATE attempt SET needs_human = 'look', check_due_at = NULL")
    await world.collect(invoice["invoice_id"])
    assert (await world.row("attempt"))["check_due_at"] is None
    assert (await world.row("invoice"))["attempt_due_at"] is None


async def test_an_invoice_follows_its_card_to_another_gateway(world: World) -> None:
    """This gateway never sees the other one's token; that one's sweep finds the invoice due."""
    await world.renew(await world.subscribe("tok_decline_insufficient_funds_1"))
    await world.execute("UPDATE payment_method SET gateway = 'other', token = 'x'")
    await world.execute("UPDATE subscription SET gateway = 'other'")
    await world.execute(DUE, START)
    await world.execute("UPDATE invoice SET claimed_until = 'infinity'")
    await world.collect((await world.row("invoice"))["invoice_id"])
    row = await world.row("invoice")
    assert (row["gateway"], row["attempt_due_at"], row["claimed_until"]) == ("other", START, None)
    assert len(world.sandbox.charges()) == 1


async def test_a_wish_that_is_refused_is_over(world: World) -> None:
    """A blocked card: refused until the window's end, and then it is a retry like any other."""
    await world.renew(await world.subscribe("tok_decline_stolen_card_1"))
    await world.execute(DUE, START)
    await world.collect_due()
    row = await world.row("invoice")
    assert row["attempt_due_at"] == START + timedelta(days=28)
    assert (row["attempt_source"], row["requested_source"]) == ("retry", None)
    assert len(world.sandbox.charges()) == 1
    await world.set_now(START + timedelta(days=28))
    await world.collect_due()
    assert (await world.row("subscription"))["status"] == "canceled"
    assert len(world.sandbox.charges()) == 1
    assert await world.broken() == []


async def test_a_wish_counts_as_itself(world: World) -> None:
    """A person's attempt uses up no day of the schedule: the next retry keeps its day."""
    await world.renew(await world.subscribe("tok_decline_insufficient_funds_1"))
    await world.set_now(START + timedelta(hours=1))
    await world.execute(DUE, START + timedelta(hours=1))
    await world.collect_due()
    assert (await world.row("attempt", ordinal=2))["source"] == "manual"
    row = await world.row("invoice")
    assert (row["attempt_due_at"], row["attempt_source"]) == (START + timedelta(days=1), "retry")

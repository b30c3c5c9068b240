"""The end of a subscription: now, with its period, by an operator; and what is under way then."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests import platform_events as shop
from tests.platform_events import NOW
from tests.worker.taking import PENDING, indebted, kept, take
from tests.world import START, World
from worker.cancellations import cancel_due

PERIOD_END = datetime(2026, 3, 1, tzinfo=UTC)
PAID = PERIOD_END.isoformat()


async def status(world: World, subscription_id: str = "sub_1") -> dict[str, Any]:
    """What is left of a subscription."""
    row = await world.row("subscription", subscription_id=subscription_id)
    names = ("status", "ended_at", "next_renewal_at", "cancel_at", "cancel_origin")
    return {name: row[name] for name in names}


async def last_message(world: World) -> dict[str, Any]:
    """The newest message."""
    body = await world.value("SELECT body FROM outbox_event ORDER BY position DESC LIMIT 1")
    message: dict[str, Any] = json.loads(body)
    return message


ENDED = {
    "status": "canceled",
    "ended_at": START,
    "next_renewal_at": None,
    "cancel_at": None,
    "cancel_origin": "customer",
}


@pytest.mark.parametrize("told", [{}, {"trial_days": 7}, {"paid_through": PAID}])
async def test_cancel_now_ends_it_now(world: World, told: dict[str, Any]) -> None:
    """Pending, in trial or active: nothing renews, nothing is announced, the platform is told."""
    await take(world, shop.seller(), shop.plan(reminders=[{"days_before": 1}]), shop.customer())
    await take(world, shop.method(), shop.created(**told))
    await take(world, shop.cancel())
    assert await status(world) == ENDED
    assert {row["state"] for row in await world.fetch("SELECT state FROM notice")} <= {"dropped"}
    message = await last_message(world)
    assert message["type"] == "billing.subscription.canceled"
    assert (message["data"]["origin"], message["data"]["reason"]) == ("customer", "requested")
    assert await world.broken() == []


async def test_a_debt_is_void_with_the_subscription(world: World) -> None:
    """An open invoice with nothing under way is void; no retry comes."""
    await indebted(world)
    await take(world, shop.cancel())
    assert (await world.row("invoice"))["status"] == "void"
    assert (await world.told("sub_1"))[-2:] == ["invoice.voided", "subscription.canceled"]
    moves = await world.fetch(
        "SELECT machine, from_state, to_state FROM transition WHERE actor = 'intake'"
    )
    assert [tuple(move.values()) for move in moves] == [
        ("invoice", "open", "void"),
        ("subscription", "past_due", "canceled"),
    ]
    assert await world.broken() == []


async def test_what_is_under_way_is_not_voided(world: World) -> None:
    """The invoice of a pending payment stays open, without retries: reading settles it."""
    await indebted(world, PENDING)
    await take(world, shop.cancel())
    row = await world.row("invoice")
    assert (row["status"], row["attempt_due_at"]) == ("open", None)
    assert (await status(world))["status"] == "canceled"
    assert (await world.told("sub_1"))[-1] == "subscription.canceled"


async def test_period_end_ends_it_when_the_period_does(world: World) -> None:
    """Until then it is active and may be undone; then it is canceled for the same reason."""
    await take(world, *shop.sign_up(paid_through=PAID), shop.cancel(when="period_end"))
    before = await status(world)
    assert (before["status"], before["cancel_at"]) == ("active", PERIOD_END)
    assert (await last_message(world))["data"]["cancel_at"] == "2026-03-01T00:00:00Z"
    await cancel_due(world.context, ids=["sub_1"])
    assert (await status(world))["status"] == "active"
    await world.set_now(PERIOD_END)
    await cancel_due(world.context, ids=["sub_1", "unknown"])
    await cancel_due(world.context, ids=["sub_1"])
    assert await status(world) == ENDED | {"ended_at": PERIOD_END}
    assert await world.told("sub_1") == [
        "subscription.activated",
        "subscription.cancel_scheduled",
        "subscription.canceled",
    ]


@pytest.mark.parametrize("state", ["pending", "past_due"])
async def test_without_a_paid_period_period_end_is_now(world: World, state: str) -> None:
    """What was never paid, or is paid no longer, ends at once."""
    if state == "pending":
        await take(world, *shop.sign_up())
    else:
        await indebted(world)
    await take(world, shop.cancel(when="period_end"))
    assert await status(world) == ENDED


async def test_an_undone_cancel_leaves_no_trace(world: World) -> None:
    """The subscription renews as if nothing had been said."""
    await take(world, *shop.sign_up(paid_through=PAID))
    before = await world.row("subscription")
    await take(world, shop.cancel(when="period_end"))
    await take(world, shop.undo(at=NOW + timedelta(minutes=1)))
    after = await world.row("subscription")
    assert after | {"sequence": 0} == before | {"sequence": 0}


async def test_what_has_ended_cannot_be_undone(world: World) -> None:
    """The undo is refused and told; a second cancel is as good as the first."""
    later = NOW + timedelta(minutes=1)
    await take(world, *shop.sign_up(), shop.cancel(), shop.cancel(when="period_end"))
    assert (await take(world, shop.undo(at=later))).refused == 1
    assert (await take(world, shop.cancel(at=later))).applied == 1
    assert await kept(world) == [("refused", "data.subscription_id", None)]
    canceled = [kind for kind in await world.told("sub_1") if kind == "subscription.canceled"]
    assert len(canceled) == 1


@pytest.fixture
async def broken_sub(world: World) -> AsyncIterator[World]:
    """A world in which Postgres refuses to end `sub_bad`."""
    await world.value(
        "ALTER TABLE subscription ADD CONSTRAINT never_ends"
        " CHECK (subscription_id <> 'sub_bad' OR status <> 'canceled')"
    )
    yield world
    await world.value("ALTER TABLE subscription DROP CONSTRAINT never_ends")


async def test_a_cancel_that_breaks_its_batch_is_parked(broken_sub: World) -> None:
    """Its neighbours end; it is set aside with the reason until a person releases it."""
    ids = ["sub_1", "sub_bad", "sub_3"]
    await take(broken_sub, *shop.sign_up(paid_through=PAID))
    await take(broken_sub, *(shop.created(id_, paid_through=PAID) for id_ in ids[1:]))
    await take(broken_sub, *(shop.cancel(id_, when="period_end") for id_ in ids))
    await broken_sub.set_now(PERIOD_END)
    await cancel_due(broken_sub.context, ids=ids)
    found = [(await status(broken_sub, id_))["status"] for id_ in ids]
    assert found == ["canceled", "active", "canceled"]
    row = await broken_sub.row("parked")
    assert (row["kind"], row["id"], row["due_at"]) == ("cancel", "sub_bad", PERIOD_END)
    assert "CheckViolationError" in row["reason"]

"""Messages out of order: the newer one of a group counts, whenever it comes."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests import platform_events as shop
from tests.platform_events import NOW
from tests.worker.taking import take, take_singly
from tests.world import World

LATER = NOW + timedelta(minutes=1)
Make = Callable[[datetime], bytes]

# (what is there before, the older message, the newer one, what is read, what it must say)
ORDERS: list[tuple[list[bytes], Make, Make, str, Any]] = [
    # profile: each `.upserted` as a whole
    (
        [],
        lambda at: shop.seller(at=at, name="Old", locale="pt-BR"),
        lambda at: shop.seller(at=at, name="New"),
        "SELECT name || coalesce(locale, '') FROM seller",
        "New",
    ),
    (
        [shop.seller()],
        lambda at: shop.plan(at=at, trial_days=7),
        lambda at: shop.plan(at=at, trial_days=14),
        "SELECT trial_days FROM plan",
        14,
    ),
    (
        [],
        lambda at: shop.customer(at=at, name="Old"),
        lambda at: shop.customer(at=at, email="new@example.com"),
        "SELECT email || coalesce(name, '') FROM customer",
        "new@example.com",
    ),
    # profile of one payment method: attached, updated, removed
    (
        [shop.customer()],
        lambda at: shop.method(at=at, token="tok_old"),
        lambda at: shop.method(at=at, token="tok_new"),
        "SELECT token FROM payment_method",
        "tok_new",
    ),
    (
        [shop.customer(), shop.method(at=NOW - timedelta(days=1))],
        lambda at: shop.updated(at=at, token="tok_old"),
        lambda at: shop.updated(at=at, token="tok_new"),
        "SELECT token FROM payment_method",
        "tok_new",
    ),
    (
        [shop.customer(), shop.method(at=NOW - timedelta(days=1))],
        lambda at: shop.removed(at=at),
        lambda at: shop.method(at=at),
        "SELECT removed_at IS NULL FROM payment_method",
        True,
    ),
    (
        [shop.customer(), shop.method(at=NOW - timedelta(days=1))],
        lambda at: shop.method(at=at),
        lambda at: shop.removed(at=at),
        "SELECT removed_at IS NULL FROM payment_method",
        False,
    ),
    # the customer's default, by the times of the methods
    (
        [shop.customer()],
        lambda at: shop.method("pm_old", at=at, default=True),
        lambda at: shop.method("pm_new", at=at, default=True),
        "SELECT default_payment_method_id FROM customer",
        "pm_new",
    ),
    # cancellation
    (
        shop.sign_up(paid_through="2026-03-01T00:00:00Z"),
        lambda at: shop.cancel(when="period_end", at=at),
        lambda at: shop.undo(at=at),
        "SELECT cancel_at FROM subscription",
        None,
    ),
    (
        shop.sign_up(paid_through="2026-03-01T00:00:00Z"),
        lambda at: shop.undo(at=at),
        lambda at: shop.cancel(when="now", at=at),
        "SELECT status FROM subscription",
        "canceled",
    ),
    # method
    (
        [*shop.sign_up(), shop.method("pm_2"), shop.method("pm_3")],
        lambda at: shop.changed("pm_2", at=at),
        lambda at: shop.changed("pm_3", at=at),
        "SELECT payment_method_id FROM subscription",
        "pm_3",
    ),
]


@pytest.mark.parametrize("in_one_batch", [True, False])
@pytest.mark.parametrize("newer_first", [True, False])
@pytest.mark.parametrize("case", ORDERS)
async def test_the_newer_message_counts(
    world: World,
    case: tuple[list[bytes], Make, Make, str, object],
    *,
    newer_first: bool,
    in_one_batch: bool,
) -> None:
    """Whichever of two messages of a group comes first, the state is that of the newer one."""
    before, older, newer, query, expected = case
    await world.set_now(LATER)
    await take(world, *before)
    pair = [older(NOW), newer(LATER)]
    if newer_first:
        pair.reverse()
    if in_one_batch:
        await take(world, *pair)
    else:
        await take_singly(world, pair)
    assert await world.value(query) == expected
    assert await world.broken() == []


async def test_an_older_message_is_recorded_as_superseded(world: World) -> None:
    """It is in the inbox with that result, and nobody is told of a fault."""
    done = await take(world, shop.customer(at=LATER), shop.customer(at=NOW))
    assert (done.applied, done.superseded) == (1, 1)
    rows = await world.fetch("SELECT result FROM inbox_event ORDER BY position")
    assert [row["result"] for row in rows] == ["applied", "superseded"]
    assert await world.value("SELECT count(*) FROM outbox_event") == 0


@pytest.mark.parametrize("ids", [("a", "b"), ("b", "a")])
async def test_at_equal_times_the_greater_id_wins(world: World, ids: tuple[str, str]) -> None:
    """Two profiles of the same instant: the event id decides, not the order of arrival."""
    for id_ in ids:
        told = {"customer_id": "c", "email": f"{id_}@example.com"}
        await take(world, shop.event("customer.upserted", told, id=id_))
    assert await world.value("SELECT email FROM customer") == "b@example.com"


@pytest.mark.parametrize("cancel_first", [True, False])
@pytest.mark.parametrize(("cancel_id", "undo_id"), [("a", "b"), ("b", "a")])
async def test_at_equal_times_a_cancel_beats_its_undo(
    world: World, cancel_id: str, undo_id: str, *, cancel_first: bool
) -> None:
    """Whatever the ids, and whichever comes first (LIFECYCLE 45)."""
    await take(world, *shop.sign_up(paid_through="2026-03-01T00:00:00Z"))
    pair = [shop.cancel(when="period_end", id=cancel_id), shop.undo(id=undo_id)]
    await take_singly(world, pair if cancel_first else pair[::-1])
    assert await world.value("SELECT cancel_at IS NOT NULL FROM subscription")


async def test_facts_are_never_superseded(world: World) -> None:
    """An older request to collect or to send again is carried out all the same."""
    await take(world, *shop.sign_up(paid_through="2026-03-01T00:00:00Z"))
    await take(world, shop.sync(at=LATER), shop.sync(at=NOW))
    assert await world.told("sub_1") == [
        "subscription.activated",
        "subscription.snapshot",
        "subscription.snapshot",
    ]

"""Messages that name something unknown: they wait, and come into effect with what they miss."""

import itertools
from datetime import timedelta

import pytest

from tests import platform_events as shop
from tests.platform_events import NOW
from tests.worker.taking import dump, forget, kept, take, take_singly
from tests.world import START, World
from worker.errors import UsageError
from worker.platform.rejects import expire_waiting, replay

DAY = timedelta(hours=24)

# What waits for what, one message that names something unknown a line.
MISSING = [
    (shop.plan(), "data.seller_id", "seller:sel_1"),
    (shop.method(), "data.customer_id", "customer:cus_1"),
    (shop.updated(), "data.payment_method_id", "payment_method:pm_1"),
    (shop.removed(), "data.payment_method_id", "payment_method:pm_1"),
    (shop.created(), "data.customer_id", "customer:cus_1"),
    (shop.cancel(), "data.subscription_id", "subscription:sub_1"),
    (shop.undo(), "data.subscription_id", "subscription:sub_1"),
    (shop.changed("pm_2"), "data.subscription_id", "subscription:sub_1"),
    (shop.sync(), "data.subscription_id", "subscription:sub_1"),
    (shop.collect(subscription_id="sub_1"), "data.subscription_id", "subscription:sub_1"),
    (shop.collect(invoice_id="inv_1"), "data.invoice_id", "invoice:inv_1"),
    (shop.settled(gateway_ref="ch_1"), "data.gateway_ref", "payment:sandbox:ch_1"),
    (shop.settled(idempotency_key="k"), "data.idempotency_key", "payment:sandbox:k"),
]


async def expire(world: World) -> None:
    """Ring the end of waiting for everything that is kept."""
    rows = await world.fetch("SELECT rejected_id FROM rejected_event")
    await expire_waiting(world.context, ids=[str(row["rejected_id"]) for row in rows])


async def replay_all(world: World) -> list[str]:
    """Apply everything that is kept once more; the states afterwards."""
    rows = await world.fetch("SELECT rejected_id FROM rejected_event ORDER BY 1")
    async with world.pool.acquire() as conn:
        return [(await replay(conn, row["rejected_id"], wait=DAY)).state for row in rows]


@pytest.mark.parametrize(("body", "field", "waits_for"), MISSING)
async def test_an_unknown_reference_waits(
    world: World, body: bytes, field: str, waits_for: str
) -> None:
    """The message is kept whole, with the field and the thing that it misses; nobody is told yet."""
    done = await take(world, body)
    assert done.waiting == 1
    assert await kept(world) == [("waiting", field, waits_for)]
    assert (await world.row("rejected_event"))["body"] == body
    assert await world.value("SELECT count(*) FROM outbox_event") == 0


async def test_any_order_of_a_sign_up_ends_the_same(world: World) -> None:
    """All 120 orders of seller, plan, customer, method and subscription, in batches of one and two."""
    bodies = shop.sign_up(paid_through="2026-03-01T00:00:00Z")
    await take(world, *bodies)
    expected = await dump(world)
    for order in itertools.permutations(bodies):
        await forget(world)
        await take(world, *order[:2])
        await take(world, *order[2:4])
        await take(world, order[4])
        found = await dump(world)
        assert {state for state, _, _ in await kept(world)} <= {"applied"}
        for table in ("subscription", "outbox_event", "plan", "payment_method"):
            assert found[table] == expected[table]


async def test_a_chain_is_applied_with_its_first_link(world: World) -> None:
    """Plan, method, subscription and cancel all wait; customer and seller release all of them."""
    chain = [shop.cancel(), shop.created(), shop.method(), shop.plan()]
    await take_singly(world, chain)
    assert (await take(world, shop.customer())).applied == 2
    done = await take(world, shop.seller())
    assert (done.applied, done.waiting) == (4, 0)
    assert (await world.row("subscription"))["status"] == "canceled"
    assert {state for state, _, _ in await kept(world)} == {"applied"}


async def test_what_misses_two_things_waits_for_the_next(world: World) -> None:
    """It has the customer now and misses the plan; the day it may wait runs on."""
    await take(world, shop.created(), shop.seller())
    expires_at = (await world.row("rejected_event"))["expires_at"]
    await world.set_now(START + timedelta(hours=5))
    await take(world, shop.customer())
    row = await world.row("rejected_event")
    assert (row["waits_for"], row["expires_at"]) == ("plan:plan_1", expires_at)


async def test_what_waited_is_applied_in_the_order_of_its_time(world: World) -> None:
    """Partial updates that wait together all count, older first, however they came."""
    newer = shop.updated(at=NOW + timedelta(minutes=2), exp_month=2)
    older = shop.updated(at=NOW + timedelta(minutes=1), token="tok_new")
    await take(world, newer, older)
    await take(world, shop.customer(), shop.method())
    row = await world.row("payment_method")
    assert (row["token"], row["exp_month"]) == ("tok_new", 2)


async def test_what_waited_may_be_superseded_by_what_brings_it(world: World) -> None:
    """An update that is older than the card's own message has no effect any more."""
    await take(world, shop.customer(), shop.updated(at=NOW - timedelta(minutes=1), token="tok_old"))
    done = await take(world, shop.method())
    assert (done.applied, done.superseded) == (1, 1)
    assert (await world.row("payment_method"))["token"] == "tok_ok_pm_1"
    row = await world.row("rejected_event")
    assert (row["state"], row["error"]) == ("applied", "superseded")


async def test_two_messages_that_name_each_other_both_apply(world: World) -> None:
    """A seller's pass names its plan, the plan its seller (LIFECYCLE 36)."""
    offer = {"plan_id": "plan_1", "threshold_minor": 10_000, "currency": "USD"}
    done = await take(world, shop.plan(), shop.seller(pass_offer=offer))
    assert (done.applied, done.waiting) == (2, 0)
    assert (await world.row("seller"))["pass_offer"] == offer


async def test_after_a_day_waiting_ends(world: World) -> None:
    """Not before 24 h; then it is rejected and told, and what it misses comes too late."""
    await take(world, shop.method())
    await world.set_now(START + DAY - timedelta(seconds=1))
    await expire(world)
    assert await kept(world) == [("waiting", "data.customer_id", "customer:cus_1")]
    await world.set_now(START + DAY)
    await expire(world)
    await expire(world)
    assert await kept(world) == [("rejected", "data.customer_id", None)]
    assert await world.value("SELECT type FROM outbox_event") == "billing.event.rejected"
    await take(world, shop.customer())
    assert await world.value("SELECT count(*) FROM payment_method") == 0


async def test_a_last_try_finds_what_nobody_announced(world: World) -> None:
    """At the end of its time a message is tried once more before it is rejected."""
    await take(world, shop.method())
    await world.value("INSERT INTO customer (customer_id, email) VALUES ('cus_1', 'a@b.c')")
    await world.set_now(START + DAY)
    await expire(world)
    assert await kept(world) == [("applied", "data.customer_id", None)]
    assert await world.value("SELECT count(*) FROM payment_method") == 1


async def test_a_rejected_message_can_be_replayed(world: World) -> None:
    """Applied if it can be now, waiting again if it misses something, refused if a rule says so."""
    await take(world, shop.method())
    await world.set_now(START + DAY)
    await expire(world)
    assert await replay_all(world) == ["waiting"]
    assert await replay_all(world) == ["waiting"]
    await world.value("INSERT INTO customer (customer_id, email) VALUES ('cus_1', 'a@b.c')")
    assert await replay_all(world) == ["applied"]
    with pytest.raises(UsageError, match="is applied: should be one of the list"):
        await replay_all(world)


async def test_a_message_that_breaks_the_contract_stays_rejected(world: World) -> None:
    """Replaying does not repair it."""
    await take(world, shop.customer(email="ada"), b"{")
    assert await replay_all(world) == ["rejected", "rejected"]


async def test_a_replayed_message_releases_what_waits_for_it(world: World) -> None:
    """A customer that was rejected for a typo in our rules brings its method."""
    await take(world, shop.customer(), shop.method("pm_2", customer_id="cus_2"))
    await world.value("UPDATE rejected_event SET waits_for = 'customer:cus_1'")
    await world.value("DELETE FROM customer")
    await world.value(
        "INSERT INTO rejected_event (source, event_id, type, state, field, error, body, received_at)"
        " VALUES ('shop', 'x', 't', 'rejected', 'f', 'e', $1, $2)",
        shop.customer("cus_1", at=NOW + timedelta(minutes=1)),
        START,
    )
    row = await world.row("rejected_event", event_id="x")
    async with world.pool.acquire() as conn:
        assert (await replay(conn, row["rejected_id"], wait=DAY)).state == "applied"
    waits = await world.fetch("SELECT waits_for FROM rejected_event WHERE state = 'waiting'")
    assert [row["waits_for"] for row in waits] == ["customer:cus_2"]

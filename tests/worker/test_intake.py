"""The intake's batches: every message counts once, whatever its neighbours are like."""

import json
from collections.abc import AsyncIterator

import pytest

from billing.checks import find_card_number
from tests import platform_events as shop
from tests.platform_cases import REJECTED
from tests.worker.taking import dump, forget, kept, take, take_singly
from tests.world import World
from worker.platform.batches import BatchResult, Delivery, apply_batch
from worker.store.inbox import Clock


def result(**counts: int) -> BatchResult:
    """What a batch answers, 0 for what is not named."""
    names = ("applied", "superseded", "duplicates", "waiting", "rejected", "refused")
    return BatchResult(**{name: counts.get(name, 0) for name in names})


@pytest.fixture
async def eve(world: World) -> AsyncIterator[World]:
    """A world in which Postgres refuses customers named Eve, and no check of ours does."""
    await world.value("ALTER TABLE customer ADD CONSTRAINT no_eve CHECK (name <> 'Eve')")
    yield world
    await world.value("ALTER TABLE customer DROP CONSTRAINT no_eve")


async def rejected_messages(world: World) -> list[dict[str, object]]:
    """What the platform was told about messages without effect."""
    rows = await world.fetch(
        "SELECT body FROM outbox_event WHERE type = 'billing.event.rejected' ORDER BY position"
    )
    return [json.loads(row["body"]) for row in rows]


async def test_a_sign_up_in_one_batch(world: World) -> None:
    """Seller, plan, customer, method and subscription come in one batch, and each has its row."""
    assert await take(world, *shop.sign_up()) == result(applied=5)
    row = await world.row("subscription")
    assert (row["status"], row["zone"], row["quantity"]) == ("pending", "UTC", 1)
    assert await kept(world) == []
    assert await world.broken() == []


async def test_every_message_is_kept_as_it_came(world: World) -> None:
    """The inbox has the bytes, the time and the result of each."""
    body = shop.customer(nickname="Ada")
    await take(world, body)
    row = await world.row("inbox_event")
    assert (row["body"], row["occurred_at"], row["result"]) == (body, shop.NOW, "applied")
    assert (await world.row("customer"))["extra"] == {"nickname": "Ada"}


async def test_duplicates_have_no_second_effect(world: World) -> None:
    """The same source and id, in one batch or later, counts once; other content changes nothing."""
    first = shop.event("customer.upserted", {"customer_id": "c", "email": "a@b.c"}, id="same")
    other = shop.event("customer.upserted", {"customer_id": "c", "email": "x@y.z"}, id="same")
    assert await take(world, first, first) == result(applied=1, duplicates=1)
    before = await dump(world)
    assert await take(world, first, repeated=True) == result(duplicates=1)
    assert await take(world, other) == result(duplicates=1)
    assert await dump(world) == before


async def test_ids_are_unique_per_source(world: World) -> None:
    """Two platforms may use the same id."""
    told = {"customer_id": "c", "email": "a@b.c"}
    one = shop.event("customer.upserted", told, id="same", source="one")
    two = shop.event("customer.upserted", told, id="same", source="two")
    assert await take(world, one, two) == result(applied=2)


async def test_messages_without_an_id_count_each(world: World) -> None:
    """Two equal bodies that name nobody are two messages, unless the first of them was committed."""
    assert await take(world, b"{", b"{") == result(rejected=2)
    assert await take(world, b"{") == result(rejected=1)
    assert await take(world, b"{", repeated=True) == result(duplicates=1)
    assert await world.value("SELECT count(*) FROM rejected_event") == 3


async def test_every_fault_is_kept_with_its_field_and_told(world: World) -> None:
    """Whatever breaks the contract is in `rejected_event`, masked; good neighbours are applied."""
    bodies = [body for body, _, _ in REJECTED]
    mixed = [part for n, body in enumerate(bodies) for part in (body, shop.customer(f"c{n}"))]
    done = await take(world, *mixed, clock=Clock(shop.NOW, is_real=True))
    assert done == result(applied=len(bodies), rejected=len(bodies))
    rows = await world.fetch("SELECT field, error, body FROM rejected_event ORDER BY rejected_id")
    assert [row["field"] for row in rows] == [field for _, field, _ in REJECTED]
    told = await rejected_messages(world)
    assert len({message["id"] for message in told}) == len(bodies)
    assert [row for row in rows if find_card_number(row["body"].decode("latin-1"))] == []


async def test_a_rejection_tells_event_type_field_and_error(world: World) -> None:
    """The platform learns which of its messages has no effect, and why."""
    await take(world, shop.event("customer.upserted", {"customer_id": "c"}, id="evt_x"))
    (message,) = await rejected_messages(world)
    assert message["data"] == {
        "event_id": "evt_x",
        "type": "platform.customer.upserted",
        "field": "data.email",
        "error": "data.email is missing: should be there",
    }


async def test_headers_are_kept_with_a_rejected_message(world: World) -> None:
    """They say where it came from; they are texts, short and masked."""
    headers = {"x-via": b"till 7", "x-pan": "4242424242424242", "x-n": 1}
    clock = Clock(shop.NOW, is_real=False)
    await apply_batch(world.context, [Delivery(b"{", headers)], clock=clock)
    assert (await world.row("rejected_event"))["headers"] == {
        "x-via": "till 7",
        "x-pan": "424242******4242",
        "x-n": "1",
    }


async def test_a_value_that_breaks_the_batch_costs_only_its_message(eve: World) -> None:
    """The batch is halved until the bad message is alone; it is rejected, all others count."""
    bodies = [shop.customer(f"c{n}", name="Eve" if n == 5 else "Ada") for n in range(20)]
    assert await take(eve, *bodies) == result(applied=19, rejected=1)
    assert await eve.value("SELECT count(*) FROM customer") == 19
    row = await eve.row("rejected_event")
    assert (row["state"], row["field"]) == ("rejected", "body")
    assert "CheckViolationError" in row["error"]
    assert await take(eve, *bodies) == result(duplicates=20)


async def test_what_waited_and_breaks_does_not_take_down_who_brings_it(eve: World) -> None:
    """A bad message that is released costs only itself; what waited beside it is applied."""
    await eve.value(
        "ALTER TABLE payment_method ADD CONSTRAINT no_eve_card CHECK (token <> 'tok_eve')"
    )
    try:
        await take(eve, shop.method("pm_1", token="tok_eve"), shop.method("pm_2"))
        assert await take(eve, shop.customer()) == result(applied=2, rejected=1)
    finally:
        await eve.value("ALTER TABLE payment_method DROP CONSTRAINT no_eve_card")
    assert (await eve.row("payment_method"))["payment_method_id"] == "pm_2"
    states = [(state, field) for state, field, _ in await kept(eve)]
    assert states == [("applied", "data.customer_id"), ("rejected", "body")]


async def test_one_by_one_or_in_one_batch_is_the_same(world: World) -> None:
    """The size of a batch has no meaning."""
    first, second = shop.sign_up(paid_through="2026-03-01T00:00:00Z"), [shop.cancel()]
    await take(world, *first, *second)
    together = await dump(world)
    await forget(world)
    await take_singly(world, [*first, *second])
    assert await dump(world) == together

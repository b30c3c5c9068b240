"""Histories drawn at random: repeating or reordering messages changes nothing that it must not."""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

import pytest

from tests import platform_events as shop
from tests.platform_events import NOW
from tests.worker.taking import dump, forget, take
from tests.world import START, World

PAID = "2026-03-01T00:00:00Z"
PEOPLE = ("a", "b", "c")
PROFILES = ("seller", "customer", "payment_method", "subscription", "applied_version")


def minute(n: int) -> dict[str, object]:
    return {"at": NOW + timedelta(minutes=n)}


def history(rng: random.Random) -> list[bytes]:
    """The messages about three people, in the order in which they happened."""
    told: list[bytes] = [shop.seller(), shop.plan()]
    for who in PEOPLE:
        told.append(shop.customer(f"cus_{who}"))
        told += [shop.method(f"pm_{who}{n}", customer_id=f"cus_{who}") for n in (1, 2)]
        told.append(
            shop.created(
                f"sub_{who}",
                customer_id=f"cus_{who}",
                payment_method_id=f"pm_{who}1",
                paid_through=PAID,
            )
        )
    return told + [_later(rng, n) for n in range(1, 25)]


def _later(rng: random.Random, n: int) -> bytes:
    """Something that happens in minute `n` to one of them."""
    who, at = rng.choice(PEOPLE), NOW + timedelta(minutes=n)
    method, sub = f"pm_{who}{rng.choice((1, 2))}", f"sub_{who}"
    kinds: list[Callable[[], bytes]] = [
        lambda: shop.customer(f"cus_{who}", at=at, name=f"name {n}"),
        lambda: shop.updated(method, at=at, token=f"tok_{n}", exp_month=1 + n % 12, exp_year=2030, fingerprint=f"fp_{n}"),
        lambda: shop.method(method, at=at, customer_id=f"cus_{who}", default=True),
        lambda: shop.removed(method, at=at),
        lambda: shop.changed(method, sub, at=at),
        lambda: shop.cancel(sub, when="period_end", at=at),
        lambda: shop.undo(sub, at=at),
        lambda: shop.sync(sub, at=at),
        lambda: shop.collect(at=at, subscription_id=sub),
        lambda: shop.customer(f"cus_{who}", at=at, email="nobody"),
    ]  # fmt: skip
    return rng.choice(kinds)()


def in_batches(rng: random.Random, bodies: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The same messages, cut into batches of one to nine."""
    rest = list(bodies)
    while rest:
        size = rng.randint(1, 9)
        yield rest[:size]
        rest = rest[size:]


@pytest.mark.parametrize("round_", range(8))
async def test_replaying_any_prefix_changes_nothing(
    world: World, rng: random.Random, round_: int
) -> None:
    """Messages that come again, in other batches and even out of order, have no second effect."""
    await world.set_now(START + timedelta(hours=1))
    bodies = history(rng)
    for batch in in_batches(rng, bodies):
        await take(world, *batch)
    once = await dump(world)
    prefix = bodies[: rng.randint(1, len(bodies))]
    for _ in range(2):
        for batch in in_batches(rng, prefix):
            done = await take(world, *batch, repeated=True)
            assert done.duplicates == len(batch)
        rng.shuffle(prefix)
    assert await dump(world) == once
    assert await world.broken() == []


@pytest.mark.parametrize("round_", range(8))
async def test_the_order_of_arrival_does_not_matter_to_profiles(
    world: World, rng: random.Random, round_: int
) -> None:
    """Customers, cards, defaults and scheduled cancels end the same, however the messages came."""
    await world.set_now(START + timedelta(hours=1))
    bodies = [body for body in history(rng) if not _depends_on_order(body)]
    for batch in in_batches(rng, bodies):
        await take(world, *batch)
    in_order = await dump(world)
    await forget(world)
    rng.shuffle(bodies)
    for batch in in_batches(rng, bodies):
        await take(world, *batch)
    shuffled = await dump(world)
    for name in PROFILES:
        assert _silent(shuffled[name]) == _silent(in_order[name])


def _depends_on_order(body: bytes) -> bool:
    """Facts, and what a removed card does to subscriptions, happen when they come."""
    return any(
        kind in body
        for kind in (b"sync_", b"collection_", b"method.removed", b"method_changed", b"updated")
    )


def _silent(rows: Sequence[str]) -> list[str]:
    """Rows without the count of messages: what is superseded tells nobody."""
    return [re.sub(r"'sequence': \d+", "", row) for row in rows]

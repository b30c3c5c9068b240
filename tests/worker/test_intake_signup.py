"""New subscriptions: the first period, the zone, the anchor, and what a plan may not change."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests import platform_events as shop
from tests.platform_events import NOW
from tests.worker.taking import kept, take
from tests.world import World

LATER = NOW + timedelta(seconds=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# (plan, created, status, period start, period end, next renewal); NOW is 31 January, 10:00 UTC
BEGINNINGS: list[tuple[dict[str, Any], dict[str, Any], list[Any]]] = [
    # Neither trial nor paid: the first period is charged at its start, which is the event's time.
    ({}, {}, ["pending", None, None, NOW]),
    ({}, {"starts_at": "2026-02-03T00:00:00Z"}, ["pending", None, None, at("2026-02-03")]),
    # A start in the past is due at once, if it is no more than one period ago.
    ({}, {"starts_at": "2025-12-31T10:00:00Z"}, ["pending", None, None, at("2025-12-31T10:00")]),
    # Paid already: active, and the next renewal is due then; the past is paid as well.
    (
        {},
        {"paid_through": "2026-02-20T00:00:00Z"},
        ["active", NOW, at("2026-02-20"), at("2026-02-20")],
    ),
    (
        {},
        {"paid_through": "2026-01-20T00:00:00Z"},
        ["active", None, at("2026-01-20"), at("2026-01-20")],
    ),
    # Paid counts more than a trial, and any start may have been paid for.
    (
        {"trial_days": 7},
        {"paid_through": "2026-02-20T00:00:00Z", "starts_at": "2024-01-01T00:00:00Z"},
        ["active", at("2024-01-01"), at("2026-02-20"), at("2026-02-20")],
    ),
    # A trial of the plan, of the subscription, and none because the subscription says so.
    (
        {"trial_days": 7},
        {},
        ["trialing", NOW, NOW + timedelta(days=7), NOW + timedelta(days=7)],
    ),
    (
        {"trial_days": 7},
        {"trial_days": 3},
        ["trialing", NOW, NOW + timedelta(days=3), NOW + timedelta(days=3)],
    ),
    ({"trial_days": 7}, {"trial_days": 0}, ["pending", None, None, NOW]),
    # Trial days are civil days: clocks go forward in Berlin on 29 March.
    (
        {},
        {"trial_days": 30, "starts_at": "2026-03-01T11:00:00Z", "timezone": "Europe/Berlin"},
        ["trialing", at("2026-03-01T11:00"), at("2026-03-31T10:00"), at("2026-03-31T10:00")],
    ),
]


@pytest.mark.parametrize(("plan", "told", "expected"), BEGINNINGS)
async def test_how_a_subscription_begins(
    world: World, plan: dict[str, Any], told: dict[str, Any], expected: list[Any]
) -> None:
    """Pending until paid, trialing, or active: the first renewal is where the contract says."""
    await take(world, shop.seller(), shop.plan(**plan), shop.customer(), shop.method())
    await take(world, shop.created(**told))
    row = await world.row("subscription")
    names = ("status", "current_period_start", "current_period_end", "next_renewal_at")
    assert [row[name] for name in names] == expected
    told_types = [] if row["status"] == "pending" else ["subscription.activated"]
    assert await world.told("sub_1") == told_types
    # A first renewal in the past is late by itself.
    assert [name for name in await world.broken() if not name.startswith("renewal_on_time")] == []


# (seller's zone, customer's, subscription's, the zone it gets)
ZONES = [
    (None, None, None, "UTC"),
    ("America/Sao_Paulo", None, None, "America/Sao_Paulo"),
    ("America/Sao_Paulo", "Asia/Tokyo", None, "Asia/Tokyo"),
    ("America/Sao_Paulo", "Asia/Tokyo", "Europe/Berlin", "Europe/Berlin"),
]


@pytest.mark.parametrize(("sellers", "customers", "own", "expected"), ZONES)
async def test_whose_zone_counts(
    world: World, sellers: str | None, customers: str | None, own: str | None, expected: str
) -> None:
    """Its own, else the customer's, else the seller's, else UTC; the anchor is civil time there."""
    await take(world, shop.seller(timezone=sellers), shop.plan(), shop.method())
    await take(world, shop.customer(timezone=customers), shop.created(timezone=own))
    row = await world.row("subscription")
    assert row["zone"] == expected
    local = {"UTC": 10, "America/Sao_Paulo": 7, "Asia/Tokyo": 19, "Europe/Berlin": 11}
    assert (row["anchor_local"].hour, row["anchor_day"]) == (local[expected], 31)


async def test_another_anchor_day_makes_the_first_period_odd(world: World) -> None:
    """The next charge is at `paid_through` and covers the days up to the anchor (LIFECYCLE 38)."""
    await take(world, *shop.sign_up(paid_through="2026-02-20T00:00:00Z", anchor_day=5))
    row = await world.row("subscription")
    assert (row["next_renewal_at"], row["odd_start_at"]) == (at("2026-02-20"), at("2026-02-20"))
    assert (row["anchor_local"], row["anchor_day"]) == (datetime(2026, 3, 5), 5)  # noqa: DTZ001


async def test_reminders_of_the_first_renewal_are_written_down(world: World) -> None:
    """One notice per line of the plan that is meant for this customer."""
    reminders = [{"days_before": 7}, {"days_before": 1, "segment": "vip"}, {"days_before": 3}]
    await take(world, shop.seller(), shop.plan(reminders=reminders), shop.method())
    await take(world, shop.customer(segments=["new"]))
    await take(world, shop.created(paid_through="2026-02-20T00:00:00Z"))
    rows = await world.fetch("SELECT kind, send_at FROM notice ORDER BY send_at")
    assert [(row["kind"], row["send_at"]) for row in rows] == [
        ("upcoming_renewal", at("2026-02-13")),
        ("upcoming_renewal", at("2026-02-17")),
    ]


# (what is known besides the sign-up, the message, its state and its field)
FORBIDDEN: list[tuple[list[bytes], bytes, str, str]] = [
    ([], shop.created(), "rejected", "data.subscription_id"),
    ([], shop.created("s2", starts_at="2025-12-30T10:00:00Z"), "rejected", "data.starts_at"),
    (
        [shop.plan("weekly", interval={"unit": "week", "count": 1})],
        shop.created("s2", plan_id="weekly", anchor_day=5),
        "rejected",
        "data.anchor_day",
    ),
    (
        [shop.customer("cus_2"), shop.method("pm_2", customer_id="cus_2")],
        shop.created("s2", payment_method_id="pm_2"),
        "refused",
        "data.payment_method_id",
    ),
    ([], shop.plan(at=LATER, product_id="other"), "refused", "data.product_id"),
    (
        [],
        shop.plan(at=LATER, interval={"unit": "year", "count": 1}),
        "refused",
        "data.interval.unit",
    ),
    (
        [],
        shop.plan(at=LATER, interval={"unit": "month", "count": 2}),
        "refused",
        "data.interval.count",
    ),
    (
        [],
        shop.plan(at=LATER, price={"model": "flat", "currency": "EUR", "unit_amount_minor": 1}),
        "refused",
        "data.price.currency",
    ),
]


@pytest.mark.parametrize(("known", "body", "state", "field"), FORBIDDEN)
async def test_what_the_rules_forbid_has_no_effect(
    world: World, known: list[bytes], body: bytes, state: str, field: str
) -> None:
    """It is kept with its state and field, and told; the neighbours of its batch are applied."""
    await take(world, *shop.sign_up(), *known)
    done = await take(world, shop.customer("n1"), body, shop.customer("n2"))
    assert (done.applied, done.rejected + done.refused) == (2, 1)
    assert await kept(world) == [(state, field, None)]
    assert (await world.row("plan", plan_id="plan_1"))["currency"] == "USD"
    told = await world.fetch("SELECT type FROM outbox_event")
    assert [row["type"] for row in told] == ["billing.event.rejected"]


async def test_a_changed_price_is_for_new_subscribers(world: World) -> None:
    """Another amount is another version; the same one again is not; the old one stays with its own."""
    dearer = {"model": "flat", "currency": "USD", "unit_amount_minor": 5900}
    await take(world, *shop.sign_up())
    await take(world, shop.plan(at=LATER, price=dearer), shop.plan(at=LATER, price=dearer))
    await take(world, shop.created("sub_2"))
    rows = await world.fetch(
        "SELECT subscription_id, unit_amount_minor FROM subscription s JOIN price_version v"
        " ON v.plan_id = s.plan_id AND v.version = s.price_version ORDER BY 1"
    )
    assert [tuple(row.values()) for row in rows] == [("sub_1", 4900), ("sub_2", 5900)]
    assert await world.value("SELECT count(*) FROM price_version") == 2


async def test_a_removed_card_does_not_lose_the_subscription(world: World) -> None:
    """The subscription is made; its first renewal will ask for another card."""
    await take(world, *shop.sign_up()[:4], shop.removed())
    done = await take(world, shop.created())
    assert done.applied == 1

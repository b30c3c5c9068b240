"""Cards: attached, updated, removed, changed; and what each means for a debt."""

from datetime import timedelta
from typing import Any

import pytest

from tests import platform_events as shop
from tests.platform_events import NOW
from tests.worker.taking import HARD, PENDING, attempt_due, indebted, kept, take
from tests.world import START, World

LATER = NOW + timedelta(minutes=1)


NOW_NEW_CARD = (START, "new_card", "new_card")


async def test_a_new_card_is_charged_at_once(world: World) -> None:
    """The subscription changes to the card, the open invoice is tried once, and recovered by it."""
    await indebted(world)
    await take(world, shop.method("pm_2"), shop.changed("pm_2"))
    assert (await world.row("subscription"))["payment_method_id"] == "pm_2"
    assert await attempt_due(world) == NOW_NEW_CARD
    await world.collect((await world.row("invoice"))["invoice_id"])
    assert (await world.row("invoice"))["recovered_by"] == "new_card"
    assert (await world.row("subscription"))["status"] == "active"
    assert await world.broken() == []


async def test_a_policy_may_leave_a_new_card_to_the_schedule(world: World) -> None:
    """`new_card_retries_now: false` changes the card and nothing else."""
    await indebted(world, new_card_retries_now=False)
    await take(world, shop.method("pm_2"), shop.changed("pm_2"))
    assert await attempt_due(world) == (START + timedelta(days=1), "retry", None)


async def test_a_new_card_at_another_gateway_takes_the_invoice_along(world: World) -> None:
    """Renewals and retries are claimed by gateway: both rows say where the card is."""
    await indebted(world)
    await take(world, shop.method("pm_2", gateway="other"), shop.changed("pm_2"))
    assert (await world.row("subscription"))["gateway"] == "other"
    assert (await world.row("invoice"))["gateway"] == "other"


async def test_a_new_card_waits_for_the_attempt_under_way(world: World) -> None:
    """Nothing is sent beside a live attempt: reconciliation is asked to look at it now."""
    await indebted(world, PENDING)
    await world.value("UPDATE attempt SET check_due_at = $1", START + timedelta(days=1))
    await take(world, shop.method("pm_2"), shop.changed("pm_2"))
    assert await attempt_due(world) == (None, None, "new_card")
    row = await world.row("attempt")
    assert (row["state"], row["check_due_at"]) == ("pending", START)
    assert await world.value("SELECT retake_at = '-infinity' FROM attempt")


async def test_an_attempt_on_the_wire_is_left_to_its_worker(world: World) -> None:
    """A `sent` attempt may be looked at only when its worker's time is over."""
    await indebted(world, PENDING)
    await world.value(
        "UPDATE attempt SET state = 'sent', retake_at = clock_timestamp() + interval '40 s'"
    )
    await take(world, shop.method("pm_2"), shop.changed("pm_2"))
    assert await world.value("SELECT retake_at > clock_timestamp() FROM attempt")


# What is told about the stolen card, and whether that makes it a new one.
DETAILS: list[tuple[dict[str, Any], bool]] = [
    ({"exp_year": 2030}, True),
    ({"exp_month": 5}, True),
    ({"token": "tok_ok_2"}, True),
    ({"fingerprint": "fp"}, True),
    ({"exp_month": 1}, False),
    ({}, False),
]


@pytest.mark.parametrize(("told", "is_new"), DETAILS)
async def test_new_details_end_a_hard_decline(
    world: World, told: dict[str, Any], *, is_new: bool
) -> None:
    """Another token, date or fingerprint is a new card: tried at once. The same again is not."""
    await indebted(world, HARD)
    await world.value("UPDATE payment_method SET exp_month = 1, exp_year = 2029")
    assert await world.value("SELECT hard_decline_code FROM payment_method") == "stolen_card"
    await take(world, shop.updated(at=LATER, **told))
    row = await world.row("payment_method")
    assert (row["hard_declined_at"] is None, row["changed_at"]) == (is_new, START if is_new else None)  # fmt: skip
    assert (await attempt_due(world) == NOW_NEW_CARD) is is_new


async def test_a_card_attached_again_is_the_same_card(world: World) -> None:
    """Its new token counts, and a debt is tried with it."""
    await indebted(world, HARD)
    await take(world, shop.method(at=LATER, token="tok_ok_again"))
    assert (await world.row("payment_method"))["token"] == "tok_ok_again"
    assert await attempt_due(world) == NOW_NEW_CARD


async def test_a_removed_card_hands_over_to_the_default(world: World) -> None:
    """Its subscriptions go on with the customer's default; the debt keeps its schedule."""
    await indebted(world)
    await take(world, shop.method("pm_2", default=True), shop.removed(at=LATER))
    row = await world.row("subscription")
    assert (row["payment_method_id"], row["gateway"]) == ("pm_2", "sandbox")
    assert (await attempt_due(world))[1:] == ("retry", None)


@pytest.mark.parametrize("default", [False, True])
async def test_without_a_usable_default_the_subscription_keeps_its_card(
    world: World, *, default: bool
) -> None:
    """A removed default is no default, and one that its bank refuses for ever is none either."""
    await indebted(world)
    await take(world, shop.method("pm_2", default=True))
    if default:
        await take(world, shop.removed("pm_2", at=LATER))
    else:
        await world.value(
            "UPDATE payment_method SET hard_declined_at = $1, hard_decline_code = 'x'"
            " WHERE payment_method_id = 'pm_2'",
            NOW,
        )
    await take(world, shop.removed(at=LATER))
    assert (await world.row("subscription"))["payment_method_id"] == "pm_1"
    default_now = await world.value("SELECT default_payment_method_id FROM customer")
    assert default_now == (None if default else "pm_2")


async def test_a_new_default_helps_where_no_card_is_left(world: World) -> None:
    """A stolen card's subscription takes the new default, and its debt is tried at once."""
    await indebted(world, HARD)
    await take(world, shop.method("pm_2", default=True))
    assert (await world.row("subscription"))["payment_method_id"] == "pm_2"
    assert await attempt_due(world) == NOW_NEW_CARD


async def test_a_new_default_leaves_other_cards_alone(world: World) -> None:
    """A subscription with a card that may be charged stays with it."""
    await indebted(world)
    await take(world, shop.method("pm_2", default=True))
    assert (await world.row("subscription"))["payment_method_id"] == "pm_1"


REFUSED = [
    (shop.method(customer_id="cus_2", at=LATER), "data.payment_method_id"),
    (shop.changed("pm_foreign"), "data.payment_method_id"),
    (shop.changed("pm_gone"), "data.payment_method_id"),
    (shop.changed("pm_2", "sub_ended"), "data.subscription_id"),
]


@pytest.mark.parametrize(("body", "field"), REFUSED)
async def test_cards_that_may_not_be_taken(world: World, body: bytes, field: str) -> None:
    """Of another customer, removed, or for a subscription that has ended: refused, told."""
    await take(world, *shop.sign_up(), shop.customer("cus_2"), shop.method("pm_2"))
    await take(world, shop.method("pm_foreign", customer_id="cus_2"), shop.method("pm_gone"))
    await take(world, shop.removed("pm_gone", at=LATER), shop.created("sub_ended"))
    await take(world, shop.cancel("sub_ended"))
    assert (await take(world, body)).refused == 1
    assert await kept(world) == [("refused", field, None)]
    rows = await world.fetch("SELECT DISTINCT payment_method_id FROM subscription")
    assert [row["payment_method_id"] for row in rows] == ["pm_1"]

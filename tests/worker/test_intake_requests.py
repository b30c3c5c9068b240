"""Requests to collect, a gateway's later word, and a platform that lost track."""

import json
from datetime import timedelta
from typing import Any

import pytest

from tests import platform_events as shop
from tests.platform_events import NOW
from tests.worker.taking import PENDING, attempt_due, indebted, kept, take
from tests.world import START, World

MANUAL = (START, "manual", "manual")


async def test_a_subscription_is_collected_on_request(world: World) -> None:
    """Its open invoice is tried at once, and the recovery is a manual one."""
    await indebted(world, "tok_seq_insufficient_funds-ok_1")
    await take(world, shop.collect(subscription_id="sub_1"))
    assert await attempt_due(world) == MANUAL
    await world.collect((await world.row("invoice"))["invoice_id"])
    assert (await world.row("invoice"))["recovered_by"] == "manual"
    assert await world.broken() == []


async def test_an_invoice_is_collected_with_the_card_that_is_named(world: World) -> None:
    """The card becomes the subscription's, whatever the policy says about new cards."""
    await indebted(world, new_card_retries_now=False)
    invoice_id = str((await world.row("invoice"))["invoice_id"])
    await take(world, shop.method("pm_2"))
    await take(world, shop.collect(invoice_id=invoice_id, payment_method_id="pm_2"))
    assert (await world.row("subscription"))["payment_method_id"] == "pm_2"
    assert await attempt_due(world) == MANUAL


async def test_a_parked_invoice_is_only_asked_for(world: World) -> None:
    """It breaks its sweep: the wish is noted, and a person releases it."""
    await indebted(world)
    await world.value(
        "UPDATE invoice SET attempt_due_at = NULL, attempt_source = NULL, hold_reason = 'parked'"
    )
    await take(world, shop.collect(subscription_id="sub_1"))
    assert await attempt_due(world) == (None, None, "manual")


async def test_nothing_to_collect_is_refused(world: World) -> None:
    """A subscription without a debt, an invoice that is paid or another's, and one that ended."""
    await indebted(world, "tok_ok_1")
    invoice_id = str((await world.row("invoice"))["invoice_id"])
    await take(world, shop.created("sub_2"), shop.collect(subscription_id="sub_1"))
    await take(world, shop.collect(invoice_id=invoice_id))
    await take(world, shop.collect(invoice_id=invoice_id, subscription_id="sub_2"))
    await take(world, shop.cancel("sub_2"), shop.collect(subscription_id="sub_2"))
    assert await kept(world) == [
        ("refused", "data.invoice_id", None),
        ("refused", "data.invoice_id", None),
        ("refused", "data.subscription_id", None),
        ("refused", "data.subscription_id", None),
    ]


async def hint(world: World, **named: Any) -> tuple[Any, bool]:
    """Report a payment; when its attempt is checked, and whether anybody may take it."""
    await world.value("UPDATE attempt SET check_due_at = $1", START + timedelta(days=1))
    await take(world, shop.settled(**named))
    return (
        await world.value("SELECT check_due_at FROM attempt"),
        await world.value("SELECT retake_at = '-infinity' FROM attempt"),
    )


@pytest.mark.parametrize("name", ["idempotency_key", "gateway_ref"])
async def test_a_report_is_a_hint_to_look(world: World, name: str) -> None:
    """The attempt is found by either name and looked up at once; its state is the gateway's word."""
    await indebted(world, PENDING)
    known = (await world.row("attempt"))[name]
    assert await hint(world, **{name: known}) == (START, True)
    assert (await world.row("attempt"))["state"] == "pending"


async def test_an_unknown_reference_is_looked_up_at_the_gateway(world: World) -> None:
    """The answer was lost, so only the gateway knows which key its own id belongs to."""
    await indebted(world, PENDING)
    known = (await world.row("attempt"))["gateway_ref"]
    await world.value("UPDATE attempt SET state = 'unknown', gateway_ref = NULL")
    assert await hint(world, gateway_ref=known) == (START, True)
    assert await kept(world) == []


async def test_a_payment_of_another_gateway_waits(world: World) -> None:
    """The same key at a gateway that never had it names nothing of ours."""
    await indebted(world, PENDING)
    known = (await world.row("attempt"))["idempotency_key"]
    day = START + timedelta(days=1)
    assert await hint(world, idempotency_key=known, gateway="other") == (day, False)
    assert await kept(world) == [("waiting", "data.idempotency_key", f"payment:other:{known}")]


async def test_a_settled_payment_stays_as_it_is(world: World) -> None:
    """A late word on what is known already changes nothing."""
    await indebted(world, "tok_ok_1")
    known = (await world.row("attempt"))["gateway_ref"]
    done = await take(world, shop.settled(gateway_ref=known))
    assert (done.applied, await world.value("SELECT check_due_at FROM attempt")) == (1, None)


async def messages(world: World) -> list[dict[str, Any]]:
    """Everything in the outbox, in order."""
    rows = await world.fetch("SELECT body FROM outbox_event ORDER BY position")
    return [json.loads(row["body"]) for row in rows]


async def test_sync_sends_the_stored_messages_again_and_a_snapshot(world: World) -> None:
    """The same ids and sequences from the one that was asked for, then how it stands."""
    await indebted(world)
    before = await messages(world)
    await take(world, shop.sync(from_sequence=2))
    after = await messages(world)
    assert after[len(before) : -1] == before[1:]
    snapshot = after[-1]
    assert snapshot["type"] == "billing.subscription.snapshot"
    invoice = await world.row("invoice")
    assert snapshot["data"] == {
        "subscription_id": "sub_1",
        "customer_id": "cus_1",
        "seller_id": "sel_1",
        "sequence": len(before) + 1,
        "state": "past_due",
        "plan_id": "plan_1",
        "quantity": 1,
        "period_start": None,
        "period_end": "2026-01-31T10:00:00Z",
        "next_renewal_at": None,
        "cancel_at": None,
        "next_retry_at": "2026-02-01T10:00:00Z",
        "invoice_id": str(invoice["invoice_id"]),
        "amount_minor": 4900,
        "currency": "USD",
    }


async def test_a_resend_does_not_use_up_sequences(world: World) -> None:
    """Rows that are sent again have no sequence of their own; the next message follows on."""
    await take(world, *shop.sign_up(paid_through="2026-03-01T00:00:00Z"))
    await take(world, shop.sync(), shop.sync(at=NOW + timedelta(seconds=1)))
    rows = await world.fetch("SELECT sequence FROM outbox_event ORDER BY position")
    assert [row["sequence"] for row in rows] == [1, None, None, 2, 3]
    assert (await world.row("subscription"))["sequence"] == 3

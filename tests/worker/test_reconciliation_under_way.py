"""Payments that are under way at the gateway: settled later, ended there, or overtaken by the end."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from lab.sandbox import Fault, RunningSandbox, SandboxConfig, serve
from tests.world import API_KEY, START, World
from worker import reconciliation
from worker.db import Pool


@pytest.fixture
async def sandbox() -> AsyncIterator[RunningSandbox]:
    """A gateway where payers take ten days to act, and never do."""
    patient = SandboxConfig(
        api_key=API_KEY, seed=1, action_completes_s=None, action_expires_s=864_000
    )
    running = await serve(patient)
    yield running
    await running.close()


@pytest.fixture
async def world(pool: Pool, sandbox: RunningSandbox) -> AsyncIterator[World]:
    """A world whose gateway is given up on quickly."""
    made = await World.create(pool, sandbox, gateway={"try_seconds": 0.15})
    yield made
    await made.close()


async def statuses(world: World) -> list[str]:
    """What became of every charge at the gateway."""
    return [charge["status"] for charge in world.sandbox.charges()]


async def test_a_pending_payment_that_settles_is_paid_when_we_learn_it(world: World) -> None:
    """Told as pending at once, paid a day later; until then nothing else is sent."""
    sub = await world.subscribe("tok_pending_ok_1")
    await world.renew(sub)
    assert (await world.row("attempt"))["check_due_at"] == START + timedelta(hours=1)
    assert await world.broken() == []
    await world.walk()
    assert (await world.row("invoice"))["paid_at"] == START + timedelta(days=1)
    assert await world.told(sub) == ["payment.pending", "invoice.paid", "subscription.renewed"]
    assert await statuses(world) == ["succeeded"]
    assert await world.broken() == []


async def test_a_pending_payment_that_fails_starts_dunning_when_we_learn_it(world: World) -> None:
    """The dunning clock starts with the news, not with the request."""
    sub = await world.subscribe("tok_pending_insufficient_funds_1")
    await world.renew(sub)
    await world.walk()
    invoice = await world.row("invoice")
    assert invoice["first_declined_at"] == START + timedelta(days=1)
    assert invoice["attempt_due_at"] == START + timedelta(days=2)
    assert await world.told(sub) == ["payment.pending", "payment.failed", "subscription.past_due"]
    assert await world.broken() == []


async def test_a_payer_who_does_not_act_in_time_has_failed_to(world: World) -> None:
    """After `action_days` the payment is canceled at the gateway, and the invoice enters dunning."""
    sub = await world.subscribe("tok_action_ok_1")
    await world.renew(sub)
    assert await world.told(sub) == ["payment.action_required"]
    assert (await world.row("attempt"))["action"]["type"] == "redirect"
    await world.walk()
    assert await world.now() == START + timedelta(days=3)
    assert await statuses(world) == ["canceled"]
    assert (await world.row("attempt"))["state"] == "void"
    assert await world.told(sub) == [
        "payment.action_required",
        "payment.failed",
        "subscription.past_due",
    ]
    # Only the customer can help: no retry before the window's end.
    assert (await world.row("invoice"))["attempt_due_at"] == START + timedelta(days=31)
    assert await world.broken() == []


@pytest.mark.parametrize("token", ["tok_action_ok_1", "tok_pending_ok_1"])
async def test_a_new_card_waits_until_the_old_payment_is_ended(world: World, token: str) -> None:
    """The old payment is canceled at the gateway first; then the new card is charged at once."""
    sub = await world.subscribe(token)
    await world.renew(sub)
    await world.set_now(START + timedelta(minutes=5))
    invoice_id = await world.new_card(sub, "tok_ok_new")
    await world.collect(invoice_id)
    assert len(await statuses(world)) == 1
    await world.reconcile()
    assert await statuses(world) == ["canceled"]
    await world.collect_due()
    assert await statuses(world) == ["canceled", "succeeded"]
    invoice = await world.row("invoice")
    assert (invoice["status"], invoice["recovered_by"]) == ("paid", "new_card")
    assert (await world.row("subscription"))["status"] == "active"
    assert await world.broken() == []


async def test_a_new_card_comes_while_the_outcome_is_unknown(world: World) -> None:
    """What is unknown is settled first, under its own key; then the wish is taken up or void."""
    sub = await world.subscribe("tok_action_ok_1")
    world.break_gateway(Fault.CHARGE_THEN_SILENCE)
    await world.renew(sub)
    world.heal_gateway()
    await world.new_card(sub, "tok_ok_new")
    await world.reconcile()
    attempt = await world.row("attempt")
    assert (attempt["state"], attempt["check_due_at"]) == ("action_required", START)
    await world.reconcile()
    await world.collect_due()
    assert await statuses(world) == ["canceled", "succeeded"]
    assert await world.broken() == []


async def test_a_payment_canceled_at_the_gateway_is_found_canceled(world: World) -> None:
    """Somebody ended it there: the next look finds out, and the customer has to confirm."""
    sub = await world.subscribe("tok_action_ok_1")
    await world.renew(sub)
    gateway = world.context.gateways["sandbox"]
    await gateway.cancel((await world.row("attempt"))["gateway_ref"])
    await world.walk()
    assert (await world.row("attempt"))["resolved_at"] == START + timedelta(hours=1)
    assert (await world.row("subscription", subscription_id=sub))["status"] == "past_due"
    assert await world.broken() == []


async def test_an_end_cancels_what_is_pending_at_the_gateway(world: World) -> None:
    """After a cancel a pending payment is ended at the gateway, and its invoice is void."""
    sub = await world.subscribe("tok_pending_ok_1")
    await world.renew(sub)
    await world.cancel(sub)
    await world.walk(until=START + timedelta(hours=2))
    assert await statuses(world) == ["canceled"]
    assert (await world.row("invoice"))["status"] == "void"
    assert await world.told(sub) == [
        "payment.pending",
        "subscription.canceled",
        "invoice.voided",
    ]
    assert await world.broken() == []


async def test_a_charge_in_flight_at_a_cancel_is_recorded_and_revives_nothing(
    world: World,
) -> None:
    """Found by reading only: the invoice is paid, a refund is proposed, the end stays the end."""
    sub = await world.subscribe()
    world.break_gateway(Fault.CHARGE_THEN_SILENCE)
    await world.renew(sub)
    world.heal_gateway()
    await world.cancel(sub)
    await world.walk()
    attempt = await world.row("attempt")
    assert attempt["state"] == "succeeded"
    assert attempt["needs_human"] == "money after the end: refund proposed"
    assert (await world.row("invoice"))["status"] == "paid"
    row = await world.row("subscription")
    assert (row["status"], row["next_renewal_at"]) == ("canceled", None)
    assert row["current_period_end"] == START
    assert await world.told(sub) == ["subscription.canceled", "invoice.paid"]
    assert await world.broken() == []


async def test_a_charge_that_never_arrived_is_not_sent_after_a_cancel(world: World) -> None:
    """Nobody resends for who has left: absence is proved and the invoice is void."""
    sub = await world.subscribe()
    world.break_gateway(Fault.SILENCE)
    await world.renew(sub)
    world.heal_gateway()
    await world.cancel(sub)
    await world.walk()
    assert world.sandbox.charges() == []
    assert (await world.row("attempt"))["state"] == "void"
    assert (await world.row("invoice"))["status"] == "void"
    assert await world.told(sub) == ["subscription.canceled", "invoice.voided"]
    assert await world.broken() == []


async def test_a_decline_after_a_cancel_closes_the_invoice(world: World) -> None:
    """No dunning for who has left."""
    sub = await world.subscribe("tok_decline_do_not_honor_1")
    world.break_gateway(Fault.CHARGE_THEN_500)
    await world.renew(sub)
    world.heal_gateway()
    await world.cancel(sub)
    await world.walk()
    assert (await world.row("attempt"))["state"] == "declined"
    assert await world.told(sub) == ["subscription.canceled", "invoice.voided"]
    assert await world.broken() == []


async def test_a_refused_key_of_ours_freezes_and_starts_no_dunning(
    pool: Pool, sandbox: RunningSandbox
) -> None:
    """401 is our fault, not the customer's: a person has to look, and nothing more is sent."""
    world = await World.create(pool, sandbox, gateway={"api_key": "sk_wrong"})
    sub = await world.subscribe()
    await world.renew(sub)
    attempt = await world.row("attempt")
    assert (attempt["state"], attempt["check_due_at"]) == ("unknown", None)
    assert attempt["needs_human"] == "401 unauthorized"
    assert (await world.row("subscription"))["status"] == "active"
    assert await world.told(sub) == []
    await world.set_now(START + timedelta(days=2))
    assert await world.reconcile() == 0
    assert (await world.row("invoice"))["attempt_due_at"] is None
    await world.close()


async def test_a_frozen_attempt_is_left_alone_whatever_rings(world: World) -> None:
    """A doorbell from before the freeze sends nothing; a release does."""
    sub = await world.subscribe()
    world.break_gateway(Fault.SILENCE)
    await world.renew(sub)
    world.heal_gateway()
    subject = f"{(await world.row('invoice'))['invoice_id']}:1"
    await world.execute(
        "UPDATE attempt SET check_due_at = NULL, needs_human = 'look',"
        " send_deadline = clock_timestamp()"
    )
    await reconciliation.reconcile(world.context, gateway="sandbox", ids=[subject])
    assert world.sandbox.charges() == []
    await world.execute("UPDATE attempt SET check_due_at = $1, needs_human = NULL", START)
    await world.walk()
    assert await statuses(world) == ["succeeded"]


async def test_a_gateway_that_asks_for_rest_gets_it(world: World) -> None:
    """429 with Retry-After: unknown, and the gateway rests that long in machine time."""
    sub = await world.subscribe()
    world.break_gateway(Fault.RATE_LIMITED, retry_after_s=90)
    await world.renew(sub)
    state = await world.row("gateway_state", gateway="sandbox")
    seconds = await world.value(
        "SELECT extract(epoch FROM $1::timestamptz - clock_timestamp())::float8",
        state["resting_until"],
    )
    assert 60 < seconds <= 90
    waits = await world.value(
        "SELECT extract(epoch FROM retake_at - clock_timestamp())::float8 FROM attempt"
    )
    assert 60 < waits <= 90
    world.heal_gateway()
    await world.walk()
    assert await statuses(world) == ["succeeded"]

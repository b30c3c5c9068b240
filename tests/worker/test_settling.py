"""Settling: outcomes become facts once, whatever breaks, whoever else holds the row, however late."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from billing.outcomes import Absent, Approved, Canceled, DeclineClass, Declined, Outcome, Pending
from lab.sandbox import Fault
from tests.worker.waiting import until
from tests.world import START, World, cancel_in
from worker import settling
from worker.settling import Told
from worker.store import facts

WAITING_FOR_A_LOCK = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
YES = Approved("ch_late", 4900, "USD")


async def settle(world: World, outcome: Outcome, *, ordinal: int = 1) -> None:
    """A gateway's word on an attempt of the only invoice."""
    invoice = await world.row("invoice")
    told = Told("sandbox", invoice["invoice_id"], ordinal, invoice["subscription_id"], outcome)
    await settling.settle_group(world.context, [told], within_seconds=5)


async def begin(world: World, token: str = "tok_ok_1") -> str:
    """A subscription whose renewal was sent, and no answer came."""
    sub = await world.subscribe(token)
    world.break_gateway(Fault.RESET)
    await world.renew(sub)
    world.heal_gateway()
    return sub


async def begin_and_lose(world: World) -> str:
    """A subscription whose first attempt was proven never to have happened."""
    sub = await begin(world)
    attempt = await world.row("attempt")
    await settle(world, Absent(attempt["sent_at"]))
    assert (await world.row("attempt"))["state"] == "void"
    return sub


async def test_a_row_that_cannot_be_settled_is_parked_and_its_neighbours_are_paid(
    world: World,
) -> None:
    """Its outcome is kept raw, it stays in reconciliation, and once repaired it settles by itself."""
    subs = [await world.subscribe(f"tok_ok_{n}") for n in range(9)]
    bad = subs[4]
    clash = "INSERT INTO outbox_event (slot, subscription_id, sequence, type, body) VALUES"
    await world.execute(f"{clash} (0, $1, 1, 'a.message.nobody.counted', '{{}}')", bad)
    await world.renew(*subs)
    parked = await world.row("parked")
    attempt = await world.row("attempt", subscription_id=bad)
    assert (parked["kind"], parked["id"]) == ("attempt", f"{attempt['invoice_id']}:1")
    assert "outbox_sequence" in parked["reason"]
    assert attempt["state"] == "sent"
    assert attempt["raw_outcome"].startswith("Approved(gateway_ref='ch_")
    assert await world.value("SELECT count(*) FROM invoice WHERE status = 'paid'") == 8
    await world.execute("DELETE FROM outbox_event WHERE type = 'a.message.nobody.counted'")
    await world.execute("DELETE FROM parked")
    await world.walk()
    assert set(world.taken().values()) == {1}
    assert len(world.sandbox.charges()) == 9
    assert await world.broken() == []


async def test_an_adapter_that_raises_costs_its_own_row_only(world: World) -> None:
    """A bug in an adapter is logged; its row is reconciled, and nobody waits for a deadline."""
    subs = [await world.subscribe(f"tok_ok_{n}") for n in range(3)]
    gateway = world.context.gateways["sandbox"]
    charge, calls = gateway.charge, iter(range(3))

    async def buggy(*, request: bytes, key: str) -> Outcome:
        if next(calls) == 1:
            raise ZeroDivisionError
        return await charge(request=request, key=key)

    gateway.charge = buggy  # type: ignore[method-assign, assignment]
    async with asyncio.timeout(10):
        await world.renew(*subs)
    gateway.charge = charge  # type: ignore[method-assign]
    states = await world.fetch("SELECT state FROM attempt ORDER BY state")
    assert [row["state"] for row in states] == ["sent", "succeeded", "succeeded"]
    await world.walk()
    assert set(world.taken().values()) == {1}


async def test_outcomes_after_the_deadline_are_left_to_reconciliation(world: World) -> None:
    """What came in time is committed; the slow call is dropped, its row says `sent`."""
    subs = [await world.subscribe("tok_ok_1"), await world.subscribe("tok_ok_2")]
    world.break_gateway(Fault.RESET)
    await world.renew(*subs)
    fast, slow = await world.fetch("SELECT * FROM attempt ORDER BY subscription_id")
    never = asyncio.Event()

    async def answer(attempt: dict[str, object], wait: asyncio.Event | None) -> Told:
        if wait is not None:
            await wait.wait()
        key: tuple[UUID, int, str] = (attempt["invoice_id"], 1, attempt["subscription_id"])  # type: ignore[assignment]
        return Told("sandbox", *key, YES)

    calls = [answer(fast, None), answer(slow, never)]
    await settling.settle_as_they_come(world.context, calls, within_seconds=0.3)
    states = await world.fetch("SELECT state FROM attempt ORDER BY subscription_id")
    assert [row["state"] for row in states] == ["succeeded", "unknown"]


async def test_late_money_on_an_open_invoice_pays_it_and_is_an_incident(world: World) -> None:
    """Absence was proven wrongly: the money is taken as payment, and a person is told."""
    sub = await begin_and_lose(world)
    await settle(world, YES)
    attempt = await world.row("attempt")
    assert (attempt["state"], attempt["gateway_ref"]) == ("succeeded", "ch_late")
    assert "broke the bounds" in attempt["needs_human"]
    assert (await world.row("invoice"))["status"] == "paid"
    assert await world.told(sub) == ["invoice.paid", "subscription.renewed"]
    assert await world.broken() == []


async def test_late_money_on_a_paid_invoice_is_a_refund_proposal(world: World) -> None:
    """The second success of an invoice never becomes one: it is kept with its reference."""
    sub = await begin_and_lose(world)
    await world.collect_due()
    await settle(world, YES)
    attempt = await world.row("attempt", ordinal=1)
    assert (attempt["state"], attempt["gateway_ref"]) == ("void", "ch_late")
    assert attempt["needs_human"] == "charged although the invoice was paid: refund proposed"
    assert await world.told(sub) == ["invoice.paid", "subscription.renewed"]
    assert await world.broken() == []


async def test_late_money_beside_another_attempt_is_kept_for_a_person(world: World) -> None:
    """While a second attempt is under way the first one's money cannot be booked: it is listed."""
    await begin_and_lose(world)
    world.break_gateway(Fault.RESET)
    await world.collect_due()
    await settle(world, YES)
    parked = await world.row("parked")
    assert parked["id"].endswith(":1")
    attempt = await world.row("attempt", ordinal=1)
    assert "ch_late" in attempt["raw_outcome"]
    assert attempt["state"] == "void"


@pytest.mark.parametrize("on_exhausted", ["cancel", "pause"])
async def test_late_money_never_reactivates(world: World, on_exhausted: str) -> None:
    """Written off and over, or paused: the invoice is paid all the same, and nothing revives."""
    policy = {"max_retries": 0, "window_days": 1, "schedule": [], "on_exhausted": on_exhausted}
    sub = await world.subscribe(plan=await world.plan(retry_policy=policy))
    world.break_gateway(Fault.RESET)
    await world.renew(sub)
    await settle(world, Absent(START))
    world.heal_gateway()
    await world.execute("UPDATE payment_method SET token = 'tok_decline_do_not_honor_1'")
    for day in (0, 1, 2):
        await world.set_now(START + timedelta(days=day))
        await world.collect_due()
    assert (await world.row("invoice"))["status"] == "uncollectible"
    before = await world.row("subscription")
    await settle(world, YES)
    after = await world.row("subscription")
    assert (
        after["status"]
        == before["status"]
        == {"cancel": "canceled", "pause": "paused"}[on_exhausted]
    )
    assert after["next_renewal_at"] is None
    assert (await world.row("invoice"))["status"] == "paid"
    assert (await world.row("attempt", ordinal=1))["needs_human"] is not None
    assert (await world.told(sub))[-1] == "invoice.paid"
    assert await world.broken() == []


async def test_a_proof_of_absence_is_void_once_the_key_was_sent_again(world: World) -> None:
    """Somebody resent while we read: what was not found then is no proof now."""
    await begin(world)
    await settle(world, Absent(START - timedelta(hours=2)))
    attempt = await world.row("attempt")
    assert (attempt["state"], attempt["check_due_at"]) == ("unknown", START)


async def test_a_charge_that_its_gateway_forgot_waits_for_a_person(world: World) -> None:
    """It told us of the charge: "not found" is then a contradiction and proves nothing."""
    await begin(world)
    await settle(world, Pending("ch_1"))
    await settle(world, Absent(START))
    attempt = await world.row("attempt")
    assert (attempt["state"], attempt["check_due_at"]) == ("pending", None)
    assert attempt["needs_human"] == "the gateway does not know the charge that it told of"


async def test_an_amount_that_the_books_confirm_is_frozen(world: World) -> None:
    """A wrong amount in an answer is looked up; if the look-up says the same, a person decides."""
    sub = await begin(world)
    wrong = Approved("ch_1", 5000, "USD")
    await settle(world, wrong)
    attempt = await world.row("attempt")
    assert (attempt["gateway_ref"], attempt["check_due_at"]) == ("ch_1", START)
    assert attempt["needs_human"] is None
    await settle(world, wrong)
    attempt = await world.row("attempt")
    assert attempt["needs_human"] == "ch_1 charged 5000 USD, which is not what was asked"
    assert (attempt["state"], attempt["check_due_at"]) == ("unknown", None)
    assert await world.told(sub) == []


STOLEN = Declined("ch_1", "stolen_card", DeclineClass.HARD)


async def test_a_hard_decline_marks_the_card_for_all_its_subscriptions(world: World) -> None:
    """The card is never charged again, whoever's renewal is due."""
    first = await world.subscribe("tok_decline_stolen_card_1")
    second = await world.subscribe("tok_ok_2", due=START + timedelta(days=1))
    await world.execute("UPDATE subscription SET payment_method_id = $1", f"pm_{first}")
    await world.renew(first)
    await world.set_now(START + timedelta(days=1))
    await world.renew(second)
    assert len(world.sandbox.charges()) == 1
    assert (await world.row("subscription", subscription_id=second))["status"] == "past_due"
    assert await world.broken() == []


@pytest.mark.parametrize("change", ["details", "card"])
async def test_a_hard_decline_of_the_old_card_does_not_block_the_new_one(
    world: World, change: str
) -> None:
    """The details changed, or the card, while the charge was on its way: the new one is tried."""
    sub = await begin(world)
    await world.set_now(START + timedelta(minutes=1))
    if change == "details":
        await world.execute("UPDATE payment_method SET changed_at = $1", await world.now())
    else:
        await world.new_card(sub, "tok_ok_new")
        await world.execute("UPDATE invoice SET requested_source = NULL")
    await settle(world, STOLEN)
    blocked = await world.fetch("SELECT * FROM payment_method WHERE hard_declined_at IS NOT NULL")
    assert [row["token"] for row in blocked] == ([] if change == "details" else ["tok_ok_1"])
    invoice = await world.row("invoice")
    assert invoice["attempt_due_at"] == START + timedelta(minutes=1)
    assert invoice["attempt_source"] == "new_card"
    await world.collect_due()
    assert (await world.row("invoice"))["recovered_by"] == "new_card"
    assert await world.broken() == []


@pytest.mark.parametrize("outcome", [YES, STOLEN, Canceled("ch_1"), Absent(START)])
async def test_settling_waits_for_a_cancel_and_sees_it(world: World, outcome: Outcome) -> None:
    """The cancel holds the row; the outcome that waits for it starts nothing any more."""
    sub = await begin(world)
    async with world.pool.acquire() as conn, conn.transaction():
        await facts.lock_subscriptions(conn, [sub])
        settled = asyncio.create_task(settle(world, outcome))
        await until(lambda: world.value(WAITING_FOR_A_LOCK))
        await cancel_in(conn, sub)
    await settled
    assert (await world.row("subscription"))["status"] == "canceled"
    ended = "invoice.paid" if outcome is YES else "invoice.voided"
    assert await world.told(sub) == ["subscription.canceled", ended]
    assert (await world.row("invoice"))["attempt_due_at"] is None
    assert await world.broken() == []

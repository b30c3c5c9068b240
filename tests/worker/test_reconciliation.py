"""Reconciliation against the real sandbox gateway: whatever is lost, each invoice is charged once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from lab.sandbox import Fault, FaultPlan, RunningSandbox, SandboxFaults
from tests.world import START, World
from worker import reconciliation
from worker.db import Pool

HASTY = {"try_seconds": 0.15}
"""No test waits 9 s for a gateway that will never answer."""


@pytest.fixture
async def world(pool: Pool, sandbox: RunningSandbox) -> AsyncIterator[World]:
    """A world whose gateway is given up on quickly."""
    made = await World.create(pool, sandbox, gateway=HASTY)
    yield made
    await made.close()


async def paid_once(world: World, *subs: str) -> None:
    """Each subscription has one paid invoice, the gateway took its money once, and all was told."""
    invoices = await world.fetch("SELECT * FROM invoice")
    assert sorted(row["subscription_id"] for row in invoices) == sorted(subs)
    assert {row["status"] for row in invoices} == {"paid"}
    assert world.taken() == {str(row["invoice_id"]): 1 for row in invoices}
    for sub in subs:
        told = [kind for kind in await world.told(sub) if kind.startswith("invoice.")]
        assert told == ["invoice.paid"]
    await world.set_now(await world.now() + timedelta(minutes=30))
    assert await world.broken(with_ledger=True) == []


REFUSALS = {Fault.ERROR_400, Fault.ERROR_401, Fault.ERROR_404}
"""Documented as not executed: frozen for a person, so no ladder ends them."""

FAULTS = sorted(set(Fault) - {Fault.EXECUTE_TWICE} - REFUSALS)


@pytest.mark.parametrize("fault", sorted(REFUSALS))
async def test_a_refusal_is_frozen_and_never_counts_as_a_decline(
    world: World, fault: Fault
) -> None:
    """Our request or our key is wrong: nobody is past due for it, and nothing is sent again."""
    sub = await world.subscribe()
    world.break_gateway(fault)
    await world.renew(sub)
    world.heal_gateway()
    await world.walk()
    attempt = await world.row("attempt")
    assert (attempt["state"], attempt["check_due_at"]) == ("unknown", None)
    assert fault.value.removeprefix("error_") in attempt["needs_human"]
    assert await world.told(sub) == []
    assert world.sandbox.charges() == []


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_of_both_tries_is_unknown_and_then_one_charge(
    world: World, fault: Fault
) -> None:
    """No fault is taken for an answer; the ladder ends with the invoice paid, once.

    Under its own key, or with the next one where absence was proved (a stored 5xx never changes).
    """
    sub = await world.subscribe()
    world.break_gateway(fault)
    await world.renew(sub)
    assert (await world.row("attempt"))["state"] == "unknown"
    assert (await world.row("subscription"))["status"] == "active"
    assert await world.told(sub) == []
    assert await world.broken() == []
    world.heal_gateway()
    await world.walk()
    await world.collect_due()
    await paid_once(world, sub)
    assert await world.told(sub) == ["invoice.paid", "subscription.renewed"]
    attempts = await world.value("SELECT count(*) FROM attempt")
    assert attempts == (2 if fault in (Fault.ERROR_500, Fault.ERROR_502, Fault.ERROR_503) else 1)


@pytest.mark.parametrize(
    "fault",
    [Fault.CHARGE_THEN_SILENCE, Fault.CHARGE_THEN_500, Fault.CHARGE_THEN_RESET, Fault.SLOW_DRIP],
)
async def test_a_decline_that_was_not_heard_is_a_decline(world: World, fault: Fault) -> None:
    """The lost answer was a no: the subscription is past due, and nothing was taken."""
    sub = await world.subscribe("tok_decline_insufficient_funds_1")
    world.break_gateway(fault)
    await world.renew(sub)
    world.heal_gateway()
    await world.walk()
    attempt = await world.row("attempt")
    assert (attempt["state"], attempt["decline_class"]) == ("declined", "soft")
    assert await world.told(sub) == ["payment.failed", "subscription.past_due"]
    assert len(world.sandbox.charges()) == 1
    assert await world.broken() == []


@pytest.mark.parametrize("stores_5xx", [True, False])
async def test_everything_goes_wrong_at_once(world: World, *, stores_5xx: bool) -> None:
    """120 charges, a fault in most requests, look-ups that fail and lag: 120 times the money."""
    subs = [await world.subscribe(f"tok_ok_{n}") for n in range(120)]
    plan = SandboxFaults(
        rates=dict.fromkeys(FAULTS, 0.8 / len(FAULTS)),
        read_rates={Fault.ERROR_503: 0.2, Fault.RESET: 0.2, Fault.NOT_JSON: 0.1},
        lookup_lag_s=600,
        stores_5xx=stores_5xx,
    )
    world.sandbox.set_faults(FaultPlan(faults=plan))
    await world.renew(*subs)
    await world.walk(until=START + timedelta(minutes=3))
    assert max(world.taken().values()) == 1
    assert await world.broken() == []
    world.heal_gateway()
    for _ in range(3):
        await world.walk()
        await world.collect_due()
    await paid_once(world, *subs)


async def test_a_key_that_the_gateway_forgot_is_looked_up_and_never_sent_again(
    world: World,
) -> None:
    """A day later the key would be a new charge: the charge is found by reading."""
    sub = await world.subscribe()
    world.break_gateway(Fault.CHARGE_THEN_SILENCE)
    await world.renew(sub)
    world.heal_gateway()
    await world.set_now(START + timedelta(hours=25))
    await world.walk()
    await paid_once(world, sub)


async def test_a_key_in_its_last_hours_is_not_sent_any_more(world: World) -> None:
    """20 hours old and never arrived: nothing is sent, absence is proved, a new key follows."""
    sub = await world.subscribe()
    world.break_gateway(Fault.SILENCE)
    await world.renew(sub)
    world.heal_gateway()
    await world.set_now(START + timedelta(hours=20))
    await world.reconcile()
    assert world.sandbox.charges() == []
    assert (await world.row("attempt"))["needs_human"] == "no outcome for 20 hours"
    await world.walk()
    assert world.sandbox.charges() == []
    attempt = await world.row("attempt")
    assert (attempt["state"], attempt["needs_human"]) == ("void", None)
    invoice = await world.row("invoice")
    assert (invoice["attempt_due_at"], invoice["attempt_source"]) == (
        START + timedelta(hours=20, minutes=15),
        "renewal",
    )
    await world.collect_due()
    attempts = await world.fetch("SELECT ordinal, state, source FROM attempt ORDER BY 1")
    assert [tuple(row.values()) for row in attempts] == [
        (1, "void", "renewal"),
        (2, "succeeded", "renewal"),
    ]
    await paid_once(world, sub)


async def test_a_kill_switch_leaves_only_reading(world: World) -> None:
    """Nothing is sent while charging is paused, and what is found is recorded all the same."""
    lost = await world.subscribe("tok_ok_lost")
    found = await world.subscribe("tok_ok_found")
    by_prefix = {
        "tok_ok_lost": SandboxFaults(rates={Fault.SILENCE: 1}),
        "tok_ok_found": SandboxFaults(rates={Fault.CHARGE_THEN_SILENCE: 1}),
    }
    world.sandbox.set_faults(FaultPlan(faults_by_prefix=by_prefix))
    await world.renew(lost, found)
    world.heal_gateway()
    await world.pause("plan", "plan_1")
    await world.walk()
    assert len(world.sandbox.charges()) == 1
    assert (await world.row("invoice", subscription_id=found))["status"] == "paid"
    assert (await world.row("attempt", subscription_id=lost))["state"] == "void"
    await world.collect_due()
    assert len(world.sandbox.charges()) == 1
    await world.resume("plan", "plan_1")
    await world.collect_due()
    await paid_once(world, lost, found)


async def test_absence_is_proved_by_two_readings_after_all_bounds(world: World) -> None:
    """The send window, an hour of delivery, twice 15 minutes of lag; before, it is only "not yet"."""
    sub = await world.subscribe()
    world.break_gateway(Fault.SILENCE)
    await world.renew(sub)
    world.heal_gateway()
    await world.pause()
    await world.reconcile()
    first = await world.row("attempt")
    assert (first["state"], first["not_found_at"]) == ("unknown", START)
    assert first["check_due_at"] == START + timedelta(minutes=90, seconds=20)
    await world.set_now(START + timedelta(minutes=90))
    assert await world.reconcile() == 0
    await world.set_now(START + timedelta(minutes=90, seconds=20))
    await world.reconcile()
    assert (await world.row("attempt"))["state"] == "void"
    assert await world.told(sub) == []
    assert await world.broken() == []


@pytest.mark.parametrize("fault", [Fault.LATE_SILENCE, Fault.LATE_500])
async def test_not_found_and_then_found(world: World, fault: Fault) -> None:
    """The request arrives 20 minutes late, the look-up sees it 10 more later: no second key."""
    sub = await world.subscribe()
    world.break_gateway(fault, late_minutes=19, lookup_lag_s=600)
    await world.renew(sub)
    await world.pause()
    await world.walk()
    attempt = await world.row("attempt")
    assert attempt["state"] == "succeeded"
    assert attempt["not_found_at"] is not None
    await paid_once(world, sub)


async def test_a_lagging_look_up_after_a_stored_error_is_waited_for(world: World) -> None:
    """A replayed 500 never changes, so only reading is left, and reading lags by ten minutes."""
    sub = await world.subscribe()
    world.break_gateway(Fault.CHARGE_THEN_500)
    await world.renew(sub)
    world.sandbox.set_faults(FaultPlan(faults=SandboxFaults(lookup_lag_s=600)))
    await world.reconcile()
    attempt = await world.row("attempt")
    assert (attempt["state"], attempt["replayed"]) == ("unknown", True)
    await world.reconcile()
    attempt = await world.row("attempt")
    assert (attempt["state"], attempt["not_found_at"]) == ("unknown", START)
    await world.walk()
    await paid_once(world, sub)


async def test_an_answer_to_an_earlier_send_says_nothing_of_the_last_one(world: World) -> None:
    """A 500 that was not stored, then a resend that got lost: the resend may still arrive."""
    sub = await world.subscribe()
    world.break_gateway(Fault.ERROR_500, stores_5xx=False)
    await world.renew(sub)
    assert (await world.row("attempt"))["answered"]
    world.break_gateway(Fault.LATE_SILENCE, late_minutes=45)
    await world.set_now(START + timedelta(minutes=1))
    await world.reconcile()
    await world.pause()
    await world.reconcile()
    assert (await world.row("attempt"))["check_due_at"] == START + timedelta(minutes=91, seconds=20)
    await world.walk()
    await paid_once(world, sub)


async def test_a_request_in_flight_is_not_judged(world: World) -> None:
    """409 for a key in use says nothing; the answer comes under the same key later."""
    sub = await world.subscribe()
    slow = FaultPlan.model_validate({"faults": {"latency": {"kind": "fixed", "ms": 500}}})
    world.sandbox.set_faults(slow)
    await world.renew(sub)
    assert (await world.row("attempt"))["raw_outcome"] == "409 idempotency_key_in_use"
    world.heal_gateway()
    async with asyncio.timeout(10):
        while (await world.row("attempt"))["state"] == "unknown":
            await world.reconcile()
    await paid_once(world, sub)


async def test_many_reconcilers_at_once_resend_one_key(world: World) -> None:
    """Doorbells that come in tens lead to one charge."""
    subs = [await world.subscribe(f"tok_ok_{n}") for n in range(10)]
    world.break_gateway(Fault.SILENCE)
    await world.renew(*subs)
    world.heal_gateway()
    await asyncio.gather(*(world.reconcile() for _ in range(10)))
    await world.walk()
    await paid_once(world, *subs)


async def test_nothing_is_looked_at_while_its_worker_may_still_send(world: World) -> None:
    """Within the send window the attempt belongs to its worker, whatever rings."""
    sub = await world.subscribe()
    world.break_gateway(Fault.SILENCE)
    await world.renew(sub)
    world.heal_gateway()
    invoice_id = (await world.row("invoice"))["invoice_id"]
    await reconciliation.reconcile(world.context, gateway="sandbox", ids=[f"{invoice_id}:1"])
    assert world.sandbox.charges() == []
    assert (await world.row("attempt"))["checks"] == 1

"""`renewd explain`: the whole story of a subscription, and what is next."""

from datetime import timedelta
from typing import Any

import pytest

from tests import platform_events as shop
from tests.console.command import renewd
from tests.worker.taking import take
from tests.world import START, World

SOFT = "tok_seq_insufficient_funds-ok_1"
HARD = "tok_decline_stolen_card_1"
DAY = timedelta(days=1)


async def explained(subscription_id: str) -> Any:
    ran = await renewd("explain", subscription_id, "--json")
    assert (ran.code, ran.err) == (0, "")
    return ran.json


async def whats(subscription_id: str) -> list[str]:
    return [event["what"] for event in (await explained(subscription_id))["timeline"]]


async def test_a_story_is_told_in_order(world: World) -> None:
    """Signed up, declined, recovered: causes before what follows from them, instants rising."""
    await take(world, *shop.sign_up()[:-2], shop.method(token=SOFT), shop.created())
    await world.renew("sub_1")
    await world.set_now(START + DAY)
    await world.collect((await world.row("invoice"))["invoice_id"])
    story = await explained("sub_1")
    assert (story["subscription_id"], story["status"]) == ("sub_1", "active")
    assert story["platform_events_complete"] is True
    times = [event["at"] for event in story["timeline"]]
    assert times == sorted(times)
    assert [event["what"] for event in story["timeline"]] == [
        "platform_event",
        "subscription_created",
        "invoice_opened",
        "attempt_sent",
        "attempt_declined",
        "notice_scheduled",
        "message_told",
        "attempt_sent",
        "attempt_succeeded",
        "invoice_paid",
        "subscription_active",
        "message_told",
        "message_told",
    ]


async def test_each_event_says_what_happened(world: World) -> None:
    """Amounts with currency, codes in words, lines, who and why."""
    sub = await world.subscribe(SOFT)
    await world.renew(sub)
    await renewd("collect", "--subscription", sub, "--why", "she called")
    details = {e["what"]: e["detail"] for e in (await explained(sub))["timeline"]}
    assert details["invoice_opened"] == (
        "period 0 (2026-01-31 to 2026-02-28): 49.00 USD (1 x Monthly, 2026-01-31 to 2026-02-28)"
    )
    assert details["attempt_sent"] == (
        f"period 0, attempt 1 (renewal): 49.00 USD at sandbox with pm_{sub}"
    )
    assert details["attempt_declined"] == (
        "period 0, attempt 1: insufficient_funds (soft, network 51): "
        "There was not enough money available for the payment."
    )
    assert details["subscription_past_due"] == ("active -> past_due: insufficient_funds (settle)")
    assert details["operator_verb"] == f"ana: collect subscription:{sub}: she called"


async def test_what_had_no_effect_is_told_too(world: World) -> None:
    """A message that waited, one that was refused: with their fields, and what became of them."""
    early = shop.cancel("sub_1", "period_end")
    await take(world, early)
    await take(world, *shop.sign_up())
    await take(world, shop.created())
    told = [
        event["detail"]
        for event in (await explained("sub_1"))["timeline"]
        if event["what"] == "platform_event"
    ]
    assert [one.partition(") ")[2] for one in told] == [
        "waiting",
        "applied",
        'rejected: data.subscription_id is "sub_1": was created before',
        "applied",
    ]


async def test_skipped_and_parked_are_told(world: World) -> None:
    """Periods that were never invoiced, and a row that was set aside."""
    sub = await world.subscribe(plan=await world.plan(ceiling_minor=10_000))
    await world.set_now(START + 70 * DAY)
    await world.renew(sub)
    assert (await whats(sub)).count("period_skipped") == 2
    await world.value("UPDATE plan SET ceiling_minor = 1")
    await world.set_now(START + 100 * DAY)
    await world.renew(sub)
    story = await explained(sub)
    assert [e["what"] for e in story["timeline"]].count("parked") == 1
    assert (story["next"]["what"], story["next"]["at"]) == ("release", None)
    assert "renewal" in story["next"]["why"]


async def test_next_is_the_renewal(world: World) -> None:
    """Nothing is owed: the next period, at its date."""
    sub = await world.subscribe()
    await world.renew(sub)
    assert (await explained(sub))["next"] == {
        "what": "renewal",
        "at": "2026-02-28T10:00:00Z",
        "why": "period 1 of Monthly begins",
    }


async def test_next_is_the_retry_of_the_schedule(world: World) -> None:
    """A soft decline: the next day of the ladder, by number."""
    sub = await world.subscribe(SOFT)
    await world.renew(sub)
    assert (await explained(sub))["next"] == {
        "what": "attempt",
        "at": "2026-02-01T10:00:00Z",
        "why": "retry 1 of 8, day 1",
    }


@pytest.mark.parametrize("action", ["cancel", "unpaid", "pause", "past_due"])
async def test_next_is_what_the_policy_does_in_the_end(world: World, action: str) -> None:
    """The bank said never again: the end of the window, and what will become of it then."""
    plan = await world.plan(retry_policy={"on_exhausted": action})
    sub = await world.subscribe(HARD, plan=plan)
    await world.renew(sub)
    coming = (await explained(sub))["next"]
    assert (coming["what"], coming["at"]) == (action, "2026-02-28T10:00:00Z")
    assert coming["why"].startswith("the window of dunning has ended")


async def test_next_of_who_never_paid_is_to_expire(world: World) -> None:
    """A pending subscription is not canceled but expires."""
    sub = await world.subscribe(HARD, status="pending")
    await world.renew(sub)
    assert (await explained(sub))["next"]["what"] == "expire"


async def test_next_is_what_an_operator_asked_for(world: World) -> None:
    """After collect: at once, because it was asked for."""
    sub = await world.subscribe(SOFT)
    await world.renew(sub)
    await renewd("collect", "--subscription", sub, "--why", "she called")
    assert (await explained(sub))["next"] == {
        "what": "attempt",
        "at": "2026-01-31T10:00:00Z",
        "why": "asked for: manual",
    }


async def test_next_is_the_scheduled_cancel(world: World) -> None:
    """A cancel at the end of the period comes instead of the renewal."""
    sub = await world.subscribe(due=START + 10 * DAY)
    await renewd("cancel", sub, "--at", "period_end", "--why", "moving away")
    assert (await explained(sub))["next"] == {
        "what": "cancel",
        "at": "2026-02-10T10:00:00Z",
        "why": "asked for by admin: moving away",
    }


async def test_next_of_what_has_ended_is_nothing(world: World) -> None:
    """It says who ended it, and why."""
    sub = await world.subscribe()
    await renewd("cancel", sub, "--at", "now", "--why", "moving away")
    assert (await explained(sub))["next"] == {
        "what": "nothing",
        "at": None,
        "why": "canceled by admin: moving away",
    }


async def test_next_says_that_charging_is_paused(world: World) -> None:
    """What is held back by a kill switch names it."""
    sub = await world.subscribe(SOFT)
    await world.renew(sub)
    await renewd("pause-charging", "--plan", min(world.plans), "--why", "a storm")
    why = (await explained(sub))["next"]["why"]
    assert why == "retry 1 of 8, day 1; held: charging is paused (plan) by ana: a storm"


async def test_next_is_to_find_out_what_became_of_an_attempt(world: World) -> None:
    """Without a final word nothing else happens: when it is looked at again, and the last word."""
    sub = await world.subscribe("tok_pending_ok_1")
    await world.renew(sub)
    coming = (await explained(sub))["next"]
    assert (coming["what"], coming["at"]) == ("reconcile", "2026-01-31T11:00:00Z")
    assert coming["why"].startswith("attempt 1 is pending")


async def test_next_of_a_frozen_attempt_is_a_person(world: World) -> None:
    """A frozen attempt is waited for, whatever else is due."""
    sub = await world.subscribe("tok_pending_ok_1")
    await world.renew(sub)
    await world.value("UPDATE attempt SET needs_human = 'odd answer', check_due_at = NULL")
    coming = (await explained(sub))["next"]
    assert (coming["what"], coming["at"]) == ("release", None)
    assert coming["why"].endswith("waits for a person: odd answer")


async def test_people_get_it_line_by_line(world: World) -> None:
    """A headline, a line an event, what is next."""
    sub = await world.subscribe()
    await world.renew(sub)
    lines = (await renewd("explain", sub)).out.splitlines()
    paid = "paid from 2026-01-31 10:00:00Z to 2026-02-28 10:00:00Z"
    assert lines[0] == f"{sub} is active, {paid}"
    assert lines[-1] == "next: renewal at 2026-02-28 10:00:00Z: period 1 of Monthly begins"
    assert len(lines) == 4 + len(await whats(sub))


async def test_nobodys_story_is_wrong_use(database: str) -> None:
    """An unknown id: exit 2 and one line."""
    ran = await renewd("explain", "sub_9")
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint == "subscription 'sub_9' is not known: should be one that exists"

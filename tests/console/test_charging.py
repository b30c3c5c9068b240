"""`renewd pause-charging` and `resume-charging`: the kill switches, each with its trace."""

import pytest

from tests.console.command import renewd
from tests.world import World

WHY = ("--why", "a storm of declines")


async def test_nothing_is_charged_while_paused(world: World) -> None:
    """After pause-charging a due renewal is not begun; after resume-charging it is."""
    sub = await world.subscribe()
    paused = await renewd("pause-charging", *WHY, "--json")
    assert (paused.code, paused.json) == (0, {"scope": "global", "scope_id": "", "paused": True})
    await world.renew(sub)
    assert world.sandbox.charges() == []
    resumed = await renewd("resume-charging", "--why", "calm again", "--json")
    assert (resumed.json["was_paused"], resumed.json["still_paused"]) == (True, [])
    await world.renew(sub)
    assert len(world.sandbox.charges()) == 1


async def test_both_leave_a_trace(world: World) -> None:
    """Who, what and why of both are in the operator log, in order."""
    await renewd("pause-charging", *WHY, "--who", "bea")
    await renewd("resume-charging", "--why", "calm again")
    rows = await world.fetch("SELECT who, verb, subject, why FROM operator_log ORDER BY position")
    assert [tuple(row.values()) for row in rows] == [
        ("bea", "pause-charging", "global:", "a storm of declines"),
        ("ana", "resume-charging", "global:", "calm again"),
    ]


@pytest.mark.parametrize("scope", ["gateway", "seller", "plan"])
async def test_a_scope_stops_its_own(world: World, scope: str) -> None:
    """A gateway, a seller or a plan can be paused alone."""
    sub = await world.subscribe()
    ids = {"gateway": "sandbox", "seller": "sel_1", "plan": min(world.plans)}
    ran = await renewd("pause-charging", f"--{scope}", ids[scope], *WHY)
    assert (ran.code, ran.out) == (0, f"charging is paused: {scope} {ids[scope]}\n")
    await world.renew(sub)
    assert world.sandbox.charges() == []


@pytest.mark.parametrize("scope", ["gateway", "seller", "plan"])
async def test_a_switch_for_nothing_is_refused(world: World, scope: str) -> None:
    """A typing error must not look like a switch that is on."""
    ran = await renewd("pause-charging", f"--{scope}", "nope", *WHY)
    assert ran.code == 2
    assert ran.complaint == f"--{scope} is 'nope': should be one that exists"
    assert await world.fetch("SELECT FROM charging_pause") == []
    assert await world.fetch("SELECT FROM operator_log") == []


async def test_one_scope_at_a_time(database: str) -> None:
    """Two scopes in one command are wrong use."""
    ran = await renewd("pause-charging", "--plan", "a", "--seller", "b", *WHY)
    assert (ran.code, ran.complaint) == (
        2,
        "--gateway, --seller, --plan: should be at most one of them",
    )


async def test_resuming_tells_what_stays_paused(world: World) -> None:
    """One switch of two is off: the other one is named, with who and why."""
    await world.subscribe()
    await renewd("pause-charging", *WHY)
    await renewd("pause-charging", "--seller", "sel_1", "--why", "a refund wave")
    ran = await renewd("resume-charging", "--why", "calm again")
    assert ran.out.splitlines() == [
        "charging goes on: everywhere",
        "still paused: seller sel_1, by ana: a refund wave",
    ]


async def test_resuming_what_was_not_paused_says_so(world: World) -> None:
    """It is no error, and it is told."""
    ran = await renewd("resume-charging", "--why", "just in case")
    assert (ran.code, ran.out) == (0, "charging was not paused: everywhere\n")


async def test_what_a_person_types_is_kept_without_card_numbers(world: World) -> None:
    """A card number in --why is masked before it is written, and a line break is none."""
    await renewd("pause-charging", "--why", "complaint about 4111 1111 1111 1111\nurgent")
    (row,) = await world.fetch("SELECT reason FROM charging_pause")
    assert "1111 1111" not in row["reason"]
    assert "\n" not in row["reason"]

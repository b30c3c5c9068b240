"""`renewd parked` and `release`: what waits for a person, and putting it back."""

import pytest

from tests.console.command import renewd
from tests.world import START, World
from worker.store import claims

WHY = ("--why", "mended")


async def park_renewal(world: World) -> str:
    """A due renewal that was set aside."""
    sub = await world.subscribe()
    async with world.pool.acquire() as conn:
        assert await claims.park_renewal(conn, sub, "PricingError: too dear")
    return sub


async def test_nothing_is_parked(database: str) -> None:
    """An empty list, said in words or as JSON."""
    assert (await renewd("parked")).out == "nothing is parked\n"
    assert (await renewd("parked", "--json")).json == {"parked": []}


async def test_a_parked_renewal_is_listed_and_released(world: World) -> None:
    """Its kind, id and reason are listed; released it is due as it was, and is charged."""
    sub = await park_renewal(world)
    (row,) = (await renewd("parked", "--json")).json["parked"]
    assert row.pop("at").endswith("Z")
    assert row == {
        "kind": "renewal",
        "id": sub,
        "subscription_id": sub,
        "reason": "PricingError: too dear",
    }
    ran = await renewd("release", "renewal", sub, *WHY)
    assert (ran.code, ran.out) == (
        0,
        f"released renewal {sub}, which was parked for: PricingError: too dear\n",
    )
    assert (await world.row("subscription"))["next_renewal_at"] == START
    assert (await renewd("parked", "--json")).json == {"parked": []}
    await world.renew(sub)
    assert len(world.sandbox.charges()) == 1
    assert await world.broken() == []


async def test_a_parked_collection_is_released(world: World) -> None:
    """An attempt that was due on an invoice is due again, with the source it had."""
    sub = await world.subscribe("tok_decline_insufficient_funds_1")
    await world.renew(sub)
    before = await world.row("invoice")
    async with world.pool.acquire() as conn:
        await claims.park_collection(conn, before["invoice_id"], "odd")
    assert (await world.row("invoice"))["attempt_due_at"] is None
    ran = await renewd("release", "collection", str(before["invoice_id"]), *WHY, "--json")
    assert ran.json["put_back"] is True
    assert await world.row("invoice") == before
    assert await world.broken() == []


async def test_a_frozen_attempt_is_listed_and_looked_at_again(world: World) -> None:
    """One that a person has to look at is listed; released it is checked at once."""
    sub = await world.subscribe("tok_pending_ok_1")
    await world.renew(sub)
    await world.value("UPDATE attempt SET needs_human = 'odd answer', check_due_at = NULL")
    (row,) = (await renewd("parked", "--json")).json["parked"]
    assert (row["kind"], row["reason"], row["subscription_id"]) == ("attempt", "odd answer", sub)
    assert (await renewd("release", "attempt", row["id"], *WHY)).code == 0
    attempt = await world.row("attempt")
    assert (attempt["needs_human"], attempt["check_due_at"]) == (None, START)
    assert await world.value("SELECT retake_at <= clock_timestamp() FROM attempt") is True


async def test_an_outcome_that_could_not_be_settled_is_released(world: World) -> None:
    """A parked attempt is checked again at once, and is off the list."""
    await world.renew(await world.subscribe("tok_pending_ok_1"))
    attempt = await world.row("attempt")
    async with world.pool.acquire() as conn:
        await claims.park_outcome(
            conn, attempt["invoice_id"], 1, raw_outcome="Approved(…)", reason="DataError: odd"
        )
    (row,) = (await renewd("parked", "--json")).json["parked"]
    assert row["reason"] == "DataError: odd"
    assert (await renewd("release", "attempt", row["id"], *WHY)).code == 0
    assert (await world.row("attempt"))["check_due_at"] == START
    assert await world.fetch("SELECT FROM parked") == []


async def test_a_note_about_money_is_taken_off(world: World) -> None:
    """Money that came after the end is listed for a person; released, only the note goes."""
    await world.renew(await world.subscribe())
    await world.value("UPDATE attempt SET needs_human = 'money after the end: refund proposed'")
    (row,) = (await renewd("parked", "--json")).json["parked"]
    assert (await renewd("release", "attempt", row["id"], *WHY)).code == 0
    attempt = await world.row("attempt")
    assert (attempt["needs_human"], attempt["check_due_at"]) == (None, None)


async def test_a_release_leaves_a_trace(world: World) -> None:
    """Who, what and why."""
    sub = await park_renewal(world)
    await renewd("release", "renewal", sub, *WHY, "--who", "bea")
    row = await world.row("operator_log")
    assert (row["who"], row["verb"], row["subject"], row["why"]) == (
        "bea",
        "release",
        f"renewal:{sub}",
        "mended",
    )


async def test_what_has_ended_has_nowhere_to_go_back(world: World) -> None:
    """A subscription that was canceled meanwhile is not due again."""
    sub = await park_renewal(world)
    await renewd("cancel", sub, "--at", "now", "--why", "moving away")
    ran = await renewd("release", "renewal", sub, *WHY, "--json")
    assert (ran.code, ran.json["put_back"]) == (0, False)
    assert (await world.row("subscription"))["next_renewal_at"] is None
    assert await world.fetch("SELECT FROM parked") == []


@pytest.mark.parametrize(
    ("kind", "row"), [("renewal", "sub_9"), ("collection", "x"), ("attempt", "x"), ("grace", "s")]
)
async def test_what_is_not_parked_cannot_be_released(world: World, kind: str, row: str) -> None:
    """An unknown or malformed id: exit 2, one line, no trace."""
    ran = await renewd("release", kind, row, *WHY)
    assert ran.code == 2
    assert ran.complaint == f"{kind} {row!r} is not parked: should be one of renewd parked"
    assert await world.fetch("SELECT FROM operator_log") == []

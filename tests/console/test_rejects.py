"""`renewd rejects`: messages without effect, listed and applied once more."""

from tests import platform_events as shop
from tests.console.command import renewd
from tests.worker.taking import take
from tests.world import World

WHY = ("--why", "the sender was mended")


async def test_there_are_none(database: str) -> None:
    """An empty list, said in words or as JSON."""
    assert (await renewd("rejects")).out == "there are none\n"
    assert (await renewd("rejects", "--json")).json == {"rejected": []}


async def test_each_is_listed_with_its_field(world: World) -> None:
    """What waits and what was rejected, newest first, with type, state, field and error."""
    await take(world, shop.plan(interval={"unit": "fortnight", "count": 1}))
    await take(world, shop.created())
    rows = (await renewd("rejects", "--json")).json["rejected"]
    assert [(row["type"], row["state"], row["field"]) for row in rows] == [
        ("platform.subscription.created", "waiting", "data.customer_id"),
        ("platform.plan.upserted", "rejected", "data.interval.unit"),
    ]
    assert {"event_id", "error", "received_at", "id", "waits_for"} <= rows[0].keys()
    shown = (await renewd("rejects")).out
    assert len(shown.splitlines()) == 3
    assert rows[1]["error"] in shown


async def test_one_is_applied_once_more(world: World) -> None:
    """After its cause was mended a replay applies it; the trace says who and why."""
    await take(world, *shop.sign_up()[:-1])
    await take(world, shop.cancel("sub_1"))
    (row,) = (await renewd("rejects", "--json")).json["rejected"]
    await world.value("UPDATE rejected_event SET waits_for = 'subscription:other'")
    await take(world, shop.created())
    ran = await renewd("rejects", "--replay", str(row["id"]), *WHY, "--json")
    assert [(one["id"], one["state"]) for one in ran.json["replayed"]] == [(row["id"], "applied")]
    assert (await world.row("subscription"))["status"] == "canceled"
    trace = await world.row("operator_log")
    assert (trace["who"], trace["verb"], trace["subject"], trace["why"]) == (
        "ana",
        "rejects --replay",
        f"rejected:{row['id']}",
        "the sender was mended",
    )


async def test_all_are_applied_once_more(world: World) -> None:
    """Oldest first; one that fails again stops no other."""
    await take(world, *shop.sign_up()[:-1])
    await take(world, shop.plan("plan_2", interval={"unit": "fortnight", "count": 1}))
    await take(world, shop.cancel("sub_1"))
    await world.value("UPDATE rejected_event SET waits_for = 'x:y' WHERE state = 'waiting'")
    await take(world, shop.created())
    ran = await renewd("rejects", "--all", *WHY, "--json")
    assert [one["state"] for one in ran.json["replayed"]] == ["rejected", "applied"]


async def test_a_replay_needs_a_reason(database: str) -> None:
    """Applying anything without --why is wrong use."""
    ran = await renewd("rejects", "--all")
    assert ran.code == 2
    assert ran.complaint.startswith("--why is missing")


async def test_an_unknown_message_cannot_be_replayed(database: str) -> None:
    """An id that is not in the list: exit 2 and one line."""
    ran = await renewd("rejects", "--replay", "9", *WHY)
    assert ran.code == 2
    assert ran.complaint == "rejected message 9 is unknown: should be one of the list"

"""`renewd collect` and `cancel`: what the platform may ask for, by an operator's hand."""

from datetime import timedelta
from uuid import uuid4

import pytest

from tests.console.command import renewd
from tests.world import START, World

WHY = ("--why", "the customer called")
SOFT = "tok_seq_insufficient_funds-ok_1"


async def past_due(world: World, token: str = SOFT) -> tuple[str, str]:
    """A subscription whose renewal was declined, and its invoice."""
    sub = await world.subscribe(token)
    await world.renew(sub)
    return sub, str((await world.row("invoice", subscription_id=sub))["invoice_id"])


@pytest.mark.parametrize("by_invoice", [False, True])
async def test_what_is_owed_is_attempted_at_once(world: World, by_invoice: bool) -> None:  # noqa: FBT001
    """By subscription or by invoice: the attempt is due now, is made as manual, and recovers."""
    sub, invoice = await past_due(world)
    named = ["--invoice", invoice] if by_invoice else ["--subscription", sub]
    ran = await renewd("collect", *named, *WHY, "--json")
    assert ran.json == {
        "invoices": [{"invoice_id": invoice, "attempt_due_at": "2026-01-31T10:00:00Z"}],
        "charging_paused": False,
    }
    row = await world.row("invoice")
    assert (row["attempt_due_at"], row["requested_source"]) == (START, "manual")
    await world.collect(row["invoice_id"])
    assert (await world.row("invoice"))["recovered_by"] == "manual"
    assert await world.value("SELECT max(source) FROM attempt WHERE ordinal = 2") == "manual"
    assert await world.broken() == []


async def test_collecting_leaves_a_trace(world: World) -> None:
    """Who, for what, and why."""
    sub, _ = await past_due(world)
    await renewd("collect", "--subscription", sub, *WHY, "--who", "bea")
    row = await world.row("operator_log")
    assert (row["who"], row["verb"], row["subject"], row["why"]) == (
        "bea",
        "collect",
        f"subscription:{sub}",
        "the customer called",
    )


async def test_collecting_says_that_charging_is_paused(world: World) -> None:
    """It is asked for all the same, and waits for the switch."""
    sub, invoice = await past_due(world)
    await renewd("pause-charging", "--why", "a storm")
    ran = await renewd("collect", "--subscription", sub, *WHY)
    assert ran.out.splitlines() == [
        f"invoice {invoice}: the attempt is due since 2026-01-31 10:00:00Z",
        "but charging is paused (global): a storm",
    ]


async def test_nothing_to_collect_is_told(world: World) -> None:
    """A subscription that owes nothing: exit 1, one line, no trace."""
    sub = await world.subscribe()
    ran = await renewd("collect", "--subscription", sub, *WHY)
    assert (ran.code, ran.out) == (1, "")
    assert ran.complaint == (
        "subscription_id names nothing to collect: should name an open invoice"
    )
    assert await world.fetch("SELECT FROM operator_log") == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--subscription", "sub_9"],
            "subscription 'sub_9' is not known: should be one that exists",
        ),
        (["--invoice", "inv_9"], "invoice 'inv_9' is not known: should be one that exists"),
        (["--invoice", str(uuid4())], "is not known: should be one that exists"),
        ([], "--subscription, --invoice: should be one of them"),
        (["--invoice", "a", "--subscription", "b"], "should be one of them"),
    ],
)
async def test_collecting_from_nobody_is_wrong_use(
    world: World, arguments: list[str], expected: str
) -> None:
    """An unknown id, none or two: exit 2 and one line."""
    ran = await renewd("collect", *arguments, *WHY)
    assert ran.code == 2
    assert ran.complaint.endswith(expected)


async def test_cancel_at_once_ends_everything(world: World) -> None:
    """The open invoice is void, nothing is retried, the platform is told who and why."""
    sub, _ = await past_due(world)
    ran = await renewd("cancel", sub, "--at", "now", *WHY, "--json")
    assert ran.json == {
        "subscription_id": sub,
        "status": "canceled",
        "cancel_at": None,
        "ended_at": "2026-01-31T10:00:00Z",
        "changed": True,
    }
    row = await world.row("subscription")
    assert (row["cancel_origin"], row["cancel_reason"]) == ("admin", "the customer called")
    assert (await world.row("invoice"))["status"] == "void"
    assert (await world.told(sub))[-2:] == ["invoice.voided", "subscription.canceled"]
    actors = await world.fetch("SELECT actor FROM transition ORDER BY position DESC LIMIT 1")
    assert actors == [{"actor": "operator ana"}]
    assert await world.broken() == []


async def test_cancel_at_period_end_keeps_what_is_paid(world: World) -> None:
    """It stays active until the paid period ends."""
    sub = await world.subscribe(due=START + timedelta(days=10))
    ran = await renewd("cancel", sub, "--at", "period_end", *WHY)
    assert ran.out == f"{sub} stays active and ends at 2026-02-10 10:00:00Z\n"
    assert await world.told(sub) == ["subscription.cancel_scheduled"]
    assert (await world.row("operator_log"))["verb"] == "cancel"


async def test_cancel_again_changes_nothing(world: World) -> None:
    """One that has ended already stays as it is."""
    sub = await world.subscribe()
    await renewd("cancel", sub, "--at", "now", *WHY)
    told = await world.told(sub)
    ran = await renewd("cancel", sub, "--at", "now", *WHY, "--json")
    assert (ran.code, ran.json["changed"]) == (0, False)
    assert await world.told(sub) == told


async def test_cancel_of_nobody_is_wrong_use(world: World) -> None:
    """An unknown id: exit 2 and one line."""
    ran = await renewd("cancel", "sub_9", "--at", "now", *WHY)
    assert (ran.code, ran.complaint) == (
        2,
        "subscription 'sub_9' is not known: should be one that exists",
    )

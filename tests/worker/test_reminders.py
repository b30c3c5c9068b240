import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from billing.money import Money
from billing.notices import NoticeKind, payment_failed
from tests.worker.mailing import (
    FakeChannel,
    announcements,
    make_context,
    schedule,
    set_now,
    states,
    told,
)
from tests.worker.people import NOW, Person, add_invoice, add_subscriptions
from worker.context import WorkerContext
from worker.db import Pool
from worker.notices.letters import letter_of
from worker.reminders import remind
from worker.store import facts, notices


@pytest.fixture
def channel() -> FakeChannel:
    return FakeChannel()


@pytest.fixture
async def context(pool: Pool, channel: FakeChannel) -> WorkerContext:
    return await make_context(pool, channel)


async def test_an_announcement_is_sent_and_told(
    context: WorkerContext, channel: FakeChannel
) -> None:
    """The mail goes to the customer's address of the moment, and the platform hears of it."""
    ids = await schedule(context.pool, announcements())
    await context.pool.execute("UPDATE customer SET email = 'new@example.org'")
    await remind(context, ids=ids)
    assert await states(context.pool) == [("sent", None)]
    ((to, mail),) = channel.mails
    assert to == "new@example.org"
    assert mail.subject == "Piano from Zero renews on March 17, 2026"
    assert "€49.90" in mail.text
    (message,) = await told(context.pool)
    assert message["type"] == "billing.notice.sent"
    assert message["data"] == {
        "subscription_id": "sub_a",
        "customer_id": "cus_sub_a",
        "seller_id": "school",
        "sequence": 1,
        "kind": "upcoming_renewal",
    }


async def test_a_cause_written_twice_is_one_notice(context: WorkerContext) -> None:
    """Subscription, kind and date make it; a second writing changes nothing."""
    await schedule(context.pool, announcements())
    await schedule(context.pool, announcements())
    assert await states(context.pool) == [("scheduled", None)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            "UPDATE subscription SET cancel_at = next_renewal_at, cancel_origin = 'customer'",
            "the subscription ends before the renewal",
        ),
        (
            "UPDATE subscription SET status = 'canceled', next_renewal_at = NULL, ended_at = now()",
            "the subscription is canceled",
        ),
        (
            "UPDATE subscription SET next_renewal_at = next_renewal_at + interval '1 month'",
            "the renewal is paid, under way or moved",
        ),
    ],
)
async def test_relevance_is_asked_again(
    context: WorkerContext, channel: FakeChannel, change: str, reason: str
) -> None:
    """What happened since the notice was written counts, and the row says why nothing was sent."""
    ids = await schedule(context.pool, announcements())
    await context.pool.execute(change)
    await remind(context, ids=ids)
    assert await states(context.pool) == [("dropped", reason)]
    assert channel.mails == []
    assert await told(context.pool) == []


async def test_a_change_under_way_is_waited_for(
    context: WorkerContext, channel: FakeChannel
) -> None:
    """A cancel that holds the lock is seen, not overtaken."""
    ids = await schedule(context.pool, announcements())
    async with context.pool.acquire() as conn:
        cancel = conn.transaction()
        await cancel.start()
        await conn.execute(
            "UPDATE subscription SET status = 'canceled', next_renewal_at = NULL, ended_at = now()"
        )
        reminding = asyncio.create_task(remind(context, ids=ids))
        await asyncio.wait([reminding], timeout=0.2)
        assert not reminding.done()
        await cancel.commit()
    await reminding
    assert await states(context.pool) == [("dropped", "the subscription is canceled")]


async def test_late_announcements_are_dropped(context: WorkerContext, channel: FakeChannel) -> None:
    """After a day of downtime an announcement is not news any more."""
    ids = await schedule(context.pool, announcements())
    await set_now(context.pool, NOW + timedelta(hours=24, seconds=1))
    await remind(context, ids=ids)
    assert await states(context.pool) == [("dropped", "too late")]
    assert channel.mails == []


async def test_what_is_not_due_stays(context: WorkerContext, channel: FakeChannel) -> None:
    """An id that is rung too early, or is no notice at all, is passed over."""
    ids = await schedule(context.pool, announcements(days=6))
    await remind(context, ids=[*ids, str(UUID(int=5))])
    assert await states(context.pool) == [("scheduled", None)]
    assert channel.mails == []


async def test_a_failed_payment_is_told_until_it_is_paid(
    context: WorkerContext, channel: FakeChannel
) -> None:
    """Amount, reason and next attempt are those of the moment; a paid invoice needs no mail."""
    async with context.pool.acquire() as conn:
        await add_subscriptions(
            conn, "sub_b", status="past_due", renewal_at=None, person=Person(locale="de-DE")
        )
        owed = await add_invoice(conn, "sub_a", status="paid")
        await conn.execute(
            "UPDATE subscription SET status = 'past_due' WHERE subscription_id = 'sub_a'"
        )
        open_ = await add_invoice(conn, "sub_b", attempt_due_at=NOW + timedelta(days=3))
    drafts = [
        draft
        for subscription_id, invoice_id in (("sub_a", owed), ("sub_b", open_))
        for draft in payment_failed(
            subscription_id=subscription_id,
            invoice_id=invoice_id,
            decline_class="soft",
            decline_code="insufficient_funds",
            zone="Europe/Berlin",
            now=NOW,
        )
    ]
    await remind(context, ids=await schedule(context.pool, drafts))
    assert await states(context.pool) == [("dropped", "the invoice is paid"), ("sent", None)]
    ((to, mail),) = channel.mails
    assert to == "sub_b@example.org"
    assert "49,90\xa0€" in mail.text
    assert "We will try again on 13 March 2026." in mail.text


async def test_dropping_by_kind(context: WorkerContext) -> None:
    """A flow that ends a subscription drops what is scheduled, all of it or some kinds."""
    await schedule(context.pool, announcements())
    async with context.pool.acquire() as conn:
        await notices.drop(conn, ["sub_a"], kinds=["payment_failed"], reason="x", now=NOW)
        assert await states(context.pool) == [("scheduled", None)]
        await notices.drop(conn, ["sub_a"], kinds=None, reason="canceled", now=NOW)
    assert await states(context.pool) == [("dropped", "canceled")]


async def test_the_amount_announced_is_the_one_that_will_be_charged(
    context: WorkerContext,
) -> None:
    """Quantity and an odd first period count, as in the renewal."""
    async with context.pool.acquire() as conn:
        await conn.execute("UPDATE price_version SET model = 'per_unit'")
        await conn.execute("UPDATE subscription SET quantity = 3")
        ids = [UUID(id_) for id_ in await schedule(context.pool, announcements())]
        subscriptions = await facts.lock_subscriptions(conn, ["sub_a"])
        (due,) = await notices.read_due(conn, ids, kinds=list(NoticeKind), now=NOW)
    assert letter_of(due, subscriptions["sub_a"]).amount == Money(14970, "EUR")

import asyncio
import dataclasses
from datetime import timedelta
from uuid import UUID

import pytest

from billing.notices import payment_failed
from tests.mail import SmtpSink
from tests.worker.mailing import (
    RENEWAL,
    RETRY_NOW,
    FakeChannel,
    announcements,
    make_context,
    schedule,
    states,
    told,
    with_server,
)
from tests.worker.people import NOW, add_invoice, add_subscriptions
from worker import reminders
from worker.context import WorkerContext
from worker.db import Pool
from worker.notices.channel import Deferred, SendResult, Unclear
from worker.reminders import finish_half_sent, remind
from worker.store import notices


@pytest.fixture
def channel() -> FakeChannel:
    return FakeChannel()


@pytest.fixture
async def context(pool: Pool, channel: FakeChannel) -> WorkerContext:
    return await make_context(pool, channel)


async def test_a_real_mail_server_gets_it_once(context: WorkerContext, smtp_sink: SmtpSink) -> None:
    """Rung again and again, by several workers at once, each notice arrives once."""
    people = [f"sub_{n:03}" for n in range(70)]
    async with context.pool.acquire() as conn:
        await add_subscriptions(conn, *people, renewal_at=RENEWAL)
    drafts = [draft for id_ in people for draft in announcements(id_)]
    ids = await schedule(context.pool, drafts)
    workers = [with_server(context, smtp_sink) for _ in range(3)]
    await asyncio.gather(*(remind(worker, ids=ids) for worker in workers))
    await remind(workers[0], ids=ids)
    assert len(smtp_sink.messages) == len(people)
    assert len({message["Message-ID"] for message in smtp_sink.messages}) == len(people)
    assert {message["To"] for message in smtp_sink.messages} == {
        f"{id_}@example.org" for id_ in people
    }
    assert set(await states(context.pool)) == {("sent", None)}
    assert len(await told(context.pool)) == len(people)


async def test_the_same_notice_has_the_same_message_id(
    context: WorkerContext, channel: FakeChannel
) -> None:
    """Should a mail go out twice after all, mail programs can see it."""
    channel.answers = [Deferred("not yet")]
    (id_,) = ids = await schedule(context.pool, announcements())
    await remind(context, ids=ids)
    await context.pool.execute(RETRY_NOW)
    await remind(context, ids=ids)
    assert [mail.message_id for _, mail in channel.mails] == [
        f"<{id_}@{context.installation_id}.renewd>"
    ] * 2


@pytest.mark.parametrize(
    ("answer", "state", "reason"),
    [
        (Unclear("no answer"), "sent", "unknown outcome: no answer"),
        (Deferred("busy"), "scheduled", "busy"),
    ],
)
async def test_what_became_of_a_mail(
    context: WorkerContext, channel: FakeChannel, answer: SendResult, state: str, reason: str
) -> None:
    """An unknown outcome counts as sent; what was surely not taken is tried again."""
    channel.answers = [answer]
    await remind(context, ids=await schedule(context.pool, announcements()))
    assert await states(context.pool) == [(state, reason)]
    assert len(await told(context.pool)) == (state == "sent")


async def test_a_refused_address_fails_alone(context: WorkerContext, smtp_sink: SmtpSink) -> None:
    """A 550 is for good and stops nobody else; a 451 comes again."""
    async with context.pool.acquire() as conn:
        await add_subscriptions(conn, "sub_b", "sub_c", renewal_at=RENEWAL)
    smtp_sink.replies = {"sub_a@example.org": "550 gone", "sub_b@example.org": "451 later"}
    worker = with_server(context, smtp_sink)
    drafts = [draft for id_ in ("sub_a", "sub_b", "sub_c") for draft in announcements(id_)]
    ids = await schedule(context.pool, drafts)
    await remind(worker, ids=ids)
    assert await states(context.pool) == [
        ("failed", "the mail server answered 550"),
        ("scheduled", "the mail server answered 451"),
        ("sent", None),
    ]
    smtp_sink.replies.clear()
    await remind(worker, ids=ids)
    assert [message["To"] for message in smtp_sink.messages] == [
        "sub_c@example.org",
        "sub_b@example.org",
    ]


async def test_the_wait_grows_with_each_try(context: WorkerContext, channel: FakeChannel) -> None:
    """A server that is away for long is not asked every few seconds."""
    channel.answers = [Deferred("away")] * 7
    ids = await schedule(context.pool, announcements())
    waits = []
    for _ in range(7):
        await remind(context, ids=ids)
        waited: timedelta = await context.pool.fetchval(
            "SELECT claimed_until - clock_timestamp() FROM notice"
        )
        waits.append(round(waited.total_seconds()))
        await context.pool.execute(RETRY_NOW)
    assert waits == [5, 20, 80, 320, 1280, 1280, 1280]


async def test_without_a_server_notices_are_dropped(context: WorkerContext) -> None:
    """The row says why; a notice that was untrue anyway keeps its own reason."""
    ids = await schedule(context.pool, announcements())
    await remind(dataclasses.replace(context, mailer=None), ids=ids)
    assert await states(context.pool) == [("dropped", "no SMTP server is configured")]


async def test_a_crash_while_sending_counts_as_sent(
    context: WorkerContext, channel: FakeChannel
) -> None:
    """After the lease the next batch finishes what was left, tells the platform, and sends nothing."""
    (id_,) = ids = await schedule(context.pool, announcements())
    async with context.pool.acquire() as conn:
        await notices.mark_sending(conn, [UUID(id_)], lease=timedelta(seconds=40))
    await remind(context, ids=ids)
    assert await states(context.pool) == [("sending", None)], "its sender may still live"
    await context.pool.execute(
        "UPDATE notice SET claimed_until = clock_timestamp() - interval '1 s'"
    )
    await remind(context, ids=[])
    assert await states(context.pool) == [("sent", "unknown outcome")]
    assert [message["data"]["kind"] for message in await told(context.pool)] == ["upcoming_renewal"]
    assert channel.mails == []
    async with context.pool.acquire() as conn:
        assert await finish_half_sent(conn, now=NOW) == 0


async def test_a_mail_that_breaks_our_code_stops_no_neighbour(
    context: WorkerContext, channel: FakeChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template error fails its own notice only."""
    async with context.pool.acquire() as conn:
        await add_subscriptions(conn, "sub_b", renewal_at=RENEWAL)
        invoice_id = await add_invoice(conn, "sub_b")
        await conn.execute(
            "UPDATE subscription SET status = 'past_due' WHERE subscription_id = 'sub_b'"
        )
    broken = dataclasses.replace(
        payment_failed(
            subscription_id="sub_b",
            invoice_id=invoice_id,
            decline_class="soft",
            decline_code="x",
            zone="UTC",
            now=NOW,
        )[0],
        context={},
    )
    await remind(context, ids=await schedule(context.pool, [*announcements(), broken]))
    assert await states(context.pool) == [
        ("sent", None),
        ("failed", "the template is wrong: UndefinedError"),
    ]


async def test_time_that_runs_out_gives_mails_back(
    context: WorkerContext, channel: FakeChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not begun is scheduled as before, free to be claimed at once."""
    monkeypatch.setattr(reminders, "START_SECONDS", 0)
    ids = await schedule(context.pool, announcements())
    await context.pool.execute(
        "UPDATE notice SET claims = 1, claimed_until = clock_timestamp() + interval '40 s'"
    )
    await remind(context, ids=ids)
    assert channel.mails == []
    row = await context.pool.fetchrow("SELECT state, claims, claimed_until FROM notice")
    assert row is not None
    assert tuple(row) == ("scheduled", 0, None)

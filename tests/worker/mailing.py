"""What the tests of notices share: a worker with a fake channel, and notices to send."""

import asyncio
import dataclasses
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from billing.notices import NoticeDraft, Reminder, upcoming
from tests.mail import SmtpSink
from tests.worker.people import NOW, add_school, add_subscriptions
from worker.context import WorkerContext
from worker.db import Pool
from worker.notices.channel import Rendered, SendResult, Sent
from worker.notices.mailer import Mailer, open_mailer
from worker.seats import Seats
from worker.settings import isolated_settings
from worker.store import control, notices

RENEWAL = NOW + timedelta(days=7)
ROWS = "SELECT state, reason FROM notice ORDER BY subscription_id, kind"
TOLD = "SELECT body FROM outbox_event ORDER BY position"
RETRY_NOW = "UPDATE notice SET claimed_until = NULL WHERE state = 'scheduled'"


class FakeChannel:
    """Keeps what it is given and answers from a list, `Sent` when the list is empty."""

    name = "fake"

    def __init__(self, *answers: SendResult) -> None:
        self.answers = list(answers)
        self.mails: list[tuple[str, Rendered]] = []

    async def send(self, rendered: Rendered, *, to: str, at: datetime) -> SendResult:
        self.mails.append((to, rendered))
        await asyncio.sleep(0)
        return self.answers.pop(0) if self.answers else Sent()

    async def rest(self) -> None:
        """Nothing is open."""


async def make_context(pool: Pool, channel: FakeChannel) -> WorkerContext:
    """A worker whose clock stands at `NOW`, and a school with a subscription that renews in a week."""
    async with pool.acquire() as conn, conn.transaction():
        await control.lock_exclusive(conn)
        await control.set_clock(conn, NOW)
        await add_school(conn)
        await add_subscriptions(conn, "sub_a", renewal_at=RENEWAL)
        installation_id = await control.read_installation(conn)
    return WorkerContext(
        settings=isolated_settings(),
        pool=pool,
        gateways={},
        mailer=Mailer(channel),
        installation_id=installation_id,
        seats=Seats(slots=1, gateways=1),
    )


def announcements(
    subscription_id: str = "sub_a", *, days: int = 7, renewal_at: datetime = RENEWAL
) -> list[NoticeDraft]:
    return upcoming(
        subscription_id=subscription_id,
        reminders=[Reminder(days)],
        segments=(),
        renewal_at=renewal_at,
        zone="Europe/Berlin",
        now=NOW - timedelta(days=60),
    )


async def schedule(pool: Pool, drafts: Sequence[NoticeDraft]) -> list[str]:
    async with pool.acquire() as conn:
        await notices.schedule(conn, drafts, now=NOW)
    return [str(draft.notice_id) for draft in drafts]


async def states(pool: Pool) -> list[tuple[str, str | None]]:
    return [tuple(row) for row in await pool.fetch(ROWS)]


async def told(pool: Pool) -> list[dict[str, Any]]:
    return [json.loads(row["body"]) for row in await pool.fetch(TOLD)]


async def set_now(pool: Pool, now: datetime) -> None:
    async with pool.acquire() as conn, conn.transaction():
        await control.lock_exclusive(conn)
        await control.set_clock(conn, now)


def with_server(context: WorkerContext, sink: SmtpSink) -> WorkerContext:
    """The same worker with a real mail server."""
    settings = isolated_settings(smtp_url=sink.url, mail_from="billing@school.example")
    return dataclasses.replace(context, settings=settings, mailer=open_mailer(settings))

"""Sending notices: each at most once, and none that stopped being true.

The life of a batch:
 1. One transaction locks the subscriptions, then the notices that are still scheduled and due, and asks
    again whether each is relevant. Those that are not are dropped with the reason, the others are
    `sending`. COMMIT.
 2. The mails are handed over, a few at once; no transaction is open.
 3. A second transaction says what became of each: `sent` (and the platform is told), `failed` for good,
    or `scheduled` again if the mail was surely not handed over.
A crash between 1 and 3 counts as sent: no mail at all is better than two. `finish_half_sent` says so once
the lease has run out. Batches are cut into chunks so that a crash can cost a few mails only.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never
from uuid import UUID

import structlog

from billing.facts import Subscription
from billing.lifecycle import InvoiceStatus, NoticeState
from billing.messages import Message, MessageType, Party
from billing.notices import NoticeKind, Situation, why_dropped
from worker import db, metrics
from worker.clock import machine_now
from worker.context import WorkerContext
from worker.db import Connection
from worker.notices.channel import Deferred, Refused, SendResult, Sent, Unclear
from worker.notices.letters import Letter, letter_of
from worker.store import control, facts, notices, outbox
from worker.store.notices import DueNotice

CHUNK = 50
"""Mails a crash can cost: about a tenth of a second of a quick server's work."""

START_SECONDS = 6
"""No mail is begun later in a batch: a slow one takes 18 s, and settling must begin by 25 s."""

SEND_AT_ONCE = 4
"""Letters in hand; more would only wait for one of the channel's connections."""

BACKOFF = tuple(timedelta(seconds=seconds) for seconds in (5, 20, 80, 320, 1280))
"""Machine time until a mail that was not taken is tried again: greylisting wants some minutes."""

HALF_SENT_LIMIT = 500
UNKNOWN_OUTCOME = "unknown outcome"
NO_SERVER = "no SMTP server is configured"
KINDS = [str(kind) for kind in NoticeKind]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Mail:
    """A notice that is `sending`."""

    due: DueNotice
    party: Party
    letter: Letter


@dataclass(frozen=True, slots=True)
class _Batch:
    """What step 1 made of a chunk."""

    mails: Sequence[_Mail]
    dropped: Sequence[tuple[DueNotice, str]]
    now: datetime


async def remind(context: WorkerContext, *, ids: Sequence[str]) -> None:
    """Send the notices of these ids that are scheduled and due; every other id is passed over."""
    until = machine_now() + START_SECONDS
    async with _transaction(context) as conn:
        await finish_half_sent(conn, now=await control.read_now(conn))
    wanted = sorted({UUID(id_) for id_ in ids})
    try:
        for chunk in (wanted[n : n + CHUNK] for n in range(0, len(wanted), CHUNK)):
            if machine_now() < until:
                await _remind_chunk(context, chunk, until=until)
            else:
                async with _transaction(context) as conn:
                    await notices.release(conn, chunk)
    finally:
        if context.mailer is not None:
            await context.mailer.rest()


async def finish_half_sent(conn: Connection, *, now: datetime) -> int:
    """Count as sent what a lost sender left behind (business time `now`); returns how many."""
    found = await notices.read_half_sent(conn, limit=HALF_SENT_LIMIT)
    if not found:
        return 0
    await facts.lock_subscriptions(conn, [row.subscription_id for row in found])
    about = {
        row.notice_id: (row.kind, Party(row.subscription_id, row.customer_id, row.seller_id))
        for row in found
    }
    finished = await notices.finish_half_sent(conn, list(about), reason=UNKNOWN_OUTCOME, now=now)
    told = [_message(*about[notice_id]) for notice_id in about if notice_id in finished]
    await outbox.tell(conn, told, now=now)
    log.warning("notices_half_sent", count=len(finished))
    return len(finished)


async def _remind_chunk(context: WorkerContext, chunk: Sequence[UUID], *, until: float) -> None:
    async with _transaction(context) as conn:
        batch = await _begin(context, conn, chunk)
    for due, reason in batch.dropped:
        metrics.NOTICES.labels(due.kind, NoticeState.DROPPED).inc()
        log.info("notice_dropped", notice_id=str(due.notice_id), kind=due.kind, reason=reason)
    if batch.mails:
        results = await _send_all(context, batch, until=until)
        await _settle(context, results)


async def _begin(context: WorkerContext, conn: Connection, chunk: Sequence[UUID]) -> _Batch:
    """Step 1: lock, ask again, and mark."""
    now = await control.read_now(conn)
    owners = await notices.read_subscriptions(conn, chunk)
    subscriptions = await facts.lock_subscriptions(conn, owners)
    due = await notices.read_due(conn, chunk, kinds=KINDS, now=now)
    mails: list[_Mail] = []
    dropped: list[tuple[DueNotice, str]] = []
    for notice in due:
        subscription = subscriptions[notice.subscription_id]
        reason = _why_dropped(context, notice, subscription, now)
        if reason is None:
            letter = letter_of(notice, subscription)
            mails.append(_Mail(notice, subscription.party, letter))
        else:
            dropped.append((notice, reason))
    await notices.mark_dropped(
        conn,
        [notice.notice_id for notice, _ in dropped],
        reasons=[reason for _, reason in dropped],
        now=now,
    )
    lease = timedelta(seconds=context.settings.lease_seconds)
    await notices.mark_sending(conn, [mail.due.notice_id for mail in mails], lease=lease)
    return _Batch(mails, dropped, now)


def _why_dropped(
    context: WorkerContext, notice: DueNotice, subscription: Subscription, now: datetime
) -> str | None:
    invoice_status = notice.invoice_status
    reason = why_dropped(
        NoticeKind(notice.kind),
        context=notice.context,
        send_at=notice.send_at,
        late_after=timedelta(hours=context.settings.reminders_late_hours),
        situation=Situation(
            status=subscription.status,
            next_renewal_at=subscription.next_renewal_at,
            cancel_at=subscription.cancel_at,
            invoice_status=None if invoice_status is None else InvoiceStatus(invoice_status),
            dunning_ends_at=notice.dunning_ends_at,
        ),
        now=now,
    )
    return reason or (NO_SERVER if context.mailer is None else None)


async def _send_all(
    context: WorkerContext, batch: _Batch, *, until: float
) -> list[tuple[_Mail, SendResult | None]]:
    """What became of each mail; None for those that were not begun in time.

    A mail that broke our own code is left out: it stays `sending`, and its neighbours go on.
    """
    mailer = context.mailer
    assert mailer is not None
    hands = asyncio.Semaphore(SEND_AT_ONCE)

    async def send(mail: _Mail) -> SendResult | None:
        async with hands:
            if machine_now() >= until:
                return None
            return await mailer.send(
                mail.letter, installation_id=context.installation_id, at=batch.now
            )

    results = await asyncio.gather(*map(send, batch.mails), return_exceptions=True)
    known: list[tuple[_Mail, SendResult | None]] = []
    for mail, result in zip(batch.mails, results, strict=True):
        if isinstance(result, BaseException):
            log.error("notice_broke", notice_id=str(mail.due.notice_id), exc_info=result)
        else:
            known.append((mail, result))
    return known


async def _settle(
    context: WorkerContext, results: Sequence[tuple[_Mail, SendResult | None]]
) -> None:
    """Step 3. Repeating it is safe: only what is still `sending` moves, and only that is told."""
    moves = [_move(mail, result) for mail, result in results]
    final = [move for move in moves if move.state is not NoticeState.SCHEDULED]
    again = [move for move in moves if move.state is NoticeState.SCHEDULED]

    async def transaction() -> set[UUID]:
        async with _transaction(context) as conn:
            now = await control.read_now(conn)
            owners = [move.mail.due.subscription_id for move in moves]
            await facts.lock_subscriptions(conn, owners)
            settled = await notices.settle(
                conn,
                [move.mail.due.notice_id for move in final],
                states=[move.state for move in final],
                reasons=[move.reason for move in final],
                now=now,
            )
            await notices.put_back(
                conn,
                [move.mail.due.notice_id for move in again],
                reasons=[move.reason or "" for move in again],
                waits=[move.wait for move in again],
                tries=[move.tries for move in again],
            )
            told = [
                _message(move.mail.due.kind, move.mail.party)
                for move in final
                if move.state is NoticeState.SENT and move.mail.due.notice_id in settled
            ]
            await outbox.tell(conn, told, now=now)
            return settled

    await db.with_retries(transaction, what="settle notices", within_seconds=5)
    for move in moves:
        move.note()


@dataclass(frozen=True, slots=True)
class _Move:
    """Where a `sending` notice goes."""

    mail: _Mail
    state: NoticeState
    reason: str | None = None
    wait: timedelta = timedelta(0)
    tries: int = 0

    def note(self) -> None:
        """Count it and leave one line."""
        due = self.mail.due
        result = "deferred" if self.state is NoticeState.SCHEDULED else self.state
        metrics.NOTICES.labels(due.kind, result).inc()
        log.info(
            "notice_settled",
            notice_id=str(due.notice_id),
            subscription_id=due.subscription_id,
            kind=due.kind,
            result=str(result),
            reason=self.reason,
        )


def _move(mail: _Mail, result: SendResult | None) -> _Move:
    tries = int(mail.due.context.get("tries", 0))
    match result:
        case None:
            return _Move(mail, NoticeState.SCHEDULED, "no time left in its batch", tries=tries)
        case Sent():
            return _Move(mail, NoticeState.SENT)
        case Unclear(reason):
            return _Move(mail, NoticeState.SENT, f"{UNKNOWN_OUTCOME}: {reason}")
        case Refused(reason):
            return _Move(mail, NoticeState.FAILED, reason)
        case Deferred(reason):
            wait = BACKOFF[min(tries, len(BACKOFF) - 1)]
            return _Move(mail, NoticeState.SCHEDULED, reason, wait, tries + 1)
        case _:
            assert_never(result)


def _message(kind: str, party: Party) -> Message:
    return Message(MessageType.NOTICE_SENT, party, {"kind": kind})


@asynccontextmanager
async def _transaction(context: WorkerContext) -> AsyncIterator[Connection]:
    async with context.pool.acquire() as conn, conn.transaction():
        yield conn

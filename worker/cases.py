"""Writing what rules changed: every row, move, message and notice of a batch, in one transaction."""

from collections.abc import Sequence
from datetime import datetime

from billing.facts import Case
from billing.messages import OutboxRow, numbered
from worker.db import Connection
from worker.store import changes, notices, outbox, plain, transitions


async def save(conn: Connection, cases: Sequence[Case], *, actor: str, now: datetime) -> None:
    """Write the cases; the caller holds the locks of their subscriptions and commits.

    Cases of one subscription share its object, so that its messages are numbered in order.
    """
    if not cases:
        return
    messages = _number(cases, now)
    await _save_wide(conn, cases, actor=actor, now=now)
    await outbox.append(conn, messages)
    await _save_rare(conn, cases, now)


async def save_plain(conn: Connection, cases: Sequence[Case], *, actor: str, now: datetime) -> bool:
    """Write plain payments (`Case.is_plain`) whose rows were not read; the caller holds the locks.

    Returns False if a row is not what it was: then the caller must roll back.
    """
    before = [case.subscription.sequence for case in cases]
    messages = _number(cases, now)
    rows = [
        (
            case.subscription.subscription_id,
            case.attempt.invoice_id,
            case.attempt.ordinal,
            case.attempt.gateway_ref or "",
            sequence,
            case.subscription.sequence,
        )
        for case, sequence in zip(cases, before, strict=True)
        if case.attempt is not None
    ]
    if not await plain.settle_plain(conn, rows, actor=actor, now=now):
        return False
    await outbox.append(conn, messages)
    await _save_rare(conn, cases, now)
    return True


async def _save_wide(conn: Connection, cases: Sequence[Case], *, actor: str, now: datetime) -> None:
    subscriptions = {case.subscription.subscription_id: case.subscription for case in cases}
    invoices = {case.bill.invoice_id: case.bill for case in cases if case.bill is not None}
    await changes.write_subscriptions(conn, list(subscriptions.values()))
    await changes.write_invoices(conn, list(invoices.values()))
    await changes.write_attempts(
        conn, [(case.attempt, case.wait_seconds) for case in cases if case.attempt is not None]
    )
    await transitions.record(conn, [m for case in cases for m in case.moves], actor=actor, now=now)


async def _save_rare(conn: Connection, cases: Sequence[Case], now: datetime) -> None:
    declined = sorted(
        (case.attempt.payment_method_id, case.hard_decline_code, case.attempt.claimed_at)
        for case in cases
        if case.attempt is not None and case.hard_decline_code is not None
    )
    await changes.mark_hard_declined(conn, declined, now=now)
    for case in cases:
        if case.drop_notices is not None:
            ids = [case.subscription.subscription_id]
            await notices.drop(conn, ids, kinds=None, reason=case.drop_notices, now=now)
    drafts = [draft for case in cases for draft in case.notices]
    if drafts:
        await notices.schedule(conn, drafts, now=now)


def _number(cases: Sequence[Case], now: datetime) -> list[OutboxRow]:
    rows = []
    for case in cases:
        for message in case.messages:
            case.subscription.sequence += 1
            rows.append(numbered(message, sequence=case.subscription.sequence, at=now))
    return rows

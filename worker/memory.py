"""Settling from memory: what this process wrote a moment ago need not be read again.

A first attempt that is paid goes through the same rules as every other outcome, but on the values that
its worker still holds. They are written under the lock and only if nothing has changed meanwhile
(compare and set, on the sequence of messages and the states); else the whole group is read and
settled as usual.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from billing import settlement
from billing.facts import Attempt, Case, Invoice, Subscription
from billing.lifecycle import AttemptState
from billing.outcomes import Approved
from worker import cases
from worker.db import Connection
from worker.store.changes import NewAttempt


class StaleMemoryError(Exception):
    """Somebody changed one of the rows since they were written: nothing of this may be committed."""


class Memory(NamedTuple):
    """A renewal as its transaction wrote it. Used once: settling changes the values."""

    subscription: Subscription
    invoice: Invoice
    attempt: Attempt


def remember(
    subscription: Subscription, invoice: Invoice, row: NewAttempt, *, now: datetime
) -> Memory:
    """What is known of a charge that was committed at `now` (business time)."""
    attempt = Attempt(
        invoice_id=row.invoice_id,
        ordinal=row.ordinal,
        subscription_id=row.subscription_id,
        source=row.source,
        state=AttemptState.SENT,
        gateway=row.gateway,
        payment_method_id=row.payment_method_id,
        amount_minor=row.amount_minor,
        currency=row.currency,
        idempotency_key=row.idempotency_key,
        request=row.request,
        claimed_at=now,
        sent_at=now,
        check_due_at=now,
        checks=0,
        answered=False,
        replayed=False,
        not_found_at=None,
        gateway_ref=None,
        decline_code=None,
        decline_class=None,
        network_code=None,
        advice_code=None,
        action=None,
        raw_outcome=None,
        needs_human=None,
        resolved_at=None,
    )
    return Memory(subscription, invoice, attempt)


async def settle(
    conn: Connection, paid: Sequence[tuple[Memory, Approved]], *, now: datetime
) -> list[Case]:
    """Settle approved first attempts whose subscriptions are locked.

    Raises `StaleMemoryError` unless every one of them is a plain payment still.
    """
    settled = []
    for memory, outcome in paid:
        case = Case(memory.subscription, memory.invoice, memory.attempt, now)
        settlement.settle(case, memory.attempt, outcome)
        if not case.is_plain:
            raise StaleMemoryError
        settled.append(case)
    if not await cases.save_plain(conn, settled, actor="settle", now=now):
        raise StaleMemoryError
    return settled

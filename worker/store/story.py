"""Everything that ever happened to one subscription, for `renewd explain`; it reads and locks nothing."""

import json
from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from worker.db import Connection

READ_CREATED = """
SELECT s.created_at, s.customer_id, s.seller_id, s.plan_id, p.name, s.quantity,
       s.payment_method_id
  FROM subscription s JOIN plan p USING (plan_id) WHERE s.subscription_id = $1
"""
READ_LINES = """
SELECT invoice_id, description, quantity, amount_minor FROM invoice_line
 WHERE invoice_id = ANY($1::uuid[]) ORDER BY invoice_id, position
"""
READ_INVOICES = "SELECT invoice_id FROM invoice WHERE subscription_id = $1 ORDER BY period_index"
READ_TRANSITIONS = """
SELECT at, machine, subject, from_state, to_state, reason, actor
  FROM transition WHERE subscription_id = $1 ORDER BY position
"""
READ_MESSAGES = """
SELECT sequence, type, body,
       NOT EXISTS (SELECT FROM outbox_pending p WHERE (p.slot, p.position) = (o.slot, o.position))
           AS is_published
  FROM outbox_event o WHERE subscription_id = $1 ORDER BY sequence
"""
READ_NOTICES = """
SELECT kind, target_date, send_at, state, reason, created_at, settled_at
  FROM notice WHERE subscription_id = $1 ORDER BY created_at, send_at
"""
READ_SKIPS = """
SELECT at, period_index, period_start, period_end, reason
  FROM period_skip WHERE subscription_id = $1 ORDER BY period_index
"""
READ_VERBS = """
SELECT at, who, verb, subject, why FROM operator_log
 WHERE subject = ANY($1::text[]) ORDER BY position
"""
READ_PAUSES = """
SELECT p.scope, p.scope_id, p.reason, p.paused_by, p.paused_at
  FROM charging_pause p JOIN subscription s ON s.subscription_id = $1
 WHERE p.scope = 'global' OR (p.scope, p.scope_id) IN
       (('gateway', s.gateway), ('seller', s.seller_id), ('plan', s.plan_id))
 ORDER BY p.scope, p.scope_id
"""
SEARCH_BRIEFLY = "SET LOCAL statement_timeout = '5s'"
FIND_EVENTS = """
SELECT type, event_id, received_at, result, '' AS error
  FROM inbox_event
 WHERE EXISTS (SELECT FROM unnest($1::bytea[]) AS named (id) WHERE position(named.id IN body) > 0)
 ORDER BY received_at, position
 LIMIT $2
"""
FIND_REJECTED = """
SELECT type, event_id, coalesce(settled_at, received_at), state, error
  FROM rejected_event
 WHERE EXISTS (SELECT FROM unnest($1::bytea[]) AS named (id) WHERE position(named.id IN body) > 0)
 ORDER BY rejected_id
 LIMIT $2
"""


class Created(NamedTuple):
    """A subscription's beginning."""

    created_at: datetime
    customer_id: str
    seller_id: str
    plan_id: str
    plan_name: str
    quantity: int
    payment_method_id: str


class Line(NamedTuple):
    """A line of an invoice."""

    invoice_id: UUID
    description: str
    quantity: int
    amount_minor: int


class Transition(NamedTuple):
    """A move of the subscription, of one of its invoices or attempts (business time)."""

    at: datetime
    machine: str
    subject: str
    from_state: str
    to_state: str
    reason: str
    actor: str


class SentMessage(NamedTuple):
    """What the platform was told; `body` is the whole envelope, `is_published`: the broker has it."""

    sequence: int
    type: str
    body: str
    is_published: bool


class NoticeRow(NamedTuple):
    """A mail, sent or not."""

    kind: str
    target_date: date
    send_at: datetime
    state: str
    reason: str | None
    created_at: datetime
    settled_at: datetime | None


class Skip(NamedTuple):
    """A period that was never invoiced."""

    at: datetime
    period_index: int
    period_start: datetime
    period_end: datetime
    reason: str


class Verb(NamedTuple):
    """What an operator did (machine time)."""

    at: datetime
    who: str
    verb: str
    subject: str
    why: str


class PlatformMessage(NamedTuple):
    """A message of the platform, and what became of it at `at`; `error` says why it had no effect."""

    type: str
    event_id: str
    at: datetime
    result: str
    error: str


class Found(NamedTuple):
    """Messages as they were taken, and what became of those without effect."""

    taken: Sequence[PlatformMessage]
    rejected: Sequence[PlatformMessage]


class Pause(NamedTuple):
    """A kill switch that holds the subscription's charges back."""

    scope: str
    scope_id: str
    reason: str
    paused_by: str
    paused_at: datetime


async def read_created(conn: Connection, subscription_id: str) -> Created | None:
    """When and for what it was made; None if there is no such subscription."""
    row = await conn.fetchrow(READ_CREATED, subscription_id)
    return None if row is None else Created(*row)


async def read_invoice_ids(conn: Connection, subscription_id: str) -> list[UUID]:
    """Its invoices, oldest period first."""
    return [row["invoice_id"] for row in await conn.fetch(READ_INVOICES, subscription_id)]


async def read_lines(conn: Connection, invoice_ids: Sequence[UUID]) -> list[Line]:
    """The lines of these invoices, in order."""
    return [Line(*row) for row in await conn.fetch(READ_LINES, invoice_ids)]


async def read_transitions(conn: Connection, subscription_id: str) -> list[Transition]:
    """Every move, in the order in which they were made."""
    return [Transition(*row) for row in await conn.fetch(READ_TRANSITIONS, subscription_id)]


async def read_messages(conn: Connection, subscription_id: str) -> list[SentMessage]:
    """What the platform was told about it, by sequence."""
    return [SentMessage(*row) for row in await conn.fetch(READ_MESSAGES, subscription_id)]


async def read_notices(conn: Connection, subscription_id: str) -> list[NoticeRow]:
    """Its mails, in the order of their causes."""
    return [NoticeRow(*row) for row in await conn.fetch(READ_NOTICES, subscription_id)]


async def read_skips(conn: Connection, subscription_id: str) -> list[Skip]:
    """Its periods without an invoice."""
    return [Skip(*row) for row in await conn.fetch(READ_SKIPS, subscription_id)]


async def read_verbs(conn: Connection, subjects: Sequence[str]) -> list[Verb]:
    """What operators did to these subjects (`subscription:…`, `invoice:…`, `attempt:…`)."""
    return [Verb(*row) for row in await conn.fetch(READ_VERBS, subjects)]


async def read_pauses(conn: Connection, subscription_id: str) -> list[Pause]:
    """The kill switches that hold it back now."""
    return [Pause(*row) for row in await conn.fetch(READ_PAUSES, subscription_id)]


async def find_messages(conn: Connection, ids: Sequence[str], *, limit: int) -> Found | None:
    """The platform's messages that quote one of these ids; None if looking took more than 5 s.

    They are found by reading all bodies: no index is kept for a question that people ask rarely.
    """
    quoted = [
        json.dumps(id_, ensure_ascii=plain).encode() for id_ in ids for plain in (True, False)
    ]
    try:
        async with conn.transaction(readonly=True):
            await conn.execute(SEARCH_BRIEFLY)
            taken = await conn.fetch(FIND_EVENTS, quoted, limit)
            rejected = await conn.fetch(FIND_REJECTED, quoted, limit)
    except asyncpg.QueryCanceledError:
        return None
    return Found(
        [PlatformMessage(*row) for row in taken], [PlatformMessage(*row) for row in rejected]
    )

"""Messages without effect: rejected ones, and those that wait for what they name."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from billing.lifecycle import RejectedState
from worker.db import Connection
from worker.store.changes import columns

INSERT = """
INSERT INTO rejected_event (source, event_id, type, state, field, error, waits_for, expires_at,
                            headers, body, received_at, settled_at)
SELECT t.source, t.event_id, t.type, t.state, t.field, t.error, t.waits_for, t.expires_at, t.headers,
       t.body, $11::timestamptz, CASE WHEN t.state = 'waiting' THEN NULL ELSE $11::timestamptz END
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
              $8::timestamptz[], $9::jsonb[], $10::bytea[])
    AS t (source, event_id, type, state, field, error, waits_for, expires_at, headers, body)
RETURNING rejected_id, event_id, type, state, field, error
"""
_STORED = """
SELECT rejected_id, source, event_id, type, state, field, error, waits_for, expires_at, headers, body,
       received_at
  FROM rejected_event
"""
READ_WAITING = (
    _STORED
    + "WHERE state = 'waiting' AND waits_for = ANY($1::text[]) ORDER BY rejected_id FOR UPDATE"
)
READ_BY_ID = _STORED + "WHERE rejected_id = ANY($1::bigint[]) ORDER BY rejected_id FOR UPDATE"
LIST = _STORED + "WHERE state = ANY($1::text[]) ORDER BY rejected_id DESC LIMIT $2"
SETTLE = """
UPDATE rejected_event r
   SET state = t.state, field = t.field, error = t.error, waits_for = t.waits_for,
       expires_at = t.expires_at, claimed_until = NULL, claims = 0,
       settled_at = CASE WHEN t.state = 'waiting' THEN NULL ELSE $7::timestamptz END
  FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
    AS t (rejected_id, state, field, error, waits_for, expires_at)
 WHERE r.rejected_id = t.rejected_id
"""


class NewReject(NamedTuple):
    """A message to be kept, in the order of INSERT; `waits_for` and `expires_at` if it waits."""

    source: str
    event_id: str
    type: str
    state: RejectedState
    field: str
    error: str
    waits_for: str | None
    expires_at: datetime | None
    headers: Mapping[str, Any]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reject:
    """A message that is kept; `waits_for` is `kind:id` of the missing reference."""

    rejected_id: int
    source: str
    event_id: str
    type: str
    state: RejectedState
    field: str
    error: str
    waits_for: str | None
    expires_at: datetime | None
    headers: Mapping[str, Any]
    body: bytes
    received_at: datetime


class Verdict(NamedTuple):
    """What became of a kept message, in the order of SETTLE."""

    rejected_id: int
    state: RejectedState
    field: str
    error: str
    waits_for: str | None
    expires_at: datetime | None


class Told(NamedTuple):
    """What the platform is told about a message that has no effect."""

    rejected_id: int
    event_id: str
    type: str
    field: str
    error: str


async def insert(conn: Connection, rows: Sequence[NewReject], *, now: datetime) -> list[Told]:
    """Keep messages without effect and return those whose case is closed, to be told."""
    if not rows:
        return []
    kept = await conn.fetch(INSERT, *columns(rows, 10), now)
    return [
        Told(row["rejected_id"], row["event_id"], row["type"], row["field"], row["error"])
        for row in kept
        if row["state"] != RejectedState.WAITING
    ]


async def read_waiting(conn: Connection, references: Collection[str]) -> list[Reject]:
    """Lock and read what waits for one of these references (`kind:id`)."""
    if not references:
        return []
    return [_reject(row.items()) for row in await conn.fetch(READ_WAITING, list(references))]


async def read(conn: Connection, ids: Collection[int]) -> list[Reject]:
    """Lock and read kept messages; unknown ids are left out."""
    return [_reject(row.items()) for row in await conn.fetch(READ_BY_ID, list(ids))]


async def newest(
    conn: Connection, *, states: Collection[RejectedState], limit: int
) -> list[Reject]:
    """The newest kept messages in one of these states, for people."""
    return [_reject(row.items()) for row in await conn.fetch(LIST, list(states), limit)]


async def settle(conn: Connection, verdicts: Sequence[Verdict], *, now: datetime) -> None:
    """Write what became of kept messages."""
    if verdicts:
        await conn.execute(SETTLE, *columns(verdicts, 6), now)


def _reject(row: Iterable[tuple[str, Any]]) -> Reject:
    fields = dict(row)
    return Reject(**fields | {"state": RejectedState(fields["state"])})

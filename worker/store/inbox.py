"""The inbox: which messages were taken, what became of each, and what is newest per topic.

One batch at a time is applied to a database (`lock`). That makes "is it known yet?" and "is anything
waiting for it?" one question: between two intakes, a reference could else arrive in the one while the
message that needs it starts to wait in the other, and nobody would ever bring them together.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from worker.db import Connection
from worker.store.changes import columns

INTAKE_LOCK = 0x72656E70
"""The key of the advisory lock that a batch holds until it commits."""

LOCK = "SELECT pg_advisory_xact_lock($1)"
READ_CLOCK = """
SELECT coalesce(clock_now, clock_timestamp()) AS now, clock_now IS NULL AS is_real FROM control
"""
TAKE_KEYS = """
INSERT INTO inbox_key (source, event_id, received_at)
SELECT t.*, $3 FROM unnest($1::text[], $2::text[]) AS t
ON CONFLICT DO NOTHING
RETURNING source, event_id
"""
INSERT_EVENTS = """
INSERT INTO inbox_event (source, event_id, type, occurred_at, result, body, received_at)
SELECT t.*, $7
  FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::bytea[]) AS t
"""
READ_VERSIONS = """
SELECT v.subject_kind, v.subject_id, v.topic, v.occurred_at, v.rank, v.event_id
  FROM unnest($1::text[], $2::text[], $3::text[]) AS t (subject_kind, subject_id, topic)
  JOIN applied_version v USING (subject_kind, subject_id, topic)
"""
WRITE_VERSIONS = """
INSERT INTO applied_version (subject_kind, subject_id, topic, occurred_at, rank, event_id)
SELECT *
  FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::smallint[], $6::text[])
ON CONFLICT (subject_kind, subject_id, topic) DO UPDATE
   SET occurred_at = excluded.occurred_at, rank = excluded.rank, event_id = excluded.event_id
"""


class Clock(NamedTuple):
    """Business time, and whether it is the real one."""

    now: datetime
    is_real: bool


class Key(NamedTuple):
    """What makes a message the same message."""

    source: str
    event_id: str


class InboxRow(NamedTuple):
    """One row of `inbox_event` in the order of INSERT_EVENTS."""

    source: str
    event_id: str
    type: str
    occurred_at: datetime
    result: str
    body: bytes


class Topic(NamedTuple):
    """What messages of one group set, of one subject: order counts only inside of it."""

    subject_kind: str
    subject_id: str
    topic: str


class Version(NamedTuple):
    """Compares as messages supersede each other: later time, then cancel over undo, then event id."""

    occurred_at: datetime
    rank: int
    event_id: str


async def lock(conn: Connection) -> None:
    """Wait until no other batch is being applied; ends with the transaction."""
    await conn.execute(LOCK, INTAKE_LOCK)


async def read_clock(conn: Connection) -> Clock:
    """Business time: the test clock if it was ever moved, else the database's clock."""
    row = await conn.fetchrow(READ_CLOCK)
    if row is None:
        raise LookupError("table control is empty: run renewd migrate")
    return Clock(row["now"], row["is_real"])


async def take_keys(conn: Connection, keys: Collection[Key], *, now: datetime) -> set[Key]:
    """Take these messages and return those that nobody had taken before."""
    if not keys:
        return set()
    rows = await conn.fetch(TAKE_KEYS, *columns(list(keys), 2), now)
    return {Key(*row) for row in rows}


async def insert_events(conn: Connection, rows: Sequence[InboxRow], *, now: datetime) -> None:
    """Keep messages as they came, with what became of each at first."""
    if rows:
        await conn.execute(INSERT_EVENTS, *columns(rows, 6), now)


async def read_versions(conn: Connection, topics: Collection[Topic]) -> dict[Topic, Version]:
    """The newest message applied per topic; topics without any are left out."""
    if not topics:
        return {}
    rows = await conn.fetch(READ_VERSIONS, *columns(list(topics), 3))
    return {Topic(*row[:3]): Version(*row[3:]) for row in rows}


async def write_versions(conn: Connection, versions: Sequence[tuple[Topic, Version]]) -> None:
    """Remember the newest message per topic."""
    if versions:
        await conn.execute(WRITE_VERSIONS, *columns([(*t, *v) for t, v in versions], 6))

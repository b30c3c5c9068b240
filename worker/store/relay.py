"""What the relay asks of the outbox: slots by session advisory locks, rows to publish, and marks.

All of it runs on one direct connection, because a session's locks end with the session. Rows of a
slot are always looked for in `outbox_pending`, never after a high-water mark: two rows of
different subscriptions may commit in another order than that of their positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from worker.db import Connection

SLOT_LOCK = 0x726C7931
"""First key of the advisory lock of a slot; the second is the slot."""

PRESENCE_LOCK = 0x726C7932
"""First key of the lock each relay holds for as long as it lives; the second is its backend's pid."""

JOIN = "SELECT pg_advisory_lock($1, pg_backend_pid())"
READ_LOCKS = """
SELECT (classid::bigint = $1) AS is_slot, objid::bigint AS key, pid = pg_backend_pid() AS mine
  FROM pg_locks
 WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND classid::bigint IN ($1, $2)
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
TAKE_SLOTS = "SELECT slot FROM unnest($2::integer[]) AS slot WHERE pg_try_advisory_lock($1, slot)"
GIVE_SLOTS = "SELECT slot FROM unnest($2::integer[]) AS slot WHERE pg_advisory_unlock($1, slot)"
READ_UNPUBLISHED = """
SELECT o.position, o.slot, o.type, o.body,
       coalesce(o.subscription_id, o.body::json ->> 'subject') AS subject,
       -- As billing/messages.py makes it; parsing the body for it would cost more than publishing.
       CASE WHEN o.subscription_id IS NULL THEN o.body::json ->> 'id'
            ELSE o.subscription_id || ':' || o.sequence END AS event_id
  FROM outbox_event o
 -- An array, so that no plan ever reads the whole table to join a few rows of it.
 WHERE o.position = ANY (ARRAY (
       SELECT p.position
         FROM unnest($1::smallint[]) AS owned (slot)
        CROSS JOIN LATERAL (
              SELECT position FROM outbox_pending
               WHERE slot = owned.slot ORDER BY position LIMIT $2
              ) AS p
        LIMIT $2))
 ORDER BY o.slot, o.position
"""
MARK_PUBLISHED = """
DELETE FROM outbox_pending p USING unnest($1::smallint[], $2::bigint[]) AS t (slot, position)
 WHERE p.slot = t.slot AND p.position = t.position
"""
READ_AGE = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - o.created_at)), 0)::float8
  FROM unnest($1::smallint[]) AS owned (slot)
 CROSS JOIN LATERAL (
       SELECT created_at FROM outbox_pending JOIN outbox_event USING (slot, position)
        WHERE slot = owned.slot ORDER BY position LIMIT 1
       ) AS o
"""


@dataclass(frozen=True, slots=True)
class Locks:
    """Who holds what now: relays alive (this one included), slots of ours, slots of anybody."""

    relays: int
    mine: frozenset[int]
    taken: frozenset[int]


@dataclass(frozen=True, slots=True)
class Unpublished:
    """A message to publish. Messages of one `subject` go out one after the other, by position."""

    position: int
    slot: int
    type: str
    body: str
    subject: str
    event_id: str


async def join(conn: Connection) -> None:
    """Show this relay to the others until the session ends."""
    await conn.execute(JOIN, PRESENCE_LOCK)


async def read_locks(conn: Connection) -> Locks:
    """Count the relays and see which slots are held, in this database."""
    rows = await conn.fetch(READ_LOCKS, SLOT_LOCK, PRESENCE_LOCK)
    return Locks(
        relays=sum(not row["is_slot"] for row in rows),
        mine=frozenset(row["key"] for row in rows if row["is_slot"] and row["mine"]),
        taken=frozenset(row["key"] for row in rows if row["is_slot"]),
    )


async def take_slots(conn: Connection, slots: Sequence[int]) -> set[int]:
    """Take what is free of `slots`, without waiting; a slot already held would count twice."""
    return {row["slot"] for row in await conn.fetch(TAKE_SLOTS, SLOT_LOCK, slots)}


async def give_slots(conn: Connection, slots: Sequence[int]) -> None:
    """Give slots back to the other relays."""
    await conn.execute(GIVE_SLOTS, SLOT_LOCK, slots)


async def read_unpublished(
    conn: Connection, slots: Sequence[int], *, limit: int
) -> list[Unpublished]:
    """At most `limit` rows, of each slot the oldest; the slots first given are served first."""
    rows = await conn.fetch(READ_UNPUBLISHED, slots, limit)
    return [Unpublished(**row) for row in rows]


async def mark_published(conn: Connection, rows: Sequence[Unpublished]) -> None:
    """Strike off rows whose confirm has come; striking one off twice changes nothing."""
    await conn.execute(MARK_PUBLISHED, [row.slot for row in rows], [row.position for row in rows])


async def read_age_seconds(conn: Connection, slots: Sequence[int]) -> float:
    """Age of the oldest message of these slots that is not published, 0 if there is none."""
    age: float = await conn.fetchval(READ_AGE, slots)
    return age

"""The CONTROL lock, the kill switches and the test clock.

Every transaction that commits an attempt takes the lock shared; whoever changes a switch or the clock
takes it exclusively. Advisory locks queue fairly: 0.04-0.09 s under load, where row share locks
starved the writer for over 8 s (docs/design.md).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from worker.db import Connection

CONTROL_LOCK = 0x72656E65
"""The key of the advisory lock; any other user of the database must leave it alone."""

LOCK_SHARED = "SELECT pg_advisory_xact_lock_shared($1)"
LOCK_EXCLUSIVE = "SELECT pg_advisory_xact_lock($1)"
READ = """
SELECT installation_id, coalesce(clock_now, clock_timestamp()) AS now, clock_now IS NOT NULL AS is_virtual
  FROM control
"""
READ_NOW = "SELECT coalesce(clock_now, clock_timestamp()) FROM control"
READ_INSTALLATION = "SELECT installation_id FROM control"
READ_PAUSES = "SELECT scope, scope_id, reason, paused_by, paused_at FROM charging_pause"
PAUSE = """
INSERT INTO charging_pause (scope, scope_id, reason, paused_by, paused_at)
VALUES ($1, $2, $3, $4, clock_timestamp())
ON CONFLICT (scope, scope_id) DO NOTHING
"""
RESUME = "DELETE FROM charging_pause WHERE scope = $1 AND scope_id = $2"
SET_CLOCK = "UPDATE control SET clock_now = $1"
LOG_VERB = """
INSERT INTO operator_log (at, who, verb, subject, why, detail)
VALUES (clock_timestamp(), $1, $2, $3, $4, $5)
"""


@dataclass(frozen=True, slots=True)
class Pause:
    """One kill switch that is on; `scope` is global, gateway, seller or plan."""

    scope: str
    scope_id: str
    reason: str
    paused_by: str
    paused_at: datetime


@dataclass(frozen=True, slots=True)
class Control:
    """What a transaction that commits attempts must know; valid until it ends."""

    installation_id: UUID
    now: datetime
    is_virtual: bool
    paused: Collection[tuple[str, str]]

    def stops(self, *, gateway: str, seller_id: str, plan_id: str) -> str | None:
        """The scope of a kill switch that forbids this charge, if any."""
        scopes = (("global", ""), ("gateway", gateway), ("seller", seller_id), ("plan", plan_id))
        return next((scope for scope, key in scopes if (scope, key) in self.paused), None)


async def enter(conn: Connection) -> Control:
    """Take the CONTROL lock shared and read what it guards, in statements of their own.

    The read must come after the lock is held: a snapshot taken while waiting for a kill switch
    would not see it.
    """
    await conn.execute(LOCK_SHARED, CONTROL_LOCK)
    return await read(conn)


async def restamp(conn: Connection, state: Control) -> Control:
    """The same, at the instant that row locks were got.

    What is stamped with it is later than everything that was committed to those rows before: a card
    that changed while we waited for the lock was changed before the attempt that uses it.
    """
    return replace(state, now=await read_now(conn))


async def read(conn: Connection) -> Control:
    """The same without the lock, for those who commit no attempt."""
    row = await conn.fetchrow(READ)
    pauses = await conn.fetch(READ_PAUSES)
    if row is None:
        raise LookupError("table control is empty: run renewd migrate")
    return Control(
        installation_id=row["installation_id"],
        now=row["now"],
        is_virtual=row["is_virtual"],
        paused={(pause["scope"], pause["scope_id"]) for pause in pauses},
    )


async def read_now(conn: Connection) -> datetime:
    """Business time: the test clock if it was ever moved, else the database's clock."""
    now: datetime = await conn.fetchval(READ_NOW)
    return now


async def read_installation(conn: Connection) -> UUID:
    """The installation id, part of every idempotency key, written once by migrate."""
    installation: UUID = await conn.fetchval(READ_INSTALLATION)
    return installation


async def read_pauses(conn: Connection) -> Sequence[Pause]:
    """All kill switches that are on."""
    return [Pause(**row) for row in await conn.fetch(READ_PAUSES)]


async def pause(conn: Connection, *, scope: str, scope_id: str, reason: str, who: str) -> None:
    """Close charging in a scope; call inside a transaction. Once it commits, nothing passes."""
    await conn.execute(LOCK_EXCLUSIVE, CONTROL_LOCK)
    await conn.execute(PAUSE, scope, scope_id, reason, who)
    await log_verb(conn, who=who, verb="pause-charging", subject=f"{scope}:{scope_id}", why=reason)


async def resume(conn: Connection, *, scope: str, scope_id: str, reason: str, who: str) -> bool:
    """Open charging in a scope again; False if it was not closed."""
    await conn.execute(LOCK_EXCLUSIVE, CONTROL_LOCK)
    done: str = await conn.execute(RESUME, scope, scope_id)
    await log_verb(conn, who=who, verb="resume-charging", subject=f"{scope}:{scope_id}", why=reason)
    return done != "DELETE 0"


async def lock_exclusive(conn: Connection) -> None:
    """Keep every transaction that commits attempts out until this transaction ends."""
    await conn.execute(LOCK_EXCLUSIVE, CONTROL_LOCK)


async def set_clock(conn: Connection, now: datetime) -> None:
    """Move the test clock; call under `lock_exclusive`, so that no attempt of the old time follows."""
    await conn.execute(SET_CLOCK, now)


async def log_verb(conn: Connection, *, who: str, verb: str, subject: str, why: str) -> None:
    """Leave the trace of an operator verb."""
    await conn.execute(LOG_VERB, who, verb, subject, why, {})

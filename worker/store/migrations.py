"""Bookkeeping of `renewd migrate`: one row per applied migration, under an advisory lock."""

from datetime import datetime
from typing import NamedTuple

from worker.db import Connection

MIGRATION_LOCK = 0x72656E6D
"""The key of the advisory lock that each migration holds until it commits."""

PATIENT = "SET LOCAL lock_timeout = '10min'; SET LOCAL statement_timeout = 0"
"""For the advisory lock: the one who holds it may be building an index."""

POLITE = "SET LOCAL lock_timeout = '2s'"
"""For the migration itself. A waiting ALTER TABLE makes every worker wait behind it."""

LOCK = "SELECT pg_advisory_xact_lock($1)"
EXISTS = "SELECT to_regclass('schema_migration') IS NOT NULL"
READ = "SELECT version, name, checksum, applied_at FROM schema_migration ORDER BY version"
READ_MACHINE_TIME = "SELECT clock_timestamp()"
RECORD = "INSERT INTO schema_migration (version, name, checksum) VALUES ($1, $2, $3)"


class Applied(NamedTuple):
    """A migration that this database has (machine time)."""

    version: int
    name: str
    checksum: str
    applied_at: datetime


async def lock(conn: Connection, *, within_seconds: float) -> None:
    """Wait for whoever migrates now, then keep others out until this transaction ends."""
    await conn.execute(PATIENT)
    await conn.execute(LOCK, MIGRATION_LOCK, timeout=within_seconds)


async def read_applied(conn: Connection) -> list[Applied]:
    """What this database has, by version; nothing if renewd was never here."""
    if not await conn.fetchval(EXISTS):
        return []
    return [Applied(*row) for row in await conn.fetch(READ)]


async def apply(
    conn: Connection, script: str, *, version: int, name: str, checksum: str, within_seconds: float
) -> None:
    """Run a migration and record it; the caller holds `lock` and commits.

    Raises `asyncpg.LockNotAvailableError` if somebody keeps a table busy for too long.
    """
    await conn.execute(POLITE)
    await conn.execute(script, timeout=within_seconds)
    await conn.execute(RECORD, version, name, checksum)


async def read_machine_time(conn: Connection) -> datetime:
    """The database's own clock, which needs no table of ours."""
    now: datetime = await conn.fetchval(READ_MACHINE_TIME)
    return now

"""`renewd migrate`: brings a database to the version of this code, safely while others use it.

A migration is a file `NNNN_name.sql` of deploy/migrations, numbered from 1 without a gap, and one
transaction: all of it or nothing. It never changes once it is released; its checksum is kept with it.
Any number of processes may migrate at once: an advisory lock puts them in a row, and whoever comes
second finds nothing left to do. A migration waits only 2 s for a lock on a table, then steps back and
tries again, so that it never queues the workers behind it.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import asyncpg
import structlog

from worker.db import Connection
from worker.errors import RenewdError
from worker.store import migrations as store
from worker.store.migrations import Applied

DIRECTORY = Path(__file__).resolve().parents[1] / "deploy" / "migrations"
"""Beside `worker/` in a checkout and in an installed wheel alike."""

FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
LOCK_TRIES = 30
"""With 2 s of waiting and a growing pause: about two minutes of politeness."""

PAUSE_SECONDS = 2.0
MIGRATION_SECONDS = 3600.0
"""A migration that takes longer belongs into pieces."""

log = structlog.get_logger()


class MigrationError(RenewdError):
    """The database and this code do not fit together; the line says what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file; `checksum` is the SHA-256 of its bytes."""

    version: int
    name: str
    checksum: str
    script: str


def load(directory: Path = DIRECTORY) -> list[Migration]:
    """The migrations of this code by version. Raises `MigrationError` unless they count up from 1."""
    found = []
    for path in sorted(directory.glob("*.sql")):
        match = FILE_NAME.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"migration {path.name}: should be called NNNN_name.sql")
        text = path.read_bytes()
        found.append(
            Migration(int(match[1]), match[2], sha256(text).hexdigest(), text.decode("utf-8"))
        )
    versions = [migration.version for migration in found]
    if not found or versions != list(range(1, len(found) + 1)):
        raise MigrationError(f"migrations in {directory}: should be numbered 1, 2, 3, … each once")
    return found


def pending(known: Sequence[Migration], applied: Sequence[Applied]) -> Sequence[Migration]:
    """What a database lacks. Raises `MigrationError` if it has what this code does not know.

    That is a migration that was changed after it ran, or the work of a newer renewd.
    """
    if len(applied) > len(known):
        newest = applied[-1]
        raise MigrationError(
            f"the database has version {newest.version} ({newest.name}), this renewd knows "
            f"{known[-1].version}: should be a newer renewd"
        )
    for ours, theirs in zip(known, applied, strict=False):
        if (ours.version, ours.checksum) != (theirs.version, theirs.checksum):
            raise MigrationError(
                f"migration {theirs.version} ({theirs.name}) is not the one that ran on this "
                f"database: its checksum should be {theirs.checksum[:12]}, "
                f"but is {ours.checksum[:12]}"
            )
    return known[len(applied) :]


async def migrate(conn: Connection, known: Sequence[Migration]) -> list[Migration]:
    """Apply what the database lacks, each in a transaction of its own; returns what was applied.

    Raises `MigrationError` as `pending` does, and when a table stays busy.
    """
    done: list[Migration] = []
    tries = 0
    while True:
        try:
            applied = await _apply_next(conn, known)
        except asyncpg.LockNotAvailableError as error:
            tries += 1
            if tries == LOCK_TRIES:
                raise MigrationError(f"a table stays busy: run it again later ({error})") from None
            log.warning("migration_waits", tries=tries, error=str(error))
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        if applied is None:
            return done
        log.info("migration_applied", version=applied.version, name=applied.name)
        done.append(applied)


async def _apply_next(conn: Connection, known: Sequence[Migration]) -> Migration | None:
    """The first that is missing, in one transaction with its record."""
    async with conn.transaction():
        await store.lock(conn, within_seconds=MIGRATION_SECONDS)
        missing = pending(known, await store.read_applied(conn))
        if not missing:
            return None
        first = missing[0]
        await store.apply(
            conn,
            first.script,
            version=first.version,
            name=first.name,
            checksum=first.checksum,
            within_seconds=MIGRATION_SECONDS,
        )
        return first

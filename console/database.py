"""A verb's connection to the database, and its errors in one line."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from worker import db
from worker.db import Connection
from worker.errors import RenewdError, ServerUnreachable
from worker.settings import Settings

OUTDATED = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)
LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError, TimeoutError)


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Connection]:
    """A connection to RENEWD_DATABASE_URL.

    Raises `ServerUnreachable` if there is none to be had or it is lost, and `RenewdError` if the
    database was not brought to this version. Print nothing inside.
    """
    conn = await _connect(settings)
    try:
        yield conn
    except LOST as error:
        raise _complaint(error, settings) from error
    finally:
        await conn.close()


async def _connect(settings: Settings) -> "asyncpg.Connection[asyncpg.Record]":
    try:
        return await db.connect(settings, application_name="renewd console")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
        raise _unreachable(error, settings) from error


def _complaint(error: Exception, settings: Settings) -> Exception:
    if isinstance(error, OUTDATED):
        return RenewdError(f"the database is not at this version ({error}): run renewd migrate")
    if isinstance(error, asyncpg.QueryCanceledError):
        seconds = settings.statement_timeout_seconds
        return RenewdError(
            f"RENEWD_STATEMENT_TIMEOUT_SECONDS is {seconds}: should be more for this ({error})"
        )
    return _unreachable(error, settings) if db.is_transient(error) else error


def _unreachable(error: Exception, settings: Settings) -> ServerUnreachable:
    said = str(error).partition("\n")[0] or "no answer in time"
    return ServerUnreachable(
        f"RENEWD_DATABASE_URL is {settings.database_url!r}: "
        f"should be a database that answers ({said})"
    )

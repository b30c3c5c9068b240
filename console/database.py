"""A verb's connection to the database, and its errors in one line."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg

from worker import db
from worker.db import Connection
from worker.errors import RenewdError, ServerUnreachable
from worker.settings import Settings

OUTDATED = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)
AWAY: tuple[type[BaseException], ...] = (
    asyncpg.InvalidAuthorizationSpecificationError,  # a wrong password is one of them
    asyncpg.InvalidCatalogNameError,  # no such database
    *db.TRANSIENT,
)


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Connection]:
    """A connection to RENEWD_DATABASE_URL.

    Raises `ServerUnreachable` if there is none to be had or it is lost, and `RenewdError` if the
    database was not brought to this version. Print nothing inside.
    """
    with answering(settings):
        conn = await db.connect(settings, application_name="renewd console")
        try:
            yield conn
        finally:
            await conn.close()


@contextmanager
def answering(settings: Settings) -> Iterator[None]:
    """Say what is the matter with the database in one line, as `connected` does."""
    try:
        yield
    except OUTDATED as error:
        line = f"the database is not at this version ({error}): run renewd migrate"
        raise RenewdError(line) from error
    except asyncpg.QueryCanceledError as error:
        seconds = settings.statement_timeout_seconds
        line = f"RENEWD_STATEMENT_TIMEOUT_SECONDS is {seconds}: should be more for this ({error})"
        raise RenewdError(line) from error
    except AWAY as error:
        if db.is_data_error(error):
            raise
        said = str(error).partition("\n")[0] or "no answer in time"
        raise ServerUnreachable(
            f"RENEWD_DATABASE_URL is {settings.database_url!r}: "
            f"should be a database that answers ({said})"
        ) from error

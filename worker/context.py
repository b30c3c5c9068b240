"""What every actor is given: settings, database, gateways, mail, and who we are."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from worker import db
from worker.gateways import Gateway, open_gateways
from worker.notices.mailer import Mailer, open_mailer
from worker.seats import Seats
from worker.settings import Settings
from worker.store import control


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """Belongs to one event loop; nothing in it may be used from another thread.

    `mailer` is None without RENEWD_SMTP_URL. `installation_id` is part of every idempotency key.
    """

    settings: Settings
    pool: db.Pool
    gateways: Mapping[str, Gateway]
    mailer: Mailer | None
    installation_id: UUID
    seats: Seats


@asynccontextmanager
async def open_context(
    settings: Settings, *, application_name: str = "renewd worker"
) -> AsyncIterator[WorkerContext]:
    """Open what the actors need, and close it at the end, gateways before the database.

    Raises one of `db.TRANSIENT` while Postgres is away, and `asyncpg.UndefinedTableError` before
    `renewd migrate`.
    """
    async with AsyncExitStack() as stack:
        pool = await db.create_pool(
            settings, size=settings.db_pool_size, application_name=application_name
        )
        stack.push_async_callback(db.close_pool, pool)
        gateways = open_gateways(settings)
        for gateway in gateways.values():
            stack.push_async_callback(gateway.close)
        mailer = open_mailer(settings)
        if mailer is not None:
            stack.push_async_callback(mailer.rest)
        async with pool.acquire() as conn:
            installation_id = await control.read_installation(conn)
        yield WorkerContext(
            settings=settings,
            pool=pool,
            gateways=gateways,
            mailer=mailer,
            installation_id=installation_id,
            seats=Seats(slots=settings.worker_threads, gateways=len(gateways)),
        )

"""What a scheduler does at each tick, with its own connection for claims."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import structlog
from dramatiq.errors import DramatiqError
from pika.exceptions import AMQPError

from scheduler import invariants, sweeps
from scheduler.census import count_subscriptions, take_census
from scheduler.sweeps import SWEEPS, Ringer, Sweep
from worker import db, metrics
from worker.db import Connection
from worker.errors import ServerUnreachable
from worker.settings import Settings
from worker.store import control, pace

_AWAY = (
    ServerUnreachable,
    *db.TRANSIENT,
    asyncpg.UndefinedTableError,
    DramatiqError,
    AMQPError,
)
"""Postgres or RabbitMQ is away, or nobody has migrated the database yet."""

log = structlog.get_logger()


class Line:
    """One connection that one job at a time uses, opened anew when it was lost."""

    def __init__(self, settings: Settings, *, claims: bool) -> None:
        self._settings = settings
        self._claims = claims
        self._conn: Connection | None = None
        self._one_at_a_time = asyncio.Lock()
        self.healthy = False

    async def use(self, what: str, work: Callable[[Connection], Awaitable[None]]) -> None:
        """Do `work`; a server that is away is logged, and the next tick tries again."""
        async with self._one_at_a_time:
            try:
                if self._conn is None or self._conn.is_closed():
                    self._conn = await self._connect()
                await work(self._conn)
                self.healthy = True
            except _AWAY as error:
                self.healthy = False
                reason = f"{type(error).__name__}: {error}".partition("\n")[0]
                log.warning("job_failed", job=what, error=reason)

    async def close(self) -> None:
        """Wait for the job under way and close the connection."""
        async with self._one_at_a_time:
            if self._conn is not None:
                await self._conn.close()
                self._conn = None

    async def _connect(self) -> Connection:
        conn = await db.connect(
            self._settings, application_name="renewd scheduler", claims=self._claims
        )
        gateways = self._settings.gateways
        await pace.declare(conn, {name: g.max_per_second for name, g in gateways.items()})
        return conn


class Jobs:
    """Sweeps on one connection, figures on another, so that counting never delays what is due.

    Each method is safe to call at any time and from any number of schedulers; none raises for a
    server that is away.
    """

    def __init__(self, settings: Settings, ringer: Ringer) -> None:
        self._settings = settings
        self._ringer = ringer
        self._sweeping = Line(settings, claims=True)
        self._counting = Line(settings, claims=False)

    @property
    def healthy(self) -> bool:
        """Whether the last sweep found its servers."""
        return self._sweeping.healthy

    async def sweep(self, sweep: Sweep) -> int:
        """One round of one sweep; returns how many rows it claimed."""
        claimed = 0

        async def work(conn: Connection) -> None:
            nonlocal claimed
            claimed = await sweeps.run_sweep(conn, self._ringer, self._settings, sweep)

        await self._sweeping.use(f"sweep {sweep.name}", work)
        return claimed

    async def sweep_all(self) -> int:
        """One round of every sweep, in the order of the table."""
        return sum([await self.sweep(sweep) for sweep in SWEEPS])

    async def census(self) -> None:
        """Set the gauges of what is open, due or waiting."""
        await self._counting.use("census", take_census)

    async def survey(self) -> None:
        """Count what exists, and check the invariants that are watched all the time."""
        await self._counting.use("survey", _survey)

    async def close(self) -> None:
        """Close both connections."""
        await self._sweeping.close()
        await self._counting.close()


async def _survey(conn: Connection) -> None:
    await count_subscriptions(conn)
    verdicts = await invariants.watch(conn, now=await control.read_now(conn))
    metrics.set_all(metrics.INVARIANT_ROWS, {v.name: v.rows for v in verdicts})
    for verdict in verdicts:
        if not verdict.ok:
            log.error("invariant_broken", invariant=verdict.name, rows=verdict.rows)

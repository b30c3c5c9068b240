"""The process `renewd platform`: messages in and messages out, on one event loop, until a signal."""

import asyncio
import signal
import threading
from contextlib import AsyncExitStack, ExitStack

import asyncpg
import structlog
import uvloop

from billing.messages import SLOTS
from worker import db, metrics
from worker.context import WorkerContext, open_context
from worker.errors import RenewdError
from worker.health import start_health
from worker.limit_chain import check_limits
from worker.logs import configure_logging
from worker.platform.intake import Intake
from worker.platform.relay import Relay, first_error, sleep_or_stop
from worker.process import timely_stop
from worker.settings import Settings
from worker.store import relay as outbox

OPEN_SECONDS = 1
"""Time between two tries to open the database, at the start only."""

UNREADY: tuple[type[BaseException], ...] = (asyncpg.UndefinedTableError, *db.TRANSIENT)
"""Postgres is away, or `renewd migrate` has yet to run."""

AGE_SECONDS = 5
ANSWER_SECONDS = 1

log = structlog.get_logger()


def run_platform(settings: Settings) -> int:
    """Take messages in and send messages out until SIGTERM or SIGINT; return the exit code.

    Call it from the main thread. Servers that are away are waited for, at the start and later. Raises
    `SettingsError` for settings that break the chain of limits or name no port to listen on, and
    `TopologyError` for an exchange or queue that is there with other arguments.
    """
    configure_logging(format=settings.log_format, level=settings.log_level, process="platform")
    check_limits(settings)
    metrics.show_build()
    try:
        uvloop.run(_run(settings))
    except* RenewdError as errors:
        raise first_error(errors) from None
    return 0


async def _run(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    health = start_health(
        settings.metrics_port_of("platform"),
        settings.metrics_host,
        process="platform",
        registry=metrics.REGISTRY,
        is_healthy=lambda: _answers(loop),
    )
    with ExitStack() as leaving:
        leaving.callback(health.close)
        async with AsyncExitStack() as stack:
            context = await _open(stack, settings, stop)
            if context is not None:
                await _work(settings, context, stop, leaving)


async def _work(
    settings: Settings, context: WorkerContext, stop: asyncio.Event, leaving: ExitStack
) -> None:
    """Run both directions; from `stop` on, `leaving` watches that the end comes in time."""
    async with asyncio.TaskGroup() as group:
        group.create_task(Intake(settings, context).run(stop))
        group.create_task(Relay(settings).run(stop))
        group.create_task(_measure_for_ever(context.pool, stop))
        log.info("platform_started")
        await stop.wait()
        leaving.enter_context(timely_stop())


async def _open(
    stack: AsyncExitStack, settings: Settings, stop: asyncio.Event
) -> WorkerContext | None:
    """The context once the database answers; None if `stop` came first."""
    while not stop.is_set():
        try:
            return await stack.enter_async_context(
                open_context(settings, application_name="renewd platform")
            )
        except UNREADY as error:
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            log.warning("database_awaited", reason=reason, wait_seconds=OPEN_SECONDS)
            await sleep_or_stop(OPEN_SECONDS, stop)
    return None


async def _measure_for_ever(pool: db.Pool, stop: asyncio.Event) -> None:
    """Keep the age of the outbox known, the more so while nothing can be published."""
    every_slot = list(range(SLOTS))
    while not stop.is_set():
        try:
            async with pool.acquire() as conn:
                age = await outbox.read_age_seconds(conn, every_slot)
            metrics.OUTBOX_AGE_SECONDS.set(age)
        except db.TRANSIENT as error:
            log.debug("outbox_unmeasured", error=type(error).__name__)
        await sleep_or_stop(AGE_SECONDS, stop)


def _answers(loop: asyncio.AbstractEventLoop) -> bool:
    answered = threading.Event()
    loop.call_soon_threadsafe(answered.set)
    return answered.wait(ANSWER_SECONDS)

"""A Dramatiq `Worker` inside our own process, with its event loop and the context of its actors.

Embedded, because the `dramatiq` command hangs when SIGTERM reaches the process group (5 of 6 stops
with async actors), forks, and needs metrics files per process.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import asyncpg
import structlog
from dramatiq import Broker, Middleware, Worker
from dramatiq.asyncio import async_to_sync, get_event_loop_thread
from dramatiq.middleware import MiddlewareError

from worker import limits
from worker.actors import Actors, declare_actors
from worker.context import WorkerContext

POLL_MS = 1000
"""How often an idle thread looks whether it should end: the price is CPU, the gain a quick stop."""

JOIN_MS = limits.ACTOR_TIME_LIMIT_SECONDS * 1000 + 500
"""How long a stop waits for actors; their own time limit ends before."""

DATABASE_WAIT_SECONDS = 2.0
ANSWER_SECONDS = 1.0

_AWAITED = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, LookupError)
"""Postgres is away, starting, not migrated yet, or does not know us yet."""

log = structlog.get_logger()

ContextOpener = Callable[[], AbstractAsyncContextManager[WorkerContext]]


class BootStoppedError(MiddlewareError):
    """The context was not opened; Dramatiq swallows every other error of a middleware's hook."""


class OpenContext(Middleware):
    """Opens the context in the event loop before the worker boots, and closes it after the worker.

    Must come after the middleware that starts the loop. A database that is away is waited for.
    """

    def __init__(self, open_context: ContextOpener, stopping: threading.Event) -> None:
        self._open_context = open_context
        self._stopping = stopping
        self._opened = AsyncExitStack()
        self.context: WorkerContext | None = None
        self.actors: Actors | None = None

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Open it and declare the actors that use it."""
        try:
            self.context = self._wait_for_context()
            self.actors = declare_actors(broker, self.context)
        except MiddlewareError:
            raise
        except Exception as error:
            raise BootStoppedError("the worker cannot start") from error

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Close it while the loop still runs."""
        async_to_sync(self._opened.aclose)()

    def _wait_for_context(self) -> WorkerContext:
        while True:
            try:
                return async_to_sync(self._enter)()
            except _AWAITED as error:
                reason = f"{type(error).__name__}: {error}".partition("\n")[0]
                log.warning("database_awaited", error=reason, wait_seconds=DATABASE_WAIT_SECONDS)
            if self._stopping.wait(DATABASE_WAIT_SECONDS):
                raise BootStoppedError("stopped while waiting for the database")

    async def _enter(self) -> WorkerContext:
        return await self._opened.enter_async_context(self._open_context())


class EmbeddedWorker:
    """Starts and stops once; `actors` and `context` are there in between."""

    def __init__(
        self,
        broker: Broker,
        open_context: ContextOpener,
        *,
        threads: int,
        stopping: threading.Event | None = None,
    ) -> None:
        self._broker = broker
        self._boot = OpenContext(open_context, stopping or threading.Event())
        broker.add_middleware(self._boot)
        self._worker = Worker(broker, worker_threads=threads, worker_timeout=POLL_MS)

    @property
    def context(self) -> WorkerContext:
        """The context of the actors; use it in their event loop only."""
        assert self._boot.context is not None, "the worker has not started"
        return self._boot.context

    @property
    def actors(self) -> Actors:
        """The actors of this worker's broker."""
        assert self._boot.actors is not None, "the worker has not started"
        return self._boot.actors

    def start(self) -> bool:
        """Wait for the database, then consume; False if it was told to stop meanwhile.

        Raises what kept the context from being opened, if waiting does not help.
        """
        # Dramatiq's command line would do this; it starts the thread of the time limits.
        self._broker.emit_after("process_boot")
        try:
            self._worker.start()
        except BootStoppedError as stopped:
            self._broker.emit_after("worker_shutdown", self._worker)
            if stopped.__cause__ is not None:
                raise stopped.__cause__ from None
            return False
        return True

    def stop(self) -> None:
        """Let running actors end, give back what was prefetched, close the context and the loop."""
        self._worker.stop(timeout=JOIN_MS)
        self._broker.close()

    def is_healthy(self) -> bool:
        """Whether the actors have their context, all threads live and the loop answers in time."""
        threads = [*self._worker.workers, *self._worker.consumers.values()]
        booted = self._boot.actors is not None and bool(threads)
        return booted and all(thread.is_alive() for thread in threads) and _loop_answers()


def _loop_answers() -> bool:
    loop_thread = get_event_loop_thread()
    if loop_thread is None or not loop_thread.loop.is_running():
        return False
    answered = threading.Event()
    loop_thread.loop.call_soon_threadsafe(answered.set)
    return answered.wait(ANSWER_SECONDS)

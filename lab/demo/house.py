"""Everything of renewd in one process: worker, scheduler jobs, intake and outbox, and a sandbox gateway.

What is missing is RabbitMQ: doorbells go over Dramatiq's StubBroker, platform messages straight into
the intake's `apply_batch`, and messages out into memory. All the rest is what runs in production.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from dramatiq.brokers.stub import StubBroker

from lab.demo.catalog import GATEWAY
from lab.demo.mailbox import Mailbox
from lab.demo.told import Told
from lab.sandbox import RunningSandbox, SandboxConfig, serve
from lab.stepping import OnStep, WakeAt, advance, sweep_free
from scheduler.jobs import Jobs
from scheduler.store.due import OpenWork
from scheduler.sweeps import Ringer
from worker import db
from worker.broker import QUEUES, make_stub_broker
from worker.context import WorkerContext, open_context
from worker.db import Connection
from worker.embedded import EmbeddedWorker
from worker.limit_chain import check_limits
from worker.notices.mailer import Mailer
from worker.platform.batches import Delivery, apply_batch
from worker.settings import Settings, isolated_settings
from worker.store import control
from worker.store.inbox import Clock

API_KEY = "sk_test_demo"
DELIVERIES = 500
"""Platform messages per transaction: nothing else waits for the intake here."""

ANSWER_SECONDS = 0.001
CLAIMED_SECONDS = 0.02
"""Between two looks: at doorbells in memory, and at rows that somebody still holds."""


class InlineRinger(Ringer):
    """Rings from the loop itself: a broker in memory blocks nobody."""

    async def _run(self, call: Callable[..., Any], *arguments: object) -> Any:
        return call(*arguments)


@dataclass(frozen=True, slots=True)
class House:
    """A running renewd on a database of its own; belongs to the loop that opened it."""

    settings: Settings
    conn: Connection
    context: WorkerContext
    sandbox: RunningSandbox
    broker: StubBroker
    worker: EmbeddedWorker
    jobs: Jobs
    mailbox: Mailbox
    told: Told

    async def advance(
        self,
        target: datetime,
        *,
        jump: bool = False,
        coalesce: timedelta | None = None,
        on_step: OnStep | None = None,
        wake_at: WakeAt | None = None,
    ) -> int:
        """Move the clock of everything to `target`; the steps it took."""
        return await advance(
            self.conn,
            target=target,
            gateways=self.context.gateways,
            pump=self.pump,
            jump=jump,
            coalesce=coalesce,
            on_step=on_step,
            wake_at=wake_at,
        )

    async def pump(self, work: Sequence[OpenWork]) -> None:
        """Ring for what is due, and wait until the doorbells are answered."""
        if not await sweep_free(self.jobs, work):
            await asyncio.sleep(CLAIMED_SECONDS)
        # The queues of a broker in memory belong to threads; none of them tells a loop anything.
        while any(self.broker.queues[name].unfinished_tasks for name in QUEUES):  # noqa: ASYNC110
            await asyncio.sleep(ANSWER_SECONDS)

    async def deliver(self, bodies: Iterable[bytes], *, now: datetime) -> None:
        """Platform messages, taken in as from the queue."""
        deliveries = [Delivery(body) for body in bodies]
        for n in range(0, len(deliveries), DELIVERIES):
            clock = Clock(now, is_real=False)
            await apply_batch(self.context, deliveries[n : n + DELIVERIES], clock=clock)

    async def set_clock(self, now: datetime) -> None:
        """Where the clock stands before anything has begun."""
        self.sandbox.set_clock(now)
        async with self.conn.transaction():
            await control.lock_exclusive(self.conn)
            await control.set_clock(self.conn, now)


@asynccontextmanager
async def open_house(database_url: str, *, seed: int, **settings: Any) -> AsyncIterator[House]:
    """Start everything on an empty database of this version, and end it in order."""
    async with AsyncExitStack() as stack:
        config = SandboxConfig(api_key=API_KEY, seed=seed, page_size=1000)
        sandbox = await serve(config)
        stack.push_async_callback(sandbox.close)
        made = demo_settings(database_url, sandbox.url, **settings)
        conn = await db.connect(made, application_name="renewd demo")
        stack.push_async_callback(conn.close)
        context = await stack.enter_async_context(
            open_context(made, application_name="renewd platform")
        )
        mailbox = Mailbox()
        broker = make_stub_broker()
        worker = EmbeddedWorker(
            broker, lambda: _open_with(made, mailbox), threads=made.worker_threads
        )
        await asyncio.to_thread(worker.start)
        stack.push_async_callback(asyncio.to_thread, worker.stop)
        jobs = Jobs(made, InlineRinger(broker, worker.actors))
        stack.push_async_callback(jobs.close)
        yield House(made, conn, context, sandbox, broker, worker, jobs, mailbox, Told(conn))


def demo_settings(database_url: str, gateway_url: str, **settings: Any) -> Settings:
    """Settings of nobody's environment: one sandbox gateway, and waits that fit one process."""
    gateway = {
        "adapter": "sandbox",
        "base_url": gateway_url,
        "api_key": API_KEY,
        "max_per_second": 100_000,
    }
    made = isolated_settings(
        database_url=database_url,
        gateways={GATEWAY: gateway},
        **{"worker_threads": 4, "db_pool_size": 6, "settle_interval_ms": 5, **settings},
    )
    check_limits(made)
    return made


@asynccontextmanager
async def _open_with(settings: Settings, mailbox: Mailbox) -> AsyncIterator[WorkerContext]:
    """The context of the actors, with a mailbox for a mail server."""
    async with open_context(settings) as context:
        yield replace(context, mailer=Mailer(mailbox))

"""A small platform for tests: rows as intake leaves them, a real sandbox gateway, a clock to move.

Only legal rows can be built here; what a test wants to break, it breaks itself with an UPDATE.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from billing.events import PlatformEvent, parse
from lab.sandbox import Fault, FaultPlan, RunningSandbox, SandboxFaults
from scheduler import invariants
from tests import platform_events as shop
from tests.world_rows import (
    ASK,
    METHOD,
    OVER_THEIR_WINDOW,
    PARTIES,
    PLAN,
    POINT,
    PRICE,
    SUBSCRIPTION,
)
from worker import reconciliation, renewals, retries
from worker.context import WorkerContext
from worker.db import Connection, Pool
from worker.gateways import open_gateways
from worker.ledger_import import import_ledgers
from worker.platform.rounds import Item, play
from worker.seats import Seats
from worker.settings import isolated_settings
from worker.store import control, hints, inbox, pace

START = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
GATEWAY = "sandbox"
API_KEY = "sk_test_world"


@dataclass
class World:
    """One seller, one plan per price, one customer, and as many subscriptions as a test asks for."""

    pool: Pool
    sandbox: RunningSandbox
    context: WorkerContext
    plans: set[str] = field(default_factory=set)

    @classmethod
    async def create(cls, pool: Pool, sandbox: RunningSandbox, **settings: Any) -> "World":
        """A world whose clock stands at `START`."""
        gateway = {
            "adapter": "sandbox",
            "base_url": sandbox.url,
            "api_key": API_KEY,
            "max_per_second": 100_000,
            **settings.pop("gateway", {}),
        }
        made = isolated_settings(gateways={GATEWAY: gateway}, **settings)
        async with pool.acquire() as conn:
            installation_id = await control.read_installation(conn)
            await pace.declare(conn, {GATEWAY: made.gateways[GATEWAY].max_per_second})
        context = WorkerContext(
            settings=made,
            pool=pool,
            gateways=open_gateways(made),
            mailer=None,
            installation_id=installation_id,
            seats=Seats(slots=made.worker_threads, gateways=1),
        )
        world = cls(pool, sandbox, context)
        await world.set_now(START)
        return world

    async def close(self) -> None:
        for gateway in self.context.gateways.values():
            await gateway.close()

    async def set_now(self, now: datetime) -> None:
        """Move business time, the gateway's included."""
        async with self.pool.acquire() as conn, conn.transaction():
            await control.lock_exclusive(conn)
            await control.set_clock(conn, now)
        self.sandbox.set_clock(now)

    @staticmethod
    async def furnish(conn: Connection) -> None:
        """One seller, customer, card and plan, for tests that make their own crowds."""
        async with conn.transaction():
            await conn.execute(PARTIES)
            await conn.execute(METHOD, "pm_one", "tok_ok_1", START)
            await conn.execute(PLAN, "plan_1", {}, 1, "hold", None, None)
            await conn.execute(PRICE, "plan_1", 4900)

    async def plan(
        self,
        *,
        amount_minor: int = 4900,
        retry_policy: dict[str, Any] | None = None,
        catch_up: int = 1,
        while_past_due: str = "hold",
        ceiling_minor: int | None = None,
        cycles: int | None = None,
    ) -> str:
        """A monthly plan in USD."""
        plan_id = f"plan_{len(self.plans) + 1}"
        policy = retry_policy or {}
        async with self.pool.acquire() as conn, conn.transaction():
            await conn.execute(PARTIES)
            await conn.execute(
                PLAN, plan_id, policy, catch_up, while_past_due, ceiling_minor, cycles
            )
            await conn.execute(PRICE, plan_id, amount_minor)
        self.plans.add(plan_id)
        return plan_id

    async def subscribe(
        self,
        token: str = "tok_ok_1",
        *,
        plan: str | None = None,
        status: str = "active",
        due: datetime = START,
        name: str | None = None,
    ) -> str:
        """A subscription paid through `due`, its first renewal; `pending` ones were never paid."""
        plan_id = plan or (await self.plan() if not self.plans else min(self.plans))
        id_ = name or f"sub_{token}_{await self.value('SELECT count(*) FROM subscription')}"
        paid = status != "pending"
        async with self.pool.acquire() as conn, conn.transaction():
            await conn.execute(METHOD, f"pm_{id_}", token, START)
            await conn.execute(
                SUBSCRIPTION,
                id_,
                plan_id,
                f"pm_{id_}",
                status,
                due.replace(tzinfo=None),
                due.day,
                due - timedelta(days=31) if paid else None,
                due if paid else None,
                due,
            )
        return id_

    async def new_card(self, subscription_id: str, token: str) -> UUID:
        """The customer gives another card: its open invoice is to be attempted at once with it."""
        card = f"pm_{subscription_id}_{token}"
        await self.execute(METHOD, card, token, START)
        await self.execute(POINT, subscription_id, card)
        return await self.ask(subscription_id, "new_card")

    async def ask(self, subscription_id: str, source: str) -> UUID:
        """Somebody wants an attempt at once; one that is under way is looked at first."""
        now = await self.now()
        async with self.pool.acquire() as conn, conn.transaction():
            invoice_id: UUID = await conn.fetchval(ASK, subscription_id, source, now)
            traces = await hints.read_unsettled(conn, [invoice_id])
            found = [(trace.invoice_id, trace.ordinal) for trace in traces.values()]
            await hints.look_again(conn, found, now=now)
        return invoice_id

    async def cancel(self, *ids: str) -> None:
        """End these subscriptions now, as their customers wish."""
        async with self.pool.acquire() as conn, conn.transaction():
            await cancel_in(conn, *ids)

    async def pause(self, scope: str = "global", scope_id: str = "") -> None:
        """Turn a kill switch on."""
        async with self.pool.acquire() as conn, conn.transaction():
            await control.pause(conn, scope=scope, scope_id=scope_id, reason="test", who="me")

    async def resume(self, scope: str = "global", scope_id: str = "") -> None:
        """Turn a kill switch off."""
        async with self.pool.acquire() as conn, conn.transaction():
            await control.resume(conn, scope=scope, scope_id=scope_id, reason="test", who="me")

    def break_gateway(self, *faults: Fault, **settings: Any) -> None:
        """From now on every charge meets one of these faults."""
        rates = {fault: 1 / len(faults) for fault in faults}
        self.sandbox.set_faults(FaultPlan(faults=SandboxFaults(rates=rates, **settings)))

    def heal_gateway(self) -> None:
        """From now on nothing goes wrong at the gateway."""
        self.sandbox.set_faults(FaultPlan())

    async def renew(self, *ids: str) -> None:
        """Ring the renewal of these subscriptions."""
        await renewals.renew(self.context, gateway=GATEWAY, ids=list(ids))

    async def collect(self, *invoice_ids: UUID) -> None:
        """Ring a retry of these invoices."""
        await retries.collect(
            self.context, gateway=GATEWAY, ids=[str(invoice_id) for invoice_id in invoice_ids]
        )

    async def reconcile(self) -> int:
        """Machine time passes, and every unsettled attempt that is due is looked at, once."""
        due = await self.fetch(OVER_THEIR_WINDOW, await self.now())
        ids = [row["subject"] for row in due]
        await reconciliation.reconcile(self.context, gateway=GATEWAY, ids=ids)
        return len(ids)

    async def walk(self, *, until: datetime | None = None) -> None:
        """Let time pass from look to look until no attempt waits for one, or until an instant."""
        for _ in range(400):
            due = await self.value("SELECT min(check_due_at) FROM attempt")
            now = await self.now()
            if due is None or (until is not None and max(due, now) > until):
                return
            # What is due again at once was asked to wait in machine time.
            await self.set_now(max(due, now + timedelta(seconds=30)))
            await self.reconcile()
        raise AssertionError("something is looked at for ever")

    async def collect_due(self) -> None:
        """Ring every invoice that has an attempt due now."""
        due = await self.fetch(
            "SELECT invoice_id FROM invoice WHERE attempt_due_at <= $1", await self.now()
        )
        await self.collect(*(row["invoice_id"] for row in due))

    async def now(self) -> datetime:
        """Business time."""
        async with self.pool.acquire() as conn:
            return await control.read_now(conn)

    async def execute(self, statement: str, *arguments: object) -> None:
        async with self.pool.acquire() as conn:
            await conn.execute(statement, *arguments)

    async def fetch(self, statement: str, *arguments: object) -> list[dict[str, Any]]:
        async with self.pool.acquire() as conn:
            return [dict(row) for row in await conn.fetch(statement, *arguments)]

    async def value(self, statement: str, *arguments: object) -> Any:
        async with self.pool.acquire() as conn:
            return await conn.fetchval(statement, *arguments)

    async def row(self, table: str, **where: object) -> dict[str, Any]:
        """The one row of a table with these values."""
        named = " AND ".join(f"{name} = ${n}" for n, name in enumerate(where, 1)) or "true"
        rows = await self.fetch(f"SELECT * FROM {table} WHERE {named}", *where.values())
        assert len(rows) == 1, rows
        return rows[0]

    async def told(self, subscription_id: str) -> list[str]:
        """The types of the messages about a subscription, in order, without their prefix."""
        rows = await self.fetch(
            "SELECT type FROM outbox_event WHERE subscription_id = $1 ORDER BY sequence",
            subscription_id,
        )
        return [row["type"].removeprefix("billing.") for row in rows]

    def taken(self) -> dict[str, int]:
        """How often each invoice was charged, by the gateway's own books."""
        charges = self.sandbox.charges()
        return Counter(c["reference"] for c in charges if c["status"] == "succeeded")

    async def broken(self, *, with_ledger: bool = False) -> list[str]:
        """The invariants that do not hold now; with those of the ledger, which is imported first."""
        async with self.pool.acquire() as conn:
            now = await control.read_now(conn)
            if with_ledger:
                await import_ledgers(conn, self.context.gateways, now=now)
            verdicts = await invariants.check(conn, now=now, with_ledger=with_ledger)
        return [f"{verdict.name}: {verdict.sample}" for verdict in verdicts if not verdict.ok]


async def cancel_in(conn: Connection, *ids: str) -> None:
    """Apply the messages that end these subscriptions now, in the caller's transaction."""
    await inbox.lock(conn)
    clock = await inbox.read_clock(conn)
    events = [
        parse(shop.cancel(id_, at=clock.now), now=clock.now, clock_is_real=False) for id_ in ids
    ]
    items = [Item(event) for event in events if isinstance(event, PlatformEvent)]
    assert len(items) == len(ids), events
    await play(conn, items, clock=clock, found_keys={})

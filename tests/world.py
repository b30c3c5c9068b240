"""A small platform for tests: rows as intake leaves them, a real sandbox gateway, a clock to move.

Only legal rows can be built here; what a test wants to break, it breaks itself with an UPDATE.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from lab.sandbox import RunningSandbox
from scheduler import invariants
from worker import renewals, retries
from worker.context import WorkerContext
from worker.db import Pool
from worker.gateways import open_gateways
from worker.seats import Seats
from worker.settings import isolated_settings
from worker.store import control, pace

START = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
GATEWAY = "sandbox"
API_KEY = "sk_test_world"

ENTITIES = """
WITH a AS (INSERT INTO seller (seller_id, name) VALUES ('sel_1', 'Chess School')),
b AS (INSERT INTO customer (customer_id, email) VALUES ('cus_1', 'ada@example.com'))
INSERT INTO plan (plan_id, seller_id, product_id, name, interval_unit, interval_count, currency,
                  price_version, retry_policy, catch_up_periods, while_past_due, ceiling_minor,
                  cycles)
VALUES ($1, 'sel_1', 'prod_1', 'Monthly', 'month', 1, 'USD', 1, $2, $3, $4, $5, $6)
"""
PRICE = """
INSERT INTO price_version (plan_id, version, model, currency, unit_amount_minor)
VALUES ($1, 1, 'flat', 'USD', $2)
"""
METHOD = """
INSERT INTO payment_method (payment_method_id, customer_id, gateway, token, kind, attached_at)
VALUES ($1, 'cus_1', 'sandbox', $2, 'card', $3)
"""
SUBSCRIPTION = """
INSERT INTO subscription (subscription_id, seller_id, customer_id, plan_id, price_version,
                          payment_method_id, gateway, status, zone, anchor_local, anchor_day,
                          current_period_start, current_period_end, next_renewal_at, created_at)
VALUES ($1, 'sel_1', 'cus_1', $2, 1, $3, 'sandbox', $4, 'UTC', $5, $6, $7, $8, $9, $7)
"""


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
        async with self.pool.acquire() as conn, conn.transaction():
            if not self.plans:
                await conn.execute(
                    ENTITIES,
                    plan_id,
                    retry_policy or {},
                    catch_up,
                    while_past_due,
                    ceiling_minor,
                    cycles,
                )
            else:
                await conn.execute(
                    ENTITIES[ENTITIES.index("INSERT INTO plan") :],
                    plan_id,
                    retry_policy or {},
                    catch_up,
                    while_past_due,
                    ceiling_minor,
                    cycles,
                )
            await conn.execute(PRICE, plan_id, amount_minor)
        self.plans.add(plan_id)
        return plan_id

    async def subscribe(
        self,
        token: str = "tok_ok_1",  # noqa: S107 - a token of the sandbox
        *,
        plan: str | None = None,
        status: str = "active",
        due: datetime = START,
        name: str | None = None,
    ) -> str:
        """A subscription paid through `due`, its first renewal; `pending` ones were never paid."""
        plan_id = plan or (await self.plan() if not self.plans else min(self.plans))
        id_ = name or f"sub_{token}_{await self.value('SELECT count(*) FROM subscription')}"
        paid = None if status == "pending" else due - timedelta(days=31)
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
                paid or due,
                None if paid is None else due,
                due,
            ) if paid else await conn.execute(
                SUBSCRIPTION.replace("$7, $8, $9, $7)", "NULL::timestamptz, $8, $9, $7)"),
                id_,
                plan_id,
                f"pm_{id_}",
                status,
                due.replace(tzinfo=None),
                due.day,
                due,
                None,
                due,
            )
        return id_

    async def renew(self, *ids: str) -> None:
        """Ring the renewal of these subscriptions."""
        await renewals.renew(self.context, gateway=GATEWAY, ids=list(ids))

    async def collect(self, *invoice_ids: UUID) -> None:
        """Ring a retry of these invoices."""
        await retries.collect(
            self.context, gateway=GATEWAY, ids=[str(invoice_id) for invoice_id in invoice_ids]
        )

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

    async def broken(self) -> list[str]:
        """The invariants that do not hold now."""
        async with self.pool.acquire() as conn:
            now = await control.read_now(conn)
            verdicts: Sequence[invariants.Verdict] = await invariants.check(conn, now=now)
        return [f"{verdict.name}: {verdict.sample}" for verdict in verdicts if not verdict.ok]
